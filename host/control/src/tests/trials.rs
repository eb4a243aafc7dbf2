//! Versions on trial, tries, replays, and what is told of readings.

use bytes::Bytes;
use sandbar_reading::{Name, Output, ReadingId, Timestamp};
use sandbar_runtime::{LogLevel, test_components};
use sandbar_store::{Part, TracedEnd};

use super::{Host, name, until};
use crate::{
    ControlError, LogQuery, NewReplay, OnTrial, Replay, ReplayOf, ReplayState, Trial, TrialMode,
    TriedReading, Try, TryCandidate,
};

fn on_trial(version: u32, mode: TrialMode) -> OnTrial {
    OnTrial { version, mode, errors_percent: 10.0, errors_after: 10, since: Timestamp::default() }
}

/// A host whose route `r` sends what `active` puts out to a file; `candidate` is version 2.
async fn host_with(active: Vec<u8>, candidate: Vec<u8>) -> Host {
    let host = Host::start("").await;
    host.upload("m", active).await;
    host.put_sink("out").await;
    host.put_route("r", "m", "out").await;
    host.control.upload(name("m"), Bytes::from(candidate), false).await.unwrap();
    host
}

async fn send_many(host: &Host, count: usize) -> Vec<String> {
    let mut sent = Vec::new();
    for n in 0..count {
        sent.push(host.send(&format!("d{}", n % 10), "x").await);
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_is_taken_back_by_itself_and_nothing_is_lost() {
    let host = host_with(test_components::echo(), test_components::trap()).await;
    let canary = on_trial(2, TrialMode::Canary { percent: 50.0 });
    host.control.put_candidate(name("m"), canary).await.unwrap();
    let sent = send_many(&host, 200).await;
    host.settled().await;
    let delivered: Vec<_> = host.delivered().iter().map(|line| line["reading"].clone()).collect();
    assert_eq!(delivered.len(), sent.len());
    assert!(sent.iter().all(|id| delivered.iter().any(|line| line == id.as_str())));
    assert_eq!(host.control.status().store.dead_letters, 0);
    until(|| host.control.module("m").unwrap().candidate.is_none()).await;
    let module = host.control.module("m").unwrap();
    assert_eq!((module.active, module.ended.as_ref().map(|ended| ended.version)), (1, Some(2)));
    assert!(module.ended.unwrap().why.contains("failed at"));

    // Also after a restart.
    let host = host.restart("").await;
    assert!(host.control.module("m").unwrap().candidate.is_none());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_handles_its_share_of_the_devices_and_is_promoted() {
    let host = host_with(test_components::nothing(), test_components::echo()).await;
    let canary = on_trial(2, TrialMode::Canary { percent: 100.0 });
    host.control.put_candidate(name("m"), canary).await.unwrap();
    send_many(&host, 10).await;
    host.settled().await;
    assert_eq!(host.delivered().len(), 10);
    let module = host.control.promote(name("m")).await.unwrap();
    assert_eq!((module.active, module.candidate), (2, None));
    let refused = host.control.promote(name("m")).await.unwrap_err();
    assert!(matches!(refused, ControlError::Conflict(_)));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_compared_and_nothing_comes_of_it() {
    let host = host_with(test_components::echo(), test_components::counter()).await;
    host.control.put_candidate(name("m"), on_trial(2, TrialMode::Shadow)).await.unwrap();
    let sent = send_many(&host, 20).await;
    host.settled().await;
    assert_eq!(host.delivered().len(), 20);
    let candidate = host.control.module("m").unwrap().candidate.unwrap();
    let (_, compared) = &candidate.routes[0];
    assert_eq!((compared.calls, compared.same, compared.different), (20, 0, 20));
    assert_eq!(compared.differences.len(), 20);
    let trace = host.control.trace(sent[0].parse().unwrap()).await.unwrap().trace;
    let parts: Vec<_> = trace.handlings[0].calls.iter().map(|call| (call.version, call.part)).collect();
    assert_eq!(parts, [(1, Part::Active), (2, Part::Shadow)]);
    // What it has written is not there: it would count from 1.
    let reading = sandbar_reading::Inbound {
        device: Some("d0".into()),
        ..sandbar_reading::Inbound::new("t".parse().unwrap(), sandbar_reading::ContentType::TEXT, "x".into())
    };
    let version = Some(2);
    let asked = Trial { module: name("m"), version, route: Some(name("r")), config: None, reading };
    let outputs = host.control.invoke(asked).await.unwrap().result.unwrap().outputs;
    let [Output::Message(counted)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(counted.payload, 1_u64.to_le_bytes().to_vec());
    host.control.remove_candidate(name("m")).await.unwrap();
    let module = host.control.module("m").unwrap();
    assert_eq!(module.ended.as_ref().unwrap().why, "by hand");
    assert_eq!([1, 2].map(|version| module.version(version).unwrap().never_active), [false, true]);
    host.stop().await;
}

fn all_of_route(candidate: TryCandidate) -> Try {
    Try {
        route: Some(name("r")),
        topic: None,
        since: None,
        until: None,
        last: 1000,
        dead_letters: false,
        candidate,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_shows_what_differs_and_keeps_nothing() {
    let host = host_with(test_components::echo(), test_components::nothing()).await;
    send_many(&host, 5).await;
    host.settled().await;
    let asked = |candidate| Try { last: 3, ..all_of_route(candidate) };
    let result = host.control.try_out(asked(TryCandidate::Version(2))).await.unwrap();
    assert_eq!((result.readings, result.tried.len()), (3, 3));
    assert!(result.tried.iter().all(|tried| tried.difference.as_deref() == Some("1 outputs became 0")));
    assert!(result.tried.is_sorted_by_key(|tried| tried.reading.id));
    let same = TryCandidate::Wasm { wasm: test_components::echo().into(), signature: None };
    let result = host.control.try_out(asked(same)).await.unwrap();
    assert!(result.tried.iter().all(|tried| tried.difference.is_none()));
    let kept = |tried: &TriedReading| tried.candidate.result.as_ref().unwrap().outputs.len();
    assert_eq!(result.tried.iter().map(kept).sum::<usize>(), 0, "what is the same is not told");
    let trap = TryCandidate::Wasm { wasm: test_components::trap().into(), signature: None };
    let result = host.control.try_out(asked(trap)).await.unwrap();
    assert!(result.tried.iter().all(|tried| tried.candidate.result.is_err()));
    // Each begins with an empty state, and sees its own.
    let counter = TryCandidate::Wasm { wasm: test_components::counter().into(), signature: None };
    host.control.try_out(asked(counter)).await.unwrap();
    assert_eq!(host.delivered().len(), 5);
    host.stop().await;
}

/// The handlers were called with nothing in its stead.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_lost_its_payload_is_not_tried() {
    let host = host_with(test_components::reject(), test_components::nothing()).await;
    for payload in ["x", &"y".repeat(100_000)] {
        host.send("d", payload).await;
    }
    until(|| host.control.status().store.dead_letters == 2).await;
    for file in std::fs::read_dir(host.dir.path().join("sandbar-data/store.payloads")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    for dead_letters in [false, true] {
        let asked = Try { dead_letters, ..all_of_route(TryCandidate::Version(2)) };
        let result = host.control.try_out(asked).await.unwrap();
        let tried: Vec<_> = result.tried.iter().map(|tried| &tried.reading.payload[..]).collect();
        assert_eq!((result.readings, tried), (1, vec![&b"x"[..]]));
    }
    host.stop().await;
}

async fn over(host: &Host, id: &str) -> Replay {
    for _ in 0..6000 {
        let replay = host.control.replay(id).await.unwrap();
        if replay.state != ReplayState::Running {
            return replay;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the replay does not end")
}

fn everything(route: Name) -> NewReplay {
    let of = ReplayOf::Journal {
        since: Timestamp::from_nanos(0),
        until: Timestamp::from_millis(4_000_000_000_000),
        topic: None,
    };
    NewReplay { route, version: None, of, commands: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_puts_out_anew_and_says_so() {
    let host = host_with(test_components::nothing(), test_components::echo()).await;
    let sent = send_many(&host, 150).await;
    host.settled().await;
    let asked = NewReplay { version: Some(2), ..everything(name("r")) };
    let replay = host.control.begin_replay(asked).await.unwrap();
    let done = over(&host, &replay.id).await;
    assert_eq!((done.state, done.handled, done.outputs, done.failed), (ReplayState::Done, 150, 150, 0));
    host.settled().await;
    let lines = host.delivered();
    assert_eq!(lines.len(), 150);
    assert!(lines.iter().all(|line| line["attributes"]["sandbar.replay"] == replay.id.as_str()));
    let mut ids: Vec<_> = lines.iter().map(|line| line["id"].to_string()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 150, "each delivery has an id of its own");
    let trace = host.control.trace(sent[7].parse().unwrap()).await.unwrap().trace;
    assert_eq!(trace.handlings.len(), 2);
    assert_eq!(trace.handlings[1].calls[0].part, Part::Replay);
    assert_eq!(trace.deliveries.len(), 1);
    host.stop().await;
}

/// Once what is accepted next has another millisecond in its id: times of acceptance are no finer there.
async fn next_moment(last: ReadingId) {
    until(|| sandbar_reading::Clock::now(&sandbar_reading::SystemClock).millis() > last.time().millis())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_and_a_try_take_the_readings_of_their_time_range_and_topic_alone() {
    let host = host_with(test_components::nothing(), test_components::echo()).await;
    let mut sent: Vec<ReadingId> = Vec::new();
    for _ in 0..4 {
        let id: ReadingId = host.send("d", "x").await.parse().unwrap();
        next_moment(id).await;
        sent.push(id);
    }
    host.settled().await;
    let (since, until) = (sent[1].time(), sent[3].time());
    for (topic, expected) in [(None, &sent[1..3]), (Some("t"), &sent[1..3]), (Some("u/#"), &[][..])] {
        let asked = Try {
            topic: topic.map(|topic| topic.parse().unwrap()),
            since: Some(since),
            until: Some(until),
            ..all_of_route(TryCandidate::Version(2))
        };
        let tried = host.control.try_out(asked).await.unwrap().tried;
        let tried: Vec<_> = tried.iter().map(|tried| tried.reading.id).collect();
        assert_eq!(tried, expected, "{topic:?}");
        let of = ReplayOf::Journal { since, until, topic: topic.map(str::to_owned) };
        let asked = NewReplay { route: name("r"), version: Some(2), of, commands: false };
        let replay = host.control.begin_replay(asked).await.unwrap();
        assert_eq!(over(&host, &replay.id).await.handled, expected.len() as u64, "{topic:?}");
        host.settled().await;
        let lines = host.delivered();
        let of_it: Vec<_> = lines
            .iter()
            .filter(|line| line["attributes"]["sandbar.replay"] == replay.id.as_str())
            .map(|line| line["reading"].as_str().unwrap().parse::<ReadingId>().unwrap())
            .collect();
        assert_eq!(of_it, expected, "{topic:?}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_replay_goes_on_where_it_was() {
    let mut host = host_with(test_components::nothing(), test_components::echo()).await;
    let sent = send_many(&host, 800).await;
    host.settled().await;
    let asked = NewReplay { version: Some(2), ..everything(name("r")) };
    let replay = host.control.begin_replay(asked).await.unwrap();
    for _ in 0..3 {
        host = host.restart("").await;
        assert_ne!(host.control.replay(&replay.id).await.unwrap().state, ReplayState::Cancelled);
    }
    let done = over(&host, &replay.id).await;
    assert_eq!((done.state, done.handled), (ReplayState::Done, 800));
    host.settled().await;
    let lines = host.delivered();
    let mut readings: Vec<_> = lines.iter().map(|line| line["reading"].as_str().unwrap()).collect();
    readings.sort_unstable();
    readings.dedup();
    assert_eq!((lines.len(), readings.len()), (sent.len(), sent.len()), "each once");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_replayed_and_are_none_any_more() {
    let host = host_with(test_components::reject(), test_components::echo()).await;
    let sent = send_many(&host, 5).await;
    until(|| host.control.status().store.dead_letters == 5).await;
    let trace = host.control.trace(sent[0].parse().unwrap()).await.unwrap();
    assert_eq!(trace.trace.handlings[0].end, TracedEnd::DeadLetter);
    assert_eq!(trace.trace.dead_letters.len(), 1);
    let asked = |version| NewReplay {
        route: name("r"),
        version: Some(version),
        of: ReplayOf::DeadLetters,
        commands: false,
    };
    let asked_first = Try { dead_letters: true, ..all_of_route(TryCandidate::Version(2)) };
    let tried = host.control.try_out(asked_first).await.unwrap().tried;
    assert_eq!(tried.len(), sent.len());
    assert!(tried.iter().all(|tried| sent.contains(&tried.reading.id.to_string())));
    assert!(tried.iter().all(|tried| tried.candidate.result.is_ok() && tried.difference.is_some()));
    let replay = host.control.begin_replay(asked(1)).await.unwrap();
    let done = over(&host, &replay.id).await;
    assert_eq!((done.handled, done.failed, done.failures.len()), (0, 5, 5));
    assert_eq!(host.control.status().store.dead_letters, 5);
    let replay = host.control.begin_replay(asked(2)).await.unwrap();
    assert_eq!(over(&host, &replay.id).await.handled, 5);
    assert_eq!(host.control.status().store.dead_letters, 0);
    host.settled().await;
    assert_eq!(host.delivered().len(), 5);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_tells_the_life_of_a_reading() {
    let host = host_with(test_components::talkative(), test_components::echo()).await;
    let table = serde_json::json!({ "topic": "other/#" });
    host.control.put_route(name("other"), serde_json::from_value(table).unwrap()).await.unwrap();
    let id = host.send("d", "x").await;
    let id: ReadingId = id.parse().unwrap();
    until(|| host.control.logs(&all_of("r")).unwrap().len() > 10).await;
    let told = loop {
        let told = host.control.trace(id).await.unwrap();
        if !told.trace.handlings.is_empty() {
            break told;
        }
        tokio::task::yield_now().await;
    };
    let verdicts: Vec<_> = told.routes.iter().map(|verdict| (verdict.route.as_str(), verdict.took)).collect();
    assert_eq!(verdicts, [("other", false), ("r", true)]);
    assert_eq!(told.routes[0].why.as_deref(), Some("its topic `t` does not match `other/#`"));
    let handling = &told.trace.handlings[0];
    assert!(matches!(handling.end, TracedEnd::Retry { .. }));
    assert!(handling.calls[0].fault.as_deref().unwrap().contains("trapped"));
    assert!(!handling.calls[0].lines.is_empty());
    assert!(told.trace.lanes[0].waits.is_some());

    // With a version that works it is handled, delivered, and the trace goes on.
    host.control.activate(name("m"), 2).await.unwrap();
    host.settled().await;
    let told = host.control.trace(id).await.unwrap().trace;
    assert_eq!(told.handlings.last().unwrap().end, TracedEnd::Done);
    assert_eq!(told.handlings.last().unwrap().calls[0].version, 2);
    assert_eq!(told.deliveries[0].offers.last().unwrap().end, TracedEnd::Done);

    // What was told is still known after a restart.
    let host = host.restart("").await;
    assert_eq!(host.control.trace(id).await.unwrap().trace, told);
    let unknown = ReadingId::from_u128(id.as_u128() + 1);
    assert!(matches!(host.control.trace(unknown).await, Err(ControlError::NotFound { .. })));
    host.stop().await;
}

fn all_of(route: &str) -> LogQuery {
    LogQuery { route: name(route), reading: None, level: LogLevel::Trace, limit: usize::MAX }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_of_others_is_passed_on() {
    let host = host_with(test_components::counter(), test_components::echo()).await;
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let inbound = sandbar_reading::Inbound {
        attributes: sandbar_reading::Attributes::new().with("traceparent", context),
        ..sandbar_reading::Inbound::new("t".parse().unwrap(), sandbar_reading::ContentType::TEXT, "x".into())
    };
    let _receipt = host.control.accept(inbound).await.unwrap();
    host.settled().await;
    assert_eq!(host.delivered()[0]["attributes"]["traceparent"], context);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_kept_by_route_with_the_reading_and_the_failures() {
    let host = host_with(test_components::talkative(), test_components::echo()).await;
    let mut watch = host.control.watch_logs();
    let id: ReadingId = host.send("d", "x").await.parse().unwrap();
    let failed =
        |record: &crate::LogRecord| record.line.message.starts_with("attempt 1 of 5 failed: trapped");
    until(|| host.control.logs(&all_of("r")).unwrap().iter().any(|record| failed(record))).await;
    let lines = host.control.logs(&LogQuery { reading: Some(id), ..all_of("r") }).unwrap();
    assert!(lines.len() > 100, "{}", lines.len());
    assert!(lines.iter().any(|record| record.line.message.contains("more lines of this call were dropped")));
    assert!(host.control.logs(&LogQuery { level: LogLevel::Critical, ..all_of("r") }).unwrap().is_empty());
    assert_eq!(watch.recv().await.unwrap().reading, id);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_imported_and_not_granted_is_told() {
    let host = host_with(test_components::time_and_chance(), test_components::echo()).await;
    let not_granted = |host: &Host| -> Vec<_> {
        let module = host.control.module("m").unwrap();
        module.not_granted.into_iter().map(|not| (not.import, not.permission, not.routes.len())).collect()
    };
    let found = not_granted(&host);
    let has = |import: &str, permission| {
        found
            .iter()
            .any(|(found, with, routes)| found.starts_with(import) && *with == permission && *routes == 1)
    };
    assert!(
        has("wasi:clocks/wall-clock@", Some("clock")) && has("wasi:random/random@", Some("random")),
        "{found:?}"
    );
    // A version that is not active is told of when it is uploaded.
    let uploaded = host.control.upload(name("m"), test_components::sleeping().into(), false).await.unwrap();
    let not: Vec<_> = uploaded.not_granted.iter().map(|not| (not.permission, not.routes.len())).collect();
    assert!(!uploaded.active && not.contains(&(Some("clock"), 1)), "{not:?}");
    let table = serde_json::json!({ "module": "m", "permissions": { "clock": true, "random": true } });
    host.control.put_route(name("r"), serde_json::from_value(table).unwrap()).await.unwrap();
    assert!(not_granted(&host).is_empty());
    host.stop().await;
}

#[tokio::test]
async fn a_secret_is_given_to_routes_that_are_permitted_it_and_shown_to_nobody() {
    let text = "[secret]\nkey = \"hunter2\"\n";
    let host = Host::start(text).await;
    host.upload("m", test_components::nothing()).await;
    let table = |name: &str| {
        let table = serde_json::json!({ "module": "m", "permissions": { "secrets": name } });
        serde_json::from_value(table).unwrap()
    };
    host.control.put_route(name("r"), table("key")).await.unwrap();
    let refused = host.control.put_route(name("s"), table("other")).await.unwrap_err();
    let expected =
        "permissions.secrets[0]: there is no secret `other`: `[secret]` in the configuration file has them";
    assert_eq!(refused.to_string(), expected);
    assert!(!host.control.config().to_string().contains("hunter2"));
    assert!(!serde_json::to_string(&host.control.route("r").unwrap().table).unwrap().contains("hunter2"));
    host.stop().await;
}
