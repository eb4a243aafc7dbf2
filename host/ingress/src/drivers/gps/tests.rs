//! With a pseudo terminal for the receiver, and a socket for gpsd.

use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::Inbound;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::Gps;
use crate::contract::silent::SilentPeer;
use crate::contract::{StandIn, Taken, in_time, running, supervise};
use crate::serial_port::PortStream;
use crate::serial_port::testing::Cable;

/// A receiver on a serial port, at a latitude of so many degrees.
struct Receiver {
    cable: Cable,
    line: PortStream,
}

/// With its checksum.
fn sentence(body: &str) -> String {
    let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${body}*{sum:02X}\r\n")
}

/// RMC of a second of a minute.
fn at(second: usize, latitude: u8) -> String {
    sentence(&format!(
        "GPRMC,0927{second:02}.000,A,{latitude:02}21.6802,N,00630.3372,W,0.02,31.66,280511,,,A"
    ))
}

impl SilentPeer for Receiver {
    type Driver = Gps;

    async fn prepare() -> (Self, Value) {
        let cable = Cable::new().await;
        let settings = json!({ "port": cable.host(), "interval_ms": 0, "lost_after_ms": 60_000 });
        let line = cable.device();
        (Self { cable, line }, settings)
    }

    async fn tell(&mut self, number: u8) {
        // What was said by half before it is not a part of it.
        let text = format!("\r\n{}", at(number.into(), number));
        self.line.write_all(text.as_bytes()).await.unwrap();
    }

    fn tells(inbound: &Inbound, number: u8) -> bool {
        let payload: Value = serde_json::from_slice(&inbound.payload).unwrap();
        payload["latitude_deg"].as_f64().is_some_and(|latitude| latitude.floor() == f64::from(number))
    }

    async fn tell_garbage(&mut self, bytes: Bytes) {
        self.line.write_all(&bytes).await.unwrap();
    }

    async fn tell_half(&mut self) {
        self.line.write_all(&at(30, 80).as_bytes()[..30]).await.unwrap();
    }

    async fn vanish(&mut self) {
        self.cable.unplug();
    }

    async fn come_back(&mut self) {
        self.cable.plug_in().await;
        self.line = self.cable.device();
    }
}

mod contract {
    crate::silent_driver_contract!(super::Receiver);
}

fn payloads(taken: &[Taken]) -> Vec<Value> {
    taken.iter().map(|taken| serde_json::from_slice(&taken.inbound.payload).unwrap()).collect()
}

#[tokio::test]
async fn a_lost_fix_is_said_once_and_a_receiver_that_is_gone_too() {
    let (host, mut cable) = (StandIn::new(), Cable::new().await);
    let settings = json!({ "port": cable.host(), "interval_ms": 0, "lost_after_ms": 600, "topic": "truck", "device": "t7" });
    let ingress = supervise::<Gps>(settings, &host);
    running(&ingress).await;
    let mut line = cable.device();
    line.write_all(at(0, 53).as_bytes()).await.unwrap();
    for second in 1..8 {
        let void = sentence(&format!("GPRMC,0927{second:02}.000,V,,,,,,,280511,,,N"));
        line.write_all(void.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let taken = in_time(host.wait_taken(2)).await;
    let inbound = &taken[0].inbound;
    assert_eq!((inbound.topic.as_str(), inbound.device.as_deref()), ("truck", Some("t7")));
    assert_eq!(inbound.time.unwrap().to_string(), "2011-05-28T09:27:00.000000Z");
    assert_eq!(payloads(&taken)[1]["fix"], "none");
    line.write_all(at(9, 54).as_bytes()).await.unwrap();
    in_time(host.wait_taken(3)).await;
    cable.unplug();
    let taken = in_time(host.wait_taken(4)).await;
    assert_eq!(payloads(&taken)[3], json!({ "fix": "none", "cause": "the receiver is gone" }));
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(host.taken().len(), 4);
}

#[tokio::test]
async fn gpsd_is_asked_and_its_silence_is_a_lost_fix() {
    let (host, gpsd) = (StandIn::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let settings = json!({ "gpsd": gpsd.local_addr().unwrap().to_string(), "lost_after_ms": 300 });
    let ingress = supervise::<Gps>(settings, &host);
    let (stream, _) = in_time(gpsd.accept()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut asked = String::new();
    in_time(stream.read_line(&mut asked)).await.unwrap();
    assert_eq!(asked, "?WATCH={\"enable\":true,\"json\":true}\n");
    for text in [
        r#"{"class":"VERSION","release":"3.22"}"#,
        r#"{"class":"SKY","uSat":7}"#,
        r#"{"class":"TPV","mode":3,"lat":53.5,"lon":-6.5,"altMSL":61.7,"eph":4.2}"#,
        r#"{"class":"TPV","mode":3,"lat":53.6,"lon":-6.5}"#,
        "garbage",
    ] {
        stream.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    }
    let taken = payloads(&in_time(host.wait_taken(2)).await);
    let expected = json!({
        "fix": "3d", "latitude_deg": 53.5, "longitude_deg": -6.5, "altitude_m": 61.7, "accuracy_m": 4.2,
        "satellites": 7,
    });
    assert_eq!(taken, [expected, json!({ "fix": "none", "cause": "the receiver is silent" })]);
    drop(stream);
    let status = in_time(ingress.wait_for(|status| status.last_error.is_some())).await;
    let error = status.last_error.unwrap().text;
    assert!(error.starts_with("gpsd at 127.0.0.1:") && error.ends_with(" is gone"), "{error}");
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |settings: Value| crate::build("gps", settings).err().unwrap().setting;
    assert_eq!(setting(json!({})), "port");
    assert_eq!(setting(json!({ "port": "/dev/ttyACM0", "gpsd": "a:1" })), "port");
    assert_eq!(setting(json!({ "gpsd": "localhost" })), "gpsd");
    let with = |setting: &str, value: Value| json!({ "port": "/dev/ttyACM0", setting: value });
    assert_eq!(setting(with("distance_m", json!(-1))), "distance_m");
    assert_eq!(setting(with("still_ms", json!(1000))), "still_ms");
    assert_eq!(setting(with("lost_after_ms", json!(0))), "lost_after_ms");
    assert_eq!(setting(with("topic", json!("a/#"))), "topic");
    assert_eq!(setting(with("mode", json!("8"))), "mode");
}
