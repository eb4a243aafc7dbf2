//! What is known of devices after whatever happened to the host, its storage or its clock.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

mod rig;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbar_pipeline::{DEVICES_INGRESS, DeviceOptions, Options, Pipeline};
use sandbar_reading::{ContentType, Inbound, Lineage, SystemClock};
use sandbar_store::simulated::{Failure, Simulated};
use sandbar_store::{Accept, Journaling, ReadingQuery};
use tokio::time::sleep;

use self::rig::Rig;

/// Whether a commit that is told to have failed is there afterwards depends on it.
const SEEDS: u64 = 40;

fn options() -> Options {
    let devices = Some(DeviceOptions { max: 10, silence: None, silence_by_type: HashMap::new() });
    Options { devices, ..Options::default() }
}

impl Rig {
    fn new() -> Self {
        Self::on(Simulated::new(1), Arc::new(SystemClock), options())
    }

    fn journal(&self, device: &str, payload: impl Into<Bytes>) -> Journaling {
        let inbound = Inbound {
            device: Some(device.into()),
            ..Inbound::new("in".parse().unwrap(), ContentType::TEXT, payload.into())
        };
        let (lineage, lanes, keep) = (Lineage::default(), Vec::new(), Vec::new());
        let ingress = "peers".parse().unwrap();
        self.store.accept(Accept { ingress, inbound, lineage, lanes, keep }).unwrap()
    }
}

fn is_known(pipeline: &Pipeline, device: &str) -> bool {
    pipeline.registry().unwrap().get(device).is_some()
}

/// A picture is committed after younger readings: a host that was killed then had passed it over.
#[tokio::test(start_paused = true)]
async fn what_comes_late_is_not_said_to_be_written_before() {
    let rig = Rig::new();
    rig.disk.set_payload_time(Duration::from_secs(5));
    let picture = rig.journal("camera", vec![b'x'; 100_000]);
    let word = rig.journal("robot", "x");
    let _receipt = word.committed.await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!((is_known(&rig.pipeline, "robot"), is_known(&rig.pipeline, "camera")), (true, false));
    assert!(rig.store.devices_seen().unwrap().is_none_or(|seen| seen < picture.id));
    let _receipt = picture.committed.await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(is_known(&rig.pipeline, "camera"));
    assert!(rig.store.devices_seen().unwrap() >= Some(word.id));
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_middle_of_what_is_made_up_for_leaves_the_rest_to_the_next_start() {
    let clock = Arc::new(SystemClock);
    let rig = Rig::on(Simulated::new(1), clock.clone(), Options::default());
    for _ in 0..50 {
        let many: Vec<_> = (0..512).map(|_| rig.journal("first", "x")).collect();
        for one in many {
            let _receipt = one.committed.await.unwrap();
        }
    }
    let _receipt = rig.journal("second", "x").committed.await.unwrap();
    let stopped = Pipeline::start(rig.store.clone(), clock.clone(), options()).unwrap();
    let third = rig.journal("third", "x");
    let _receipt = third.committed.await.unwrap();
    assert!(!is_known(&stopped, "second"), "it is at the very beginning");
    stopped.stop().await;
    assert!(rig.store.devices_seen().unwrap().is_none_or(|seen| seen < third.id));
    let next = Pipeline::start(rig.store.clone(), clock, options()).unwrap();
    sleep(Duration::from_secs(30)).await;
    assert!(is_known(&next, "second") && is_known(&next, "third"));
    next.stop().await;
    assert!(rig.store.devices_seen().unwrap() >= Some(third.id));
}

/// What it takes to tell it again was at hand, and whether that was needed nobody asked.
#[tokio::test(start_paused = true)]
async fn that_a_device_came_is_told_once_though_the_commit_was_told_to_have_failed() {
    for seed in 0..SEEDS {
        let rig = Rig::on(Simulated::new(seed), Arc::new(SystemClock), options());
        let _receipt = rig.journal("robot", "x").committed.await.unwrap();
        rig.disk.fail_syncs(Some(Failure::Broken));
        sleep(Duration::from_millis(200)).await;
        assert!(rig.store.stats().fault.is_some());
        rig.disk.fail_syncs(None);
        sleep(Duration::from_secs(30)).await;
        let ingress = Some(DEVICES_INGRESS.parse().unwrap());
        let told = ReadingQuery { ingress, limit: 10, ..ReadingQuery::default() };
        assert_eq!(rig.store.readings(&told).unwrap().items.len(), 1, "seed {seed}");
    }
}
