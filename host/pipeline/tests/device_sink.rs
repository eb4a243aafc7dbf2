//! The sink `device`: messages that become commands.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

mod rig;

use std::sync::Arc;
use std::time::Duration;

use sandbar_ingress::Attachment;
use sandbar_pipeline::{DeviceOptions, Offering, Options, Route};
use sandbar_reading::{Clock, ContentType, Inbound, Target, Timestamp};
use sandbar_store::simulated::Simulated;
use sandbar_store::{CommandState, DeadLetterQuery};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use self::rig::Rig;

const LONG: Duration = Duration::from_secs(60);

/// Goes with the paused time.
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000).after(self.0.elapsed())
    }
}

impl Rig {
    /// What comes with a device goes to the sink.
    async fn with_sink(settings: Value, devices: Option<DeviceOptions>) -> Self {
        let options = Options { devices, ..Options::default() };
        let rig = Self::on(Simulated::new(1), Arc::new(Paused(Instant::now())), options);
        let sink = sandbar_sinks::build("device", settings).unwrap();
        rig.pipeline.set_sink("out".parse().unwrap(), Arc::from(sink), Offering::default()).await;
        rig.pipeline.set_routes(vec![Route { sinks: vec!["out".parse().unwrap()], ..rig::route() }]);
        rig
    }

    async fn send(&self, device: &str, payload: &str) {
        let inbound = Inbound {
            device: Some(device.into()),
            ..Inbound::new("in".parse().unwrap(), ContentType::TEXT, payload.to_owned().into())
        };
        self.pipeline.intake().accept("peers".parse().unwrap(), inbound, Vec::new()).await.unwrap();
    }

    fn attach(&self, device: &str) -> Attachment {
        self.pipeline.intake().attach(&"coap".parse().unwrap(), device)
    }

    fn states(&self, device: &str) -> Vec<CommandState> {
        let commands = self.store.commands(device, None, 1000, &|_| true).unwrap();
        commands.into_iter().map(|command| command.state).collect()
    }

    /// Causes of dead letters.
    fn given_up(&self) -> Vec<String> {
        let query = DeadLetterQuery { limit: 1000, ..DeadLetterQuery::default() };
        self.store.dead_letters(&query).unwrap().items.into_iter().map(|letter| letter.cause).collect()
    }
}

fn known() -> Option<DeviceOptions> {
    Some(DeviceOptions { max: 10, silence: None, silence_by_type: Default::default() })
}

async fn take(attachment: &mut Attachment) -> String {
    let offer = timeout(LONG, attachment.next()).await.unwrap().unwrap();
    let told = format!("{} {}", offer.command.name, String::from_utf8_lossy(&offer.command.payload));
    offer.acknowledge();
    told
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_away_keeps_only_its_own_commands_waiting() {
    let rig = Rig::with_sink(json!({ "name": "set" }), known()).await;
    let mut lamp = rig.attach("lamp");
    rig.send("pump", "1").await;
    rig.send("lamp", "2").await;
    rig.send("pump", "3").await;
    assert_eq!(take(&mut lamp).await, "set 2");
    sleep(LONG).await;
    assert_eq!(rig.states("lamp"), [CommandState::Acknowledged]);
    assert_eq!(rig.states("pump"), [CommandState::Queued, CommandState::Queued]);
    assert_eq!(rig.store.stats().outbox, 2);
    let mut pump = rig.attach("pump");
    assert_eq!((take(&mut pump).await, take(&mut pump).await), ("set 1".to_owned(), "set 3".to_owned()));
    sleep(LONG).await;
    assert_eq!((rig.store.stats().outbox, rig.given_up()), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn when_too_many_commands_wait_for_a_device_one_more_is_refused_by_name() {
    let rig = Rig::with_sink(json!({ "name": "set", "waiting_max": 2 }), known()).await;
    for payload in ["1", "2", "3", "4"] {
        rig.send("pump", payload).await;
    }
    let mut lamp = rig.attach("lamp");
    rig.send("lamp", "5").await;
    assert_eq!(take(&mut lamp).await, "set 5");
    sleep(LONG).await;
    let full = "2 commands wait for the device `pump` already";
    assert_eq!(rig.given_up(), [full, full]);
    let mut pump = rig.attach("pump");
    assert_eq!((take(&mut pump).await, take(&mut pump).await), ("set 1".to_owned(), "set 2".to_owned()));
    sleep(LONG).await;
    // There is room again.
    rig.send("pump", "6").await;
    assert_eq!(take(&mut pump).await, "set 6");
}

/// They were ended 64 in a second, and the others sent meanwhile.
#[tokio::test(start_paused = true)]
async fn however_many_commands_expire_none_is_sent_afterwards_or_a_dead_letter() {
    let rig = Rig::with_sink(json!({ "name": "set", "expires_s": 60 }), known()).await;
    for number in 0..200 {
        rig.send("pump", &number.to_string()).await;
    }
    sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.states("pump"), [CommandState::Queued; 200]);
    sleep(Duration::from_secs(32)).await;
    assert_eq!(rig.states("pump"), [CommandState::Expired; 200]);
    let mut pump = rig.attach("pump");
    assert!(timeout(LONG, pump.next()).await.is_err(), "it is told of nothing");
    assert_eq!((rig.store.stats().outbox, rig.given_up()), (0, vec![]));
}

/// Each takes memory, and whoever sends readings makes up what they are about.
#[tokio::test(start_paused = true)]
async fn devices_that_nobody_has_heard_of_are_waited_for_up_to_a_number() {
    let rig = Rig::with_sink(json!({ "name": "set" }), None).await;
    for number in 0..1300 {
        rig.send(&format!("d{number}"), "x").await;
    }
    sleep(LONG).await;
    let outlets = rig.pipeline.outlets();
    let awaited = outlets.iter().filter(|outlet| matches!(outlet.target, Target::Device(_))).count();
    let given_up = rig.given_up();
    assert!((1000..1300).contains(&awaited), "{awaited}");
    assert_eq!(awaited + given_up.len(), 1300);
    let unheard = |cause: &String| cause.starts_with("nobody has heard of the device `d");
    assert!(given_up.iter().all(unheard), "{given_up:?}");
    let mut lamp = rig.attach("lamp");
    rig.send("lamp", "on").await;
    assert_eq!(take(&mut lamp).await, "set on");
}
