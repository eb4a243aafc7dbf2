//! On a paused clock: hours pass at once.

use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{ContentType, Refused, Timestamp};
use serde_json::{Value, json};

use super::Schedule;
use crate::contract::{StandIn, Taken, running, supervise};
use crate::{State, Supervised};

fn host(now: &str) -> Arc<StandIn> {
    let host = StandIn::new();
    host.start_clock(now.parse().unwrap());
    host
}

fn start(settings: Value, host: &Arc<StandIn>) -> Supervised {
    supervise::<Schedule>(settings, host)
}

fn times(taken: &[Taken]) -> Vec<String> {
    taken.iter().map(|taken| taken.inbound.time.unwrap().to_string()[11..19].to_owned()).collect()
}

async fn hours(hours: u64) {
    tokio::time::sleep(Duration::from_secs(hours * 3600)).await;
}

#[tokio::test(start_paused = true)]
async fn a_reading_comes_at_its_time() {
    let host = host("2026-01-01T06:59:00Z");
    let _ingress = start(json!({ "cron": "0 7,8 * * *", "topic": "opens", "device": "door" }), &host);
    hours(3).await;
    let taken = host.taken();
    assert_eq!(times(&taken), ["07:00:00", "08:00:00"]);
    let inbound = &taken[0].inbound;
    assert_eq!((inbound.topic.as_str(), inbound.device.as_deref()), ("opens", Some("door")));
    assert_eq!(inbound.payload, r#"{"time":"2026-01-01T07:00:00.000000Z"}"#);
    assert_eq!(inbound.content_type, ContentType::JSON);
    let late: u64 = inbound.attributes.get("schedule.late_ms").unwrap().parse().unwrap();
    assert!(late < 10, "{late} ms late");
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_it_catches_up_or_skips() {
    for (missed, expected) in [
        ("catch_up", &["01:00:00", "02:00:00", "03:00:00", "04:00:00", "05:00:00"][..]),
        ("skip", &["01:00:00", "05:00:00"]),
    ] {
        let host = host("2026-01-01T00:30:00Z");
        let settings = json!({ "interval_ms": 3_600_000, "missed": missed, "payload": "now" });
        let ingress = start(settings.clone(), &host);
        hours(1).await;
        ingress.stop(Duration::from_secs(1)).await;
        assert_eq!(ingress.status().state, State::Stopped);
        hours(3).await;
        let _ingress = start(settings, &host);
        hours(1).await;
        assert_eq!(times(&host.taken()), expected, "{missed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_before_the_first_reading_is_known_too() {
    let host = host("2026-01-01T00:30:00Z");
    let settings = json!({ "cron": "@hourly", "missed": "catch_up" });
    let ingress = start(settings.clone(), &host);
    running(&ingress).await;
    ingress.stop(Duration::from_secs(1)).await;
    hours(2).await;
    let ingress = start(settings, &host);
    running(&ingress).await;
    host.wait_taken(2).await;
    assert_eq!(times(&host.taken()), ["01:00:00", "02:00:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_a_time_makes_it_late() {
    let host = host("2026-01-01T00:59:59Z");
    host.refuse(Refused::Busy { retry_after: Duration::from_secs(7) });
    host.refuse(Refused::DiskFull);
    host.refuse(Refused::Storage { cause: "input/output error".to_owned() });
    let _ingress = start(json!({ "cron": "@hourly" }), &host);
    let taken = host.wait_taken(1).await;
    assert_eq!(times(&taken), ["01:00:00"]);
    let late: u64 = taken[0].inbound.attributes.get("schedule.late_ms").unwrap().parse().unwrap();
    assert!((8000..60_000).contains(&late), "{late} ms late");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_while_it_waits_is_noticed() {
    let host = host("1970-01-01T00:00:10Z");
    let _ingress = start(json!({ "cron": "0 7 * * *" }), &host);
    tokio::time::sleep(Duration::from_secs(5)).await;
    host.start_clock("2026-01-01T06:59:30Z".parse::<Timestamp>().unwrap());
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(times(&host.taken()), ["07:00:00"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_done_before_a_boot_without_a_clock_is_not_done_again() {
    let host = host("2026-01-01T00:30:00Z");
    let settings = json!({ "interval_ms": 3_600_000, "missed": "catch_up" });
    let ingress = start(settings.clone(), &host);
    hours(2).await;
    ingress.stop(Duration::from_secs(1)).await;
    host.start_clock("1970-01-01T00:30:00Z".parse().unwrap());
    let ingress = start(settings.clone(), &host);
    hours(1).await;
    ingress.stop(Duration::from_secs(1)).await;
    let _ingress = start(settings, &host);
    hours(1).await;
    host.start_clock("2026-01-01T03:30:00Z".parse().unwrap());
    hours(1).await;
    let expected = ["01:00:00", "02:00:00", "01:00:00", "02:00:00", "03:00:00", "04:00:00"];
    assert_eq!(times(&host.taken()), expected);
}

#[tokio::test(start_paused = true)]
async fn it_stops_at_once() {
    let host = host("2026-01-01T00:30:00Z");
    let ingress = start(json!({ "cron": "0 0 7 1 1 * 2020-2026", "payload": "x" }), &host);
    running(&ingress).await;
    let stopped =
        tokio::time::timeout(Duration::from_millis(100), ingress.stop(Duration::from_secs(5))).await;
    assert!(stopped.is_ok());
}
