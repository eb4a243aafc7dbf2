//! With a radio that a test speaks through; `tests/radio` has BlueZ's D-Bus, `tests/lab` BlueZ itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_reading::{ConfigError, Inbound, Timestamp, settings};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::config::{Config, Plan};
use super::decode::Advertisement;
use super::radio::{Ear, Radio};
use super::{Ble, watch};
use crate::contract::silent::SilentPeer;
use crate::contract::{StandIn, Taken, in_time, running, supervise};
use crate::{Driver, LinkError, Session, Supervised};

enum Said {
    Heard(Advertisement),
    Lost,
}

/// What goes through the air, for one driver.
struct Air {
    say: mpsc::Sender<Said>,
    heard: tokio::sync::Mutex<mpsc::Receiver<Said>>,
}

static AIRS: Mutex<Vec<Arc<Air>>> = Mutex::new(Vec::new());

/// A new one, and the number by which settings name it.
fn air() -> (Arc<Air>, usize) {
    let (say, heard) = mpsc::channel(10_000);
    let air = Arc::new(Air { say, heard: tokio::sync::Mutex::new(heard) });
    let mut airs = AIRS.lock();
    airs.push(Arc::clone(&air));
    (air, airs.len() - 1)
}

impl Air {
    async fn say(&self, said: Said) {
        assert!(self.say.send(said).await.is_ok());
    }

    /// An iBeacon's data, perhaps cut short.
    async fn say_beacon(&self, data: &[u8]) {
        self.say(Said::Heard(Advertisement { manufacturer: vec![(0x4c, data.to_vec())], ..someone() })).await;
    }
}

fn someone() -> Advertisement {
    Advertisement { address: "11:22:33:44:55:66".into(), rssi: Some(-60), ..Advertisement::default() }
}

fn beacon(minor: u16) -> Vec<u8> {
    [&[0x02, 0x15][..], &[7; 16], &[0, 1], &minor.to_be_bytes(), &[0xc5]].concat()
}

impl Radio for Arc<Air> {
    async fn listen(&self, ear: Ear) -> LinkError {
        let mut heard = self.heard.lock().await;
        ear.ready();
        while let Some(Said::Heard(advertisement)) = heard.recv().await {
            ear.hear(advertisement);
        }
        LinkError::ended("the adapter is gone")
    }
}

/// [`Ble`] with another radio.
struct Tested {
    plan: Plan,
    air: usize,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct TestedConfig {
    #[serde(default)]
    air: usize,
    #[serde(flatten)]
    settings: Value,
}

impl Driver for Tested {
    const NAME: &'static str = "ble";
    const EXAMPLE: &'static str = Ble::EXAMPLE;
    type Config = TestedConfig;

    fn new(config: TestedConfig) -> Result<Self, ConfigError> {
        let settings: Config = settings(config.settings)?;
        Ok(Self { plan: Plan::new(&settings)?, air: config.air })
    }

    async fn run(&self, session: Session) -> Result<(), LinkError> {
        let air = Arc::clone(&AIRS.lock()[self.air]);
        watch(&air, &self.plan, &session).await
    }
}

struct Beacons(Arc<Air>);

impl SilentPeer for Beacons {
    type Driver = Tested;

    async fn prepare() -> (Self, Value) {
        let (air, number) = air();
        (Self(air), json!({ "air": number, "duplicate_window_ms": 0 }))
    }

    async fn tell(&mut self, number: u8) {
        self.0.say_beacon(&beacon(number.into())).await;
    }

    fn tells(inbound: &Inbound, number: u8) -> bool {
        inbound.device.as_deref().is_some_and(|device| device.ends_with(&format!(":{number}")))
    }

    async fn tell_garbage(&mut self, bytes: Bytes) {
        self.0.say_beacon(&bytes).await;
    }

    async fn tell_half(&mut self) {
        self.0.say_beacon(&beacon(1)[..20]).await;
    }

    async fn vanish(&mut self) {
        self.0.say(Said::Lost).await;
    }

    async fn come_back(&mut self) {}
}

mod contract {
    crate::silent_driver_contract!(super::Beacons);
}

async fn start(mut more: Value) -> (Arc<Air>, Arc<StandIn>, Supervised) {
    let (air, number) = air();
    more["air"] = number.into();
    let host = StandIn::new();
    let ingress = supervise::<Tested>(more, &host);
    running(&ingress).await;
    (air, host, ingress)
}

#[tokio::test]
async fn a_reading_says_which_beacon_it_is_of() {
    let (air, host, _ingress) = start(json!({ "topic": "halls/{device}" })).await;
    air.say_beacon(&beacon(2)).await;
    let inbound = in_time(host.wait_taken(1)).await.remove(0).inbound;
    let device = "07070707-0707-0707-0707-070707070707:1:2";
    assert_eq!(inbound.device.as_deref(), Some(device));
    assert_eq!(inbound.topic.as_str(), format!("halls/{device}"));
    let attributes: Vec<_> = inbound.attributes.iter().collect();
    assert_eq!(attributes, [("ble.format", "ibeacon"), ("ble.address", "11:22:33:44:55:66")]);
}

#[tokio::test]
async fn a_beacon_that_repeats_itself_is_one_reading_a_window() {
    let (air, host, _ingress) = start(json!({ "duplicate_window_ms": 60_000 })).await;
    host.start_clock(Timestamp::from_millis(1_000_000));
    for minor in [1, 1, 2, 1, 2] {
        air.say_beacon(&beacon(minor)).await;
    }
    air.say_beacon(&beacon(3)).await;
    let taken = in_time(host.wait_taken(3)).await;
    let minors: Vec<_> =
        taken.iter().filter_map(|taken| taken.inbound.device.as_deref()?.split(':').nth(2)).collect();
    assert_eq!(minors, ["1", "2", "3"]);
    host.set_now(Timestamp::from_millis(1_061_000));
    air.say_beacon(&beacon(1)).await;
    in_time(host.wait_taken(4)).await;
}

#[tokio::test]
async fn what_comes_while_the_disk_takes_nothing_is_missed_and_costs_no_memory() {
    let (air, host, _ingress) = start(json!({})).await;
    host.hold();
    for minor in 0..5000 {
        air.say_beacon(&beacon(minor)).await;
    }
    // The radio has said it all, and waited for nobody.
    in_time(async {
        while air.say.capacity() < 10_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    host.release();
    air.say_beacon(&beacon(5001)).await;
    let is_last = |taken: &Taken| taken.inbound.device.as_deref().is_some_and(|d| d.ends_with(":5001"));
    in_time(async {
        while !host.taken().last().is_some_and(is_last) {
            air.say_beacon(&beacon(5001)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let count = host.taken().len();
    assert!((128..1000).contains(&count), "{count} of 5001 were taken");
}
