//! With pseudo terminals that socat joins.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{Attributes, Command, ContentType, Message, Refused};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Serial;
use crate::contract::{Ending, Peer, StandIn, Told, in_time, running, supervise};
use crate::serial_port::testing::Cable;
use crate::{Answer, State, Supervised};

/// A device that frames with a length. A line has one far end only: who sends has it for as long.
struct Meter {
    _cable: Cable,
    line: Arc<Mutex<crate::serial_port::PortStream>>,
}

/// Longer than any silence within a frame.
const SILENCE_MS: u64 = 150;

impl Meter {
    async fn line(&self) -> OwnedMutexGuard<crate::serial_port::PortStream> {
        Arc::clone(&self.line).lock_owned().await
    }
}

impl Peer for Meter {
    type Driver = Serial;

    async fn prepare() -> (Self, Value) {
        let cable = Cable::new().await;
        let settings = json!({
            "port": cable.host(), "framing": { "kind": "length", "size": "u32", "order": "little" },
            "frame_max": 10_000, "read_timeout_ms": SILENCE_MS, "device": "meter",
            "acknowledge": { "hex": "06" }, "refuse": "\u{15}{reason}\n",
        });
        let line = Arc::new(Mutex::new(cable.device()));
        (Self { _cable: cable, line }, settings)
    }

    async fn reach(&mut self, _address: Option<SocketAddr>) {}

    async fn send(&self, payload: Bytes) -> Told {
        let mut line = self.line().await;
        line.write_u32_le(payload.len().try_into().unwrap()).await.unwrap();
        line.write_all(&payload).await.unwrap();
        loop {
            match line.read_u8().await {
                Ok(6) => return Told::Acknowledged,
                Ok(0x15) => {
                    let mut reason = Vec::new();
                    while let Ok(byte @ 32..) = line.read_u8().await {
                        reason.push(byte);
                    }
                    let reason = String::from_utf8(reason).unwrap();
                    // What was said of the garbage before.
                    if !reason.starts_with("a frame of") {
                        return Told::Refused(reason);
                    }
                }
                Ok(_) => {}
                Err(_) => return Told::Nothing,
            }
        }
    }

    fn told_for(&self, refused: &Refused) -> Told {
        Told::Refused(refused.to_string())
    }

    async fn send_garbage(&self, bytes: Bytes) {
        let mut line = self.line().await;
        let _ = line.write_all(&bytes).await;
        drop(line);
        tokio::time::sleep(Duration::from_millis(3 * SILENCE_MS)).await;
    }

    async fn send_half(&self) -> Box<dyn Send> {
        self.line().await.write_all(b"\x09\0\0\0half").await.unwrap();
        tokio::time::sleep(Duration::from_millis(3 * SILENCE_MS)).await;
        Box::new(())
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(())
    }
}

mod contract {
    crate::driver_contract!(super::Meter);
}

struct Running {
    host: Arc<StandIn>,
    ingress: Supervised,
    cable: Cable,
}

impl Running {
    async fn start(more: Value) -> Self {
        let (host, cable) = (StandIn::with_reading_max(1000), Cable::new().await);
        let mut settings = json!({ "port": cable.host() });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ingress = supervise::<Serial>(settings, &host);
        running(&ingress).await;
        Self { host, ingress, cable }
    }

    async fn payloads(&self, count: usize) -> Vec<Bytes> {
        let taken = in_time(self.host.wait_taken(count)).await;
        taken.into_iter().map(|taken| taken.inbound.payload).collect()
    }
}

async fn read(line: &mut (impl tokio::io::AsyncRead + Unpin), size: usize) -> String {
    let mut read = vec![0; size];
    in_time(line.read_exact(&mut read)).await.unwrap();
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn lines_become_readings_and_answers_go_back() {
    let running = Running::start(json!({
        "topic": "scale/{device}", "device_pointer": "/id", "commands": "json", "mode": "7E1", "baud": 19_200,
    }))
    .await;
    let message = Message {
        topic: "reply".parse().unwrap(),
        device: None,
        content_type: ContentType::TEXT,
        attributes: Attributes::new(),
        payload: "tare".into(),
    };
    running.host.answer(vec![Answer::Reply(message)], Ending::Ended);
    let mut line = running.cable.device();
    line.write_all(b"{\"id\":\"s1\"}\r\n").await.unwrap();
    assert_eq!(read(&mut line, 5).await, "tare\n");
    let taken = running.host.taken().remove(0).inbound;
    assert_eq!((taken.topic.as_str(), taken.device.as_deref()), ("scale/s1", Some("s1")));
    assert_eq!(taken.attributes.get("serial.port"), running.cable.host().to_str());
    let command = Command {
        device: "s1".into(),
        name: "zero".into(),
        content_type: ContentType::JSON,
        payload: "true".into(),
    };
    assert_eq!(in_time(running.host.command(command)).await, Some(Ok(())));
    assert!(read(&mut line, 17).await.starts_with(r#"{"command":"zero""#));
}

#[tokio::test]
async fn a_silence_ends_a_frame() {
    let burst = Running::start(json!({ "framing": { "kind": "raw" }, "read_timeout_ms": 150 })).await;
    let mut line = burst.cable.device();
    for piece in ["21", ".5", "C"] {
        line.write_all(piece.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    line.write_all(&[b'x'; 1500]).await.unwrap();
    let payloads = burst.payloads(3).await;
    assert_eq!((&payloads[0][..], payloads[1].len(), payloads[2].len()), (&b"21.5C"[..], 1000, 500));
    let lines = Running::start(json!({ "read_timeout_ms": 100 })).await;
    lines.cable.device().write_all(b"1\n2").await.unwrap();
    assert_eq!(lines.payloads(2).await, ["1", "2"]);
}

#[tokio::test]
async fn without_a_silence_raw_is_what_arrives() {
    let running = Running::start(json!({ "framing": { "kind": "raw" } })).await;
    running.cable.device().write_all(b"21.5").await.unwrap();
    assert_eq!(running.payloads(1).await.concat(), b"21.5");
}

#[tokio::test]
async fn unplugged_it_waits_and_goes_on_when_it_is_back() {
    let mut running = Running::start(json!({})).await;
    running.cable.device().write_all(b"1\nhalf").await.unwrap();
    running.payloads(1).await;
    running.cable.unplug();
    let status = in_time(running.ingress.wait_for(|status| status.last_error.is_some())).await;
    let error = status.last_error.unwrap().text;
    assert!(error.contains("was unplugged") && error.contains("/host"), "{error}");
    let missing = |status: &crate::Status| {
        status.last_error.as_ref().is_some_and(|error| error.text.ends_with("there is no such device"))
    };
    let before = in_time(running.ingress.wait_for(missing)).await.sessions;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let tries = running.ingress.status().sessions - before;
    assert!(tries < 20, "it tried {tries} times in 0.3 s, though the waits double");
    running.cable.plug_in().await;
    in_time(running.ingress.wait_for(|status| status.state == State::Running)).await;
    running.cable.device().write_all(b"2\n").await.unwrap();
    assert_eq!(running.payloads(2).await, ["1", "2"]);
}

#[tokio::test]
async fn a_line_that_falls_silent_within_a_frame_is_opened_again() {
    let running = Running::start(json!({ "idle_timeout_ms": 300 })).await;
    running.cable.device().write_all(b"1\nhalf").await.unwrap();
    running.payloads(1).await;
    let sessions = running.ingress.status().sessions;
    in_time(running.ingress.wait_for(|status| status.sessions > sessions)).await;
}

#[tokio::test]
async fn what_is_too_long_is_passed_over_without_a_refusal_being_set() {
    let running = Running::start(json!({ "frame_max": 10 })).await;
    running.cable.device().write_all(b"0123456789x\n2\n").await.unwrap();
    assert_eq!(running.payloads(1).await, ["2"]);
    assert_eq!(running.ingress.status().sessions, 1);
}

#[tokio::test]
async fn it_is_held_back_while_the_host_is_busy() {
    let running = Running::start(json!({})).await;
    running.host.refuse(Refused::Busy { retry_after: Duration::from_millis(30) });
    running.cable.device().write_all(b"1\n2\n3\n").await.unwrap();
    assert_eq!(running.payloads(3).await, ["1", "2", "3"]);
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |settings: Value| crate::build("serial", settings).err().unwrap().setting;
    assert_eq!(setting(json!({})), "");
    assert_eq!(setting(json!({ "port": "COM1" })), "port");
    let with = |setting: &str, value: Value| json!({ "port": "/dev/ttyS0", setting: value });
    assert_eq!(setting(with("mode", json!("8N0"))), "mode");
    assert_eq!(setting(with("flow_control", json!("xon"))), "flow_control");
    assert_eq!(setting(with("framing", json!({ "kind": "fixed", "bytes": 0 }))), "framing.bytes");
    assert_eq!(setting(with("read_timeout_ms", json!(0))), "read_timeout_ms");
    assert_eq!(setting(with("topic", json!("a/{ip}"))), "topic");
}
