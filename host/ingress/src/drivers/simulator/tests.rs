use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{Command, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::contract::{StandIn, Taken, in_time, running, supervise};
use crate::{State, Supervised};

fn start(settings: Value, host: &Arc<StandIn>) -> Supervised {
    supervise::<Simulator>(settings, host)
}

fn fast() -> Value {
    json!({ "seed": 7, "rate": 100_000, "devices": ["a", "b"], "kinds": ["temperature", "power"], "unit": "F" })
}

fn with(more: Value) -> Value {
    let mut settings = fast();
    let Value::Object(more) = more else { panic!("a table") };
    settings.as_object_mut().unwrap().extend(more);
    settings
}

fn sequence(taken: &[Taken]) -> Vec<u64> {
    let read = |taken: &Taken| -> Value { serde_json::from_slice(&taken.inbound.payload).unwrap() };
    taken.iter().map(|taken| read(taken)["seq"].as_u64().unwrap()).collect()
}

fn set(device: &str, payload: &str) -> Command {
    Command {
        device: device.into(),
        name: "set".into(),
        content_type: ContentType::JSON,
        payload: payload.to_owned().into(),
    }
}

#[test]
fn example_builds() {
    let example: Value = toml::from_str(Simulator::EXAMPLE).unwrap();
    assert!(crate::build("simulator", example).is_ok());
}

#[tokio::test]
async fn devices_and_kinds_take_turns() {
    let host = StandIn::new();
    let _ingress = start(with(json!({ "count": 5 })), &host);
    let taken = in_time(host.wait_taken(5)).await;
    let shown: Vec<_> =
        taken.iter().map(|taken| (taken.inbound.topic.as_str(), taken.inbound.device.as_deref())).collect();
    assert_eq!(
        shown,
        [
            ("sensors/a/temperature", Some("a")),
            ("sensors/b/temperature", Some("b")),
            ("sensors/a/power", Some("a")),
            ("sensors/b/power", Some("b")),
            ("sensors/a/temperature", Some("a")),
        ]
    );
    assert_eq!(sequence(&taken), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn the_same_seed_makes_the_same_readings() {
    let payloads = async |seed: u64| {
        let host = StandIn::new();
        let _ingress = start(with(json!({ "count": 40, "seed": seed })), &host);
        let taken = in_time(host.wait_taken(40)).await;
        taken.into_iter().map(|taken| taken.inbound.payload).collect::<Vec<_>>()
    };
    let first = payloads(1).await;
    assert_eq!(first, payloads(1).await);
    assert_ne!(first, payloads(2).await);
}

#[tokio::test]
async fn goes_on_where_it_stopped() {
    let host = StandIn::new();
    let first = start(fast(), &host);
    in_time(host.wait_taken(10)).await;
    first.stop(Duration::from_secs(5)).await;
    let before = host.taken().len();
    let second = start(fast(), &host);
    let taken = in_time(host.wait_taken(before + 10)).await;
    assert_eq!(second.status().sessions, 1);
    assert_eq!(sequence(&taken), (0..taken.len() as u64).collect::<Vec<_>>());
}

/// Busy is waited for; a failing disk ends the session, and the supervisor begins another.
#[tokio::test]
async fn what_was_refused_is_offered_again() {
    let host = StandIn::new();
    host.refuse(Refused::Busy { retry_after: Duration::from_millis(1) });
    host.refuse(Refused::Busy { retry_after: Duration::from_millis(1) });
    host.refuse(Refused::DiskFull);
    let ingress = start(with(json!({ "count": 3 })), &host);
    let taken = in_time(host.wait_taken(3)).await;
    assert_eq!(sequence(&taken), [0, 1, 2]);
    let status = ingress.status();
    assert_eq!((status.sessions, status.accepted), (2, 3));
    assert_eq!(status.last_error.unwrap().text, "handing a reading over: the disk is full");
}

#[tokio::test]
async fn a_command_changes_the_device_and_outlives_a_restart() {
    let host = StandIn::new();
    let settings = with(json!({ "kinds": ["temperature"], "unit": "C", "rate": 0.0001 }));
    let ingress = start(settings.clone(), &host);
    running(&ingress).await;
    assert_eq!(host.devices(), ["a".into(), "b".into()]);
    let done = |device: &'static str, payload: &'static str| in_time(host.command(set(device, payload)));
    assert_eq!(done("b", r#"{"offset": 1000, "interval_ms": 1}"#).await, Some(Ok(())));
    ingress.stop(Duration::from_secs(5)).await;
    assert_eq!(host.devices(), []);
    let before = host.taken().len();
    let _ingress = start(settings, &host);
    let taken = in_time(host.wait_taken(before + 4)).await;
    for taken in &taken[before..] {
        let value: Value = serde_json::from_slice(&taken.inbound.payload).unwrap();
        assert_eq!(
            value["temperature"].as_f64().unwrap() > 900.0,
            taken.inbound.device.as_deref() == Some("b")
        );
    }
}

#[tokio::test]
async fn a_command_that_it_does_not_know_is_rejected() {
    let host = StandIn::new();
    let ingress = start(with(json!({ "interval_ms": 60_000, "rate": null })), &host);
    running(&ingress).await;
    let mut restart = set("a", "{}");
    restart.name = "restart".into();
    for (command, problem) in [
        (restart, "a simulated device knows the command `set`, not `restart`"),
        (set("a", r#"{"interval_ms": 0}"#), "interval_ms: must be above 0"),
        (set("a", "offset"), "expected value at line 1 column 1"),
    ] {
        let done = in_time(host.command(command)).await;
        assert_eq!(done, Some(Err(CommandError::Reject(problem.to_owned()))));
    }
}

#[tokio::test]
async fn stops_at_once() {
    let host = StandIn::new();
    host.set_now(Timestamp::from_millis(5));
    let ingress = start(with(json!({ "interval_ms": 3_600_000, "rate": null })), &host);
    in_time(host.wait_taken(1)).await;
    let stopped = tokio::time::timeout(Duration::from_secs(1), ingress.stop(Duration::from_secs(10))).await;
    assert!(stopped.is_ok());
    assert_eq!((ingress.status().state, ingress.status().since), (State::Stopped, Timestamp::from_millis(5)));
}

#[test]
fn does_not_catch_up_with_a_long_sleep() {
    let start = Instant::now();
    let pace = Duration::from_millis(10);
    assert_eq!(next_due(start, pace, start + pace / 2), start + pace);
    let late = start + Duration::from_millis(500);
    assert_eq!(next_due(start, pace, late), start + pace);
    let asleep = start + Duration::from_hours(1);
    assert_eq!(next_due(start, pace, asleep), asleep);
}

#[test]
fn names_the_setting_that_cannot_work() {
    let table = [
        (json!({ "rate": 0 }), "rate"),
        (json!({ "rate": 1, "interval_ms": 1 }), "rate"),
        (json!({ "interval_ms": 0 }), "interval_ms"),
        (json!({ "devices": 0 }), "devices"),
        (json!({ "devices": 4_000_000_000u32 }), "devices"),
        (json!({ "devices": ["ok", "a/b"] }), "devices[1]"),
        (json!({ "kinds": [] }), "kinds"),
        (json!({ "kinds": ["sound"] }), "kinds[0]"),
        (json!({ "colour": 1 }), "colour"),
    ];
    for (settings, setting) in table {
        let error = crate::build("simulator", settings).err().unwrap();
        assert_eq!(error.setting, setting, "{error}");
    }
}
