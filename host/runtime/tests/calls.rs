//! What well-behaved handlers see and do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;

use sandbar_reading::{Attributes, Command, ContentType, Failure, Message, Output, ReadingId, Timestamp};
use sandbar_runtime::test_components as components;
use sandbar_runtime::{
    Fault, Handled, InitError, Limits, LogLevel, Permissions, Settings, StateUnavailable, StateView,
};
use support::{NOW, State, call, host, limits, reading, settings};

#[tokio::test]
async fn a_reading_survives_the_way_in_and_out() {
    let host = host();
    let handler = host.handler(&components::echo()).await;
    let reading = reading();
    let call = call(&handler).await;
    let expected = Message {
        topic: reading.topic,
        device: reading.device,
        content_type: reading.content_type,
        attributes: reading.attributes,
        payload: reading.payload,
    };
    assert_eq!(call.result.unwrap(), Handled { outputs: vec![Output::Message(expected)], writes: vec![] });
}

#[tokio::test]
async fn a_large_reading_fits_too() {
    let host = host();
    let handler = host.handler(&components::echo()).await;
    let reading = sandbar_reading::Reading { payload: vec![7; 2 << 20].into(), ..reading() };
    let mut instance = handler.checkout().await.unwrap();
    let call = instance.handle(&reading, Arc::new(State::default()), NOW, None).await;
    let handled = call.result.unwrap();
    assert!(matches!(&handled.outputs[..], [Output::Message(message)] if message.payload == reading.payload));
}

#[tokio::test]
async fn replies_and_commands_are_completed() {
    let host = host();
    let handler = host.handler(&components::reply_and_command()).await;
    let reply = Message {
        topic: reading().topic,
        device: reading().device,
        content_type: ContentType::TEXT,
        attributes: Attributes::new(),
        payload: "on".into(),
    };
    let command = Command {
        device: "lamp".into(),
        name: "switch".into(),
        content_type: ContentType::TEXT,
        payload: "on".into(),
    };
    let outputs = vec![Output::Reply(reply), Output::Command(command)];
    assert_eq!(call(&handler).await.result.unwrap().outputs, outputs);
}

#[tokio::test]
async fn state_lasts_beyond_the_instance() {
    let host = host();
    let handler = host.handler(&components::counter()).await;
    let state = Arc::new(State::default());
    for count in 1..=3u64 {
        let mut instance = handler.checkout().await.unwrap();
        let call = instance.handle(&reading(), Arc::clone(&state) as Arc<dyn StateView>, NOW, None).await;
        let handled = call.result.unwrap();
        let [Output::Message(message)] = &handled.outputs[..] else { panic!("{handled:?}") };
        assert_eq!(message.payload, count.to_le_bytes().to_vec());
        state.commit(handled.writes);
    }
}

#[tokio::test]
async fn state_that_cannot_be_read_is_not_the_handlers_fault() {
    struct Broken;
    impl StateView for Broken {
        fn get(&self, _: &str, _: Timestamp) -> Result<Option<bytes::Bytes>, StateUnavailable> {
            Err(std::io::Error::other("the disk fails"))?
        }
        fn names(&self, _: &str, _: Timestamp) -> Result<Vec<Box<str>>, StateUnavailable> {
            Ok(vec![])
        }
        fn used(&self, _: Timestamp) -> Result<usize, StateUnavailable> {
            Ok(0)
        }
    }
    let host = host();
    let handler = host.handler(&components::counter()).await;
    let call = handler.checkout().await.unwrap().handle(&reading(), Arc::new(Broken), NOW, None).await;
    let fault = call.result.unwrap_err();
    assert_eq!(fault, Fault::StateUnavailable("the disk fails".into()));
    assert!(!fault.is_the_handlers());
}

#[tokio::test]
async fn a_handlers_own_failures_keep_its_instance() {
    let host = host();
    for (wasm, failure) in [
        (components::reject(), Failure::Reject("no such sensor".into())),
        (components::retry(), Failure::Retry("not yet".into())),
    ] {
        let handler = host.handler(&wasm).await;
        assert_eq!(call(&handler).await.result.unwrap_err(), Fault::Failure(failure));
        assert_eq!(handler.stats().warm, 1);
    }
}

#[tokio::test]
async fn an_invalid_output_names_its_field() {
    let host = host();
    let handler = host.handler(&components::wildcard_topic()).await;
    let fault = call(&handler).await.result.unwrap_err();
    assert_eq!(fault.to_string(), "output 0: topic: a topic cannot contain '#' (at byte 2)");
}

#[tokio::test]
async fn configuration_is_refused_by_the_handler_or_seen_by_it() {
    let host = host();
    let refused = host.try_handler(&components::greeting(), settings()).await.err();
    assert_eq!(refused, Some(InitError::Refused("set `greeting`".into())));
    let config = [("greeting".to_owned(), "grüezi".to_owned())].into();
    let handler = host.try_handler(&components::greeting(), Settings { config, ..settings() }).await.unwrap();
    let handled = call(&handler).await.result.unwrap();
    assert!(matches!(&handled.outputs[..], [Output::Message(message)] if message.payload == "grüezi"));
}

#[tokio::test]
async fn what_a_failing_init_said_is_told() {
    let host = host();
    let Err(error) = host.try_handler(&components::failing_init(), settings()).await else {
        panic!("accepted")
    };
    let text = error.to_string();
    assert!(text.starts_with("trapped: ") && text.ends_with("\nno such table"), "{text}");
}

#[tokio::test]
async fn log_lines_are_bounded_and_outlive_a_trap() {
    let host = host();
    let handler = host.limited(&components::talkative(), Limits { log_lines: 2, ..limits() }).await;
    let call = call(&handler).await;
    assert_eq!(call.result.unwrap_err().code(), "trap");
    let lines: Vec<_> = call.logs.iter().map(|line| (line.level, &*line.context, &*line.message)).collect();
    let expected = [
        (LogLevel::Warn, "part", "over and over"),
        (LogLevel::Warn, "part", "over and over"),
        (LogLevel::Warn, "sandbar", "998 more lines of this call were dropped"),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn what_is_printed_is_logged() {
    let host = host();
    let handler = host.handler(&components::printing()).await;
    for _ in 0..2 {
        let call = call(&handler).await;
        call.result.unwrap();
        let lines: Vec<_> = call.logs.iter().map(|line| (&*line.context, &*line.message)).collect();
        assert_eq!(lines, [("stdout", "one line"), ("stdout", "and half a")]);
    }
}

#[tokio::test]
async fn time_and_chance_come_from_the_reading_unless_permitted() {
    let host = host();
    let given = host.handler(&components::time_and_chance()).await;
    let first = look(&given, reading().id).await;
    let mut expected = 1_700_000_000u64.to_le_bytes().to_vec();
    expected.extend(1u32.to_le_bytes());
    assert_eq!(first[..12], expected);
    assert_eq!(look(&given, reading().id).await, first, "every attempt sees the same");
    let other = look(&given, ReadingId::from_u128(7)).await;
    assert_ne!(other[16..24], first[16..24], "another reading, other numbers");

    let permissions = Permissions { clock: true, random: true, ..Permissions::default() };
    let real = Settings { permissions, ..settings() };
    let real = host.try_handler(&components::time_and_chance(), real).await.unwrap();
    let (first, second) = (look(&real, reading().id).await, look(&real, reading().id).await);
    assert_ne!(first[..12], expected);
    assert_ne!(first[16..24], second[16..24]);
}

async fn look(handler: &sandbar_runtime::Handler, id: ReadingId) -> Vec<u8> {
    let reading = sandbar_reading::Reading { id, ..reading() };
    let mut instance = handler.checkout().await.unwrap();
    let call = instance.handle(&reading, Arc::new(State::default()), NOW, None).await;
    let handled = call.result.unwrap();
    let [Output::Message(message)] = &handled.outputs[..] else { panic!("{handled:?}") };
    message.payload.to_vec()
}
