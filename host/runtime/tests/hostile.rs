//! What a hostile component costs: its own call, its own instance, nothing else.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use sandbar_runtime::test_components as components;
use sandbar_runtime::{Fault, Handler, InitError, Limits};
use support::{call, call_on, host, limits};

/// One call that faults, then another one on a fresh instance.
async fn fault(handler: &Handler) -> Fault {
    let first = call(handler).await.result.unwrap_err();
    assert_eq!((handler.stats().warm, handler.stats().instances), (0, 0), "the instance is gone");
    let second = call(handler).await.result.unwrap_err();
    assert_eq!(first.code(), second.code());
    assert_eq!(handler.stats().faults, [(first.code(), 2)]);
    first
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_time_and_lets_others_run_meanwhile() {
    let host = host();
    let time = Duration::from_millis(200);
    let endless = host.limited(&components::endless_loop(), Limits { time, ..limits() }).await;
    let echo = host.handler(&components::echo()).await;
    // One thread for both: the echo is only called when the loop yields.
    let (looped, echoed) = tokio::join!(call(&endless), async {
        let mut echoed = 0;
        while echoed < 10 {
            call(&echo).await.result.unwrap();
            tokio::task::yield_now().await;
            echoed += 1;
        }
        (echoed, endless.stats().calls)
    });
    assert_eq!(looped.result.unwrap_err(), Fault::TimedOut { limit: time });
    assert!(looped.elapsed >= time && looped.elapsed < Duration::from_secs(10), "{:?}", looped.elapsed);
    assert_eq!(echoed, (10, 0), "the loop still ran when ten others were done");
    assert_eq!(endless.stats().instances, 0);
}

#[tokio::test]
async fn a_wait_ends_with_the_time_of_the_call() {
    let host = host();
    let time = Duration::from_millis(50);
    let handler = host.limited(&components::sleeping(), Limits { time, ..limits() }).await;
    assert_eq!(fault(&handler).await, Fault::TimedOut { limit: time });
}

#[tokio::test]
async fn memory_ends_at_its_limit() {
    let host = host();
    let handler = host.limited(&components::memory_growth(), Limits { memory: 8 << 20, ..limits() }).await;
    assert_eq!(fault(&handler).await, Fault::OutOfMemory { limit: 8 << 20 });
    assert!(handler.stats().memory_peak <= 8 << 20);
}

#[tokio::test]
async fn a_component_that_needs_more_than_its_limit_is_refused() {
    let host = host();
    let settings =
        |memory| sandbar_runtime::Settings { limits: Limits { memory, ..limits() }, ..support::settings() };
    let refused = host.try_handler(&components::echo(), settings(64 << 10)).await.err();
    assert_eq!(refused, Some(InitError::Fault(Fault::OutOfMemory { limit: 64 << 10 })));
    let refused = host.try_handler(&components::echo(), settings(1 << 40)).await.err();
    assert!(matches!(refused, Some(InitError::TooMuchMemory { .. })), "{refused:?}");
}

#[tokio::test]
async fn deep_recursion_is_a_trap_that_names_the_function() {
    let host = host();
    let handler = host.handler(&components::deep_recursion()).await;
    let text = fault(&handler).await.to_string();
    assert!(text.contains("call stack exhausted") && text.contains("deeper"), "{text}");
}

#[tokio::test]
async fn a_trap_names_where_it_came_from() {
    let host = host();
    let handler = host.handler(&components::trap()).await;
    let text = fault(&handler).await.to_string();
    assert!(text.contains("unreachable") && text.contains("give_up"), "{text}");
}

#[tokio::test]
async fn huge_outputs_are_not_even_made() {
    let host = host();
    let handler = host.handler(&components::huge_output()).await;
    assert_eq!(fault(&handler).await.code(), "too_much_output");
}

#[tokio::test]
async fn outputs_are_counted_and_weighed() {
    let host = host();
    let handler = host.limited(&components::echo(), Limits { outputs: 0, ..limits() }).await;
    let text = call(&handler).await.result.unwrap_err().to_string();
    assert_eq!(text, "too much output: 1 outputs, 0 are allowed");
    let handler = host.limited(&components::echo(), Limits { output_bytes: 10, ..limits() }).await;
    assert_eq!(call(&handler).await.result.unwrap_err().code(), "too_much_output");
    assert_eq!(handler.stats().warm, 1, "the instance itself is sound");
}

#[tokio::test]
async fn an_instance_lives_until_it_traps() {
    let host = host();
    let handler = host.handler(&components::trap_every_third()).await;
    for _ in 0..3 {
        for expected in [true, true, false] {
            assert_eq!(call(&handler).await.result.is_ok(), expected);
        }
    }
    let stats = handler.stats();
    assert_eq!((stats.calls, stats.faults), (9, vec![("trap", 3)]));
}

#[tokio::test]
async fn after_a_trap_the_same_instance_is_not_called_again() {
    let host = host();
    let handler = host.handler(&components::trap()).await;
    let mut instance = handler.checkout().await.unwrap();
    call_on(&mut instance).await.result.unwrap_err();
    let text = call_on(&mut instance).await.result.unwrap_err().to_string();
    assert_eq!(text, "trapped: this instance is used up");
}

#[tokio::test]
async fn a_call_that_is_dropped_midway_takes_its_instance_along() {
    let host = host();
    let handler = host.handler(&components::sleeping()).await;
    {
        let mut instance = handler.checkout().await.unwrap();
        let midway = std::pin::pin!(call_on(&mut instance));
        assert!(futures_are_pending(midway).await);
    }
    assert_eq!((handler.stats().warm, handler.stats().instances), (0, 0));
}

async fn futures_are_pending<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn an_instance_that_has_grown_is_not_kept() {
    let host = host();
    let large = sandbar_reading::Reading { payload: vec![0; 3 << 20].into(), ..support::reading() };
    let handler = host.limited(&components::echo(), Limits { memory: 4 << 20, ..limits() }).await;
    let mut instance = handler.checkout().await.unwrap();
    let state = std::sync::Arc::new(support::State::default());
    instance.handle(&large, state, support::NOW, None).await.result.unwrap();
    drop(instance);
    assert_eq!(handler.stats().warm, 0);
    call(&handler).await.result.unwrap();
    assert_eq!(handler.stats().warm, 1);
}

#[tokio::test]
async fn only_so_many_instances_exist_at_a_time() {
    let host = host();
    let handler = host.limited(&components::echo(), Limits { instances: 1, ..limits() }).await;
    let first = handler.checkout().await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(20), handler.checkout()).await;
    assert!(waiting.is_err(), "the second waits");
    drop(first);
    handler.checkout().await.unwrap();
    assert_eq!(handler.stats().instances, 1);
}

/// More handlers than the machine has room for: those that wait for calls make it.
#[tokio::test]
async fn warm_instances_make_room_for_others() {
    let host = host();
    let sandbar_runtime::InstanceMemory::Pooled { memories, .. } = host.runtime.instance_memory() else {
        // Without a pool there is nothing to run out of.
        return;
    };
    let component = host.runtime.load(&components::echo()).unwrap();
    let mut handlers = Vec::new();
    for _ in 0..memories + 10 {
        handlers.push(host.runtime.handler(&component, support::settings()).await.unwrap());
    }
    for handler in &handlers {
        call(handler).await.result.unwrap();
    }
    let mut busy = Vec::new();
    let fault = loop {
        match handlers[busy.len()].checkout().await {
            Ok(instance) => busy.push(instance),
            Err(fault) => break fault,
        }
    };
    assert_eq!((fault.code(), busy.len()), ("no_room", memories as usize));
}
