//! Against an emulated router, on a pseudo terminal.

mod router;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sandbar_reading::{Attributes, Command, ContentType, Inbound, Message};
use serde_json::{Value, json};

use self::router::Router;
use super::BraveJig;
use crate::contract::silent::SilentPeer;
use crate::contract::{Ending, StandIn, Taken, in_time, running, supervise};
use crate::{Answer, CommandError, Supervised};

impl SilentPeer for Router {
    type Driver = BraveJig;

    async fn prepare() -> (Self, Value) {
        let router = Self::plug_in();
        let settings = json!({ "port": router.port() });
        (router, settings)
    }

    async fn tell(&mut self, number: u8) {
        self.lux(number.into());
    }

    fn tells(inbound: &Inbound, number: u8) -> bool {
        json_of(inbound)["illuminance_lx"] == f64::from(number)
    }

    async fn tell_garbage(&mut self, bytes: Bytes) {
        self.bytes(&bytes);
    }

    async fn tell_half(&mut self) {
        self.bytes(&super::parser::tests::lux(1.0)[..23]);
    }

    async fn vanish(&mut self) {
        self.unplug();
    }

    async fn come_back(&mut self) {
        self.plug_in_again();
    }
}

mod contract {
    crate::silent_driver_contract!(super::Router);
}

const MODULE: &str = "2468002401234567";

struct Running {
    router: Router,
    host: Arc<StandIn>,
    ingress: Supervised,
}

impl Running {
    async fn start(more: Value) -> Self {
        let (router, host) = (Router::plug_in(), StandIn::new());
        let ingress = supervise::<BraveJig>(settings(&router, &more), &host);
        running(&ingress).await;
        Self { router, host, ingress }
    }

    /// One whose module was heard.
    async fn heard(more: Value) -> Self {
        let mut running = Self::start(more).await;
        running.router.lux(1.0);
        in_time(running.host.wait_taken(1)).await;
        running
    }

    async fn command(&self, device: &str, name: &str, payload: Value) -> Result<(), CommandError> {
        let payload = if payload.is_null() { Bytes::new() } else { payload.to_string().into() };
        let command =
            Command { device: device.into(), name: name.into(), content_type: ContentType::JSON, payload };
        in_time(self.host.command(command)).await.expect("it is attached, and answers")
    }

    async fn rejected(&self, device: &str, name: &str, payload: Value) -> String {
        match self.command(device, name, payload).await {
            Err(CommandError::Reject(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    async fn retried(&self, device: &str, name: &str, payload: Value) -> String {
        match self.command(device, name, payload).await {
            Err(CommandError::Retry(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    /// The last reading of this kind, once there are so many.
    async fn last(&self, kind: &str, count: usize) -> Value {
        for _ in 0..1000 {
            let of_kind = of_kind(&self.host.taken(), kind);
            if of_kind.len() >= count {
                return of_kind[count - 1].clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not {count} of {kind}: {:?}", self.host.taken());
    }
}

fn settings(router: &Router, more: &Value) -> Value {
    let mut settings =
        json!({ "port": router.port(), "cooldown_ms": 0, "answer_timeout_ms": 1000, "restart_wait_ms": 50 });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

fn json_of(inbound: &Inbound) -> Value {
    serde_json::from_slice(&inbound.payload).unwrap_or_default()
}

fn of_kind(taken: &[Taken], kind: &str) -> Vec<Value> {
    let is_it = |taken: &&Taken| taken.inbound.attributes.get("bjig") == Some(kind);
    taken.iter().filter(is_it).map(|taken| json_of(&taken.inbound)).collect()
}

#[tokio::test]
async fn every_sample_is_a_reading_of_its_module() {
    let mut running = Running::start(json!({})).await;
    let start = running.router.wait_asked(|asked| asked["command"] == 1).await;
    assert_eq!(start["offset"], 9 * 3600);
    let samples = [21.5f32, 45.0, 22.5, 46.0].map(f32::to_le_bytes).concat();
    running.router.uplink(0x0123, &[&[90, 1, 0, 0, 0x60, 0x6a, 2, 0][..], &samples].concat());
    let taken = in_time(running.host.wait_taken(2)).await;
    let inbound = &taken[1].inbound;
    assert_eq!(inbound.topic.as_str(), format!("bravejig/{MODULE}/temperature_humidity"));
    assert_eq!((inbound.device.as_deref(), inbound.attributes.get("bjig")), (Some(MODULE), Some("data")));
    let sample = json_of(inbound);
    assert_eq!(
        (&sample["temperature_celsius"], &sample["sample"], &sample["rssi_dbm"]),
        (&json!(22.5), &json!(2), &json!(-60))
    );
    assert_eq!(running.host.devices(), [MODULE.into(), "bravejig-router".into()]);
}

#[tokio::test]
async fn a_frame_can_be_taken_as_it_is() {
    let mut running = Running::start(json!({ "payload": "raw", "topic": "raw/{device}" })).await;
    running.router.lux(2.0);
    let inbound = &in_time(running.host.wait_taken(1)).await[0].inbound;
    assert_eq!((inbound.payload.len(), &inbound.payload[..2]), (21 + 12, &[1, 0][..]));
    assert_eq!(inbound.content_type, ContentType::OCTETS);
}

#[tokio::test]
async fn commands_reach_the_module_and_its_result_is_the_outcome() {
    let mut running = Running::heard(json!({})).await;
    assert_eq!(running.command(MODULE, "instant_uplink", Value::Null).await, Ok(()));
    let asked = running.router.wait_asked(|asked| asked["request"] == "module").await;
    assert_eq!(
        (&asked["device"], &asked["sensor"], &asked["command"]),
        (&json!(MODULE), &json!(0x121), &json!(0))
    );
    let answer = running.last("answer", 1).await;
    assert_eq!((&answer["command"], &answer["device"]), (&json!("instant_uplink"), &json!(MODULE)));
    assert_eq!(running.last("data", 2).await["illuminance_lx"], 77.5);
    assert_eq!(running.command(MODULE, "get_parameters", json!({})).await, Ok(()));
    let parameters = running.last("data", 3).await["parameters"].clone();
    assert_eq!((&parameters["firmware"], &parameters["hysteresis_high"]), (&json!("2.0.1"), &json!(500.0)));
    let mut set = parameters;
    set.as_object_mut().unwrap().remove("firmware");
    assert_eq!(running.command(MODULE, "set_parameters", set).await, Ok(()));
    let asked = running.router.wait_asked(|asked| asked["command"] == 5).await;
    assert_eq!((&asked["sensor"], asked["data"].as_str().unwrap().len()), (&json!(0), 2 * 21));
    for (result, is_busy) in [(8, true), (9, true), (1, false), (3, false), (5, false), (7, false)] {
        running.router.set(&json!({ "result": result })).await;
        match is_busy {
            true => assert!(running.retried(MODULE, "restart", json!({})).await.contains("busy")),
            false => {
                let why = running.rejected(MODULE, "restart", json!({})).await;
                assert!(why.contains(&format!("(result {result})")), "{why}");
            }
        }
    }
    assert!(running.rejected(MODULE, "dance", json!({})).await.contains("not `dance`"));
    running.router.set(&json!({ "mute": true })).await;
    assert_eq!(running.retried(MODULE, "restart", json!({})).await, "no answer within 1000 ms");
}

#[tokio::test]
async fn commands_of_the_router_are_answered_with_readings() {
    let mut running = Running::start(json!({})).await;
    running.router.set(&json!({ "garble": true })).await;
    let router = "bravejig-router";
    for (count, (name, payload, key, expected)) in (1..).zip([
        ("router_version", json!({}), "version", json!("1.4.2")),
        ("device_list", json!({}), "devices", json!([MODULE, "2468002400000002"])),
        ("device", json!({ "index": 1 }), "module", json!("2468002400000002")),
        ("scan_mode", json!({ "set": "legacy" }), "value", json!(0)),
        ("scan_mode", json!({}), "value", json!(1)),
        ("remove_device", json!({ "index": 0 }), "value", json!(0)),
        ("keepalive", json!({}), "value", Value::Null),
        ("remove_all_devices", json!({}), "value", json!(0)),
        ("device_list", json!({}), "devices", json!([])),
    ]) {
        assert_eq!(running.command(router, name, payload).await, Ok(()), "{name}");
        let answer = running.last("answer", count).await;
        assert_eq!(
            (&answer[key], &answer["router"]),
            (&expected, &json!("1122334455667788")),
            "{name}: {answer}"
        );
    }
    assert_eq!(running.command(router, "restart", json!({})).await, Ok(()));
    let restarted = || {
        let asked = running.router.asked().into_iter().filter(|asked| asked["request"] == "router");
        let commands: Vec<Value> = asked.map(|asked| asked["command"].clone()).collect();
        commands.ends_with(&[json!(0), json!(1)])
    };
    in_time(async {
        // What it tells takes another way than what it answers.
        while !restarted() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_command_after_the_other_with_a_pause() {
    let running = Running::heard(json!({ "cooldown_ms": 400 })).await;
    assert_eq!(running.command(MODULE, "restart", json!({})).await, Ok(()));
    assert!(running.retried(MODULE, "restart", json!({})).await.contains("in 0."));
    assert!(
        running.rejected(MODULE, "dance", json!({})).await.contains("dance"),
        "what is wrong is said at once"
    );
    tokio::time::sleep(Duration::from_millis(450)).await;
    assert_eq!(running.command(MODULE, "restart", json!({})).await, Ok(()));
}

#[tokio::test]
async fn a_modules_firmware_is_sent_in_parts_and_told_of() {
    let mut running = Running::heard(json!({})).await;
    let image: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let update = json!({ "hardware_id": 0x0a0b, "firmware_base64": STANDARD.encode(&image) });
    assert_eq!(running.command(MODULE, "update_firmware", update.clone()).await, Ok(()));
    running.router.lux(5.0);
    let done = in_time(async {
        loop {
            if let Some(done) =
                of_kind(&running.host.taken(), "progress").pop().filter(|last| last["state"] == "done")
            {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(done["progress_percent"], 100);
    running
        .router
        .wait_asked(|asked| asked["data"].as_str().is_some_and(|data| data.starts_with("ffff")))
        .await;
    let asked = running.router.asked();
    let parts: Vec<Vec<u8>> = asked
        .iter()
        .filter(|asked| asked["command"] == 0x12 && asked["request"] == "module")
        .map(|asked| from_hex(asked["data"].as_str().unwrap()))
        .collect();
    assert_eq!(parts[0][..5], [0, 0, 0x0b, 0x0a, 0xff]);
    assert_eq!(parts.last().unwrap()[..2], [0xff, 0xff]);
    let sent: Vec<u8> = parts[1..].iter().flat_map(|part| part[2..].to_vec()).skip(4).collect();
    assert_eq!(sent, image);
    let progress = of_kind(&running.host.taken(), "progress").len();
    assert!((10..=25).contains(&progress), "{progress}");
    running.router.set(&json!({ "result": 3 })).await;
    assert!(running.rejected(MODULE, "update_firmware", update).await.contains("result 3"));
    assert!(of_kind(&running.host.taken(), "data").iter().any(|data| data["illuminance_lx"] == 5.0));
}

#[tokio::test]
async fn the_routers_firmware_is_sent_in_chunks() {
    let running = Running::start(json!({})).await;
    let image: Vec<u8> = (0..=255).rev().cycle().take(5000).collect();
    let update = json!({ "firmware_base64": STANDARD.encode(&image) });
    assert_eq!(running.command("bravejig-router", "update_firmware", update).await, Ok(()));
    let got = running.router.wait_asked(|asked| asked["request"] == "image").await;
    assert_eq!(from_hex(got["bytes"].as_str().unwrap()), image);
    assert_eq!(running.last("progress", 6).await["state"], "done");
    running.router.wait_asked(|asked| asked["command"] == 0).await;
}

#[tokio::test]
async fn silence_is_met_with_a_restart_and_an_alert() {
    let mut running = Running::start(json!({ "data_timeout_ms": 600 })).await;
    for value in [1.0, 2.0] {
        tokio::time::sleep(Duration::from_millis(400)).await;
        running.router.lux(value);
    }
    in_time(running.host.wait_taken(2)).await;
    assert!(of_kind(&running.host.taken(), "alert").is_empty(), "a module was heard");
    let alert = running.last("alert", 1).await;
    assert_eq!(
        (&alert["status"], &alert["steps"]),
        (&json!("success"), &json!({ "connect": "success", "stabilize": "success" }))
    );
    alert["timestamp"].as_str().unwrap().parse::<sandbar_reading::Timestamp>().unwrap();
    assert!(alert["message"].as_str().unwrap().starts_with("no module was heard for 0.6 s"));
    let taken = running.host.taken();
    let of_alert = taken.iter().find(|taken| taken.inbound.attributes.get("bjig") == Some("alert")).unwrap();
    assert_eq!(of_alert.inbound.topic.as_str(), "bravejig/bravejig-router/alert");
    assert_eq!(of_alert.inbound.content_type, ContentType::JSON);
    running.router.lux(3.0);
    running.last("data", 3).await;
    running.router.set(&json!({ "mute": true })).await;
    let failed = in_time(async {
        loop {
            let alerts = of_kind(&running.host.taken(), "alert");
            if let Some(failed) = alerts.into_iter().find(|alert| alert["status"] == "failed") {
                return failed;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(failed["steps"]["connect"], "failed");
    running.router.set(&json!({ "mute": false })).await;
    in_time(running.ingress.wait_for(|status| status.sessions > 1 && status.state == crate::State::Running))
        .await;
}

#[tokio::test]
async fn a_router_that_says_nothing_is_an_error_of_the_link() {
    let (router, host) = (Router::muted(), StandIn::new());
    let ingress = supervise::<BraveJig>(settings(&router, &json!({ "answer_timeout_ms": 100 })), &host);
    let lost = in_time(ingress.wait_for(|status| status.last_error.is_some())).await;
    let text = lost.last_error.unwrap().text;
    assert!(text.contains("the router is not started: no answer within 100 ms"), "{text}");
}

#[tokio::test]
async fn a_reply_that_is_a_command_is_carried_out() {
    let mut running = Running::start(json!({})).await;
    let reply = Message {
        topic: "reply".parse().unwrap(),
        device: None,
        content_type: ContentType::JSON,
        attributes: Attributes::new(),
        payload: json!({ "command": "clear_counters", "contact": 1 }).to_string().into(),
    };
    running.host.answer(vec![Answer::Reply(reply)], Ending::Ended);
    running.router.lux(1.0);
    let asked = running.router.wait_asked(|asked| asked["request"] == "module").await;
    assert_eq!(
        (&asked["command"], &asked["data"], &asked["device"]),
        (&json!(0x10), &json!("01"), &json!(MODULE))
    );
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().map(|digit| char::from(digit).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |name: &str, value: Value| {
        let mut settings = json!({ "port": "/dev/ttyACM0" });
        settings[name] = value;
        crate::build("bravejig", settings).err().unwrap().setting
    };
    assert_eq!(setting("port", json!("ttyACM0")), "port");
    assert_eq!(setting("topic", json!("a/#")), "topic");
    assert_eq!(setting("topic", json!("{other}")), "topic");
    assert_eq!(setting("topic", json!(format!("{}/{{sensor}}", "b".repeat(65_500)))), "topic");
    assert_eq!(setting("router_device", json!("a/+")), "router_device");
    assert_eq!(setting("router_device", json!(MODULE)), "router_device");
    assert_eq!(setting("data_timeout_ms", json!(0)), "data_timeout_ms");
}
