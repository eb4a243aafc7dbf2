//! Against a server of the tests' own, which does as it is told; `tests/hardware` has one that others wrote.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_reading::{Command, ContentType, Inbound};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Modbus;
use crate::contract::silent::SilentPeer;
use crate::contract::{StandIn, Taken, in_time, running, supervise};
use crate::{CommandError, Supervised};

/// Registers by address; those from 200 on are refused.
struct Memory {
    registers: [u16; 300],
    coils: [bool; 16],
    manner: Manner,
}

#[derive(Clone)]
enum Manner {
    Right,
    Silent,
    /// Answers half.
    Half,
    Garbage(Bytes),
    HangsUp,
    /// Answers, and then closes the connection.
    Closes,
}

/// A unit that the server hangs up on whoever asks for.
const DEAD: u8 = 9;

struct Server {
    address: SocketAddr,
    memory: Arc<Mutex<Memory>>,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let memory = Memory { registers: [0; 300], coils: [false; 16], manner: Manner::Right };
        let memory = Arc::new(Mutex::new(memory));
        let address = listener.local_addr().unwrap();
        Self { address, serving: Some(tokio::spawn(serve(listener, Arc::clone(&memory)))), memory }
    }

    fn behave(&self, manner: Manner) {
        self.memory.lock().manner = manner;
    }

    /// Its connections end, too.
    fn stop(&mut self) {
        self.serving.take().unwrap().abort();
    }

    async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving = Some(tokio::spawn(serve(listener, Arc::clone(&self.memory))));
    }
}

async fn serve(listener: TcpListener, memory: Arc<Mutex<Memory>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, Arc::clone(&memory)));
    }
}

async fn connection(mut stream: TcpStream, memory: Arc<Mutex<Memory>>) -> std::io::Result<()> {
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head).await?;
        let mut request = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]])) - 1];
        stream.read_exact(&mut request).await?;
        if head[6] == DEAD {
            return Ok(());
        }
        let manner = memory.lock().manner.clone();
        let pdu = answer(&mut memory.lock(), &request);
        let length = u16::try_from(pdu.len() + 1).unwrap().to_be_bytes();
        let whole = [&head[..4], &length, &head[6..], &pdu].concat();
        match manner {
            Manner::Right => stream.write_all(&whole).await?,
            Manner::Silent => {}
            Manner::Half => stream.write_all(&whole[..whole.len() - 1]).await?,
            Manner::Garbage(bytes) => stream.write_all(&bytes).await?,
            Manner::HangsUp => return Ok(()),
            Manner::Closes => return stream.write_all(&whole).await,
        }
    }
}

fn answer(memory: &mut Memory, request: &[u8]) -> Vec<u8> {
    let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
    let (function, from, count) = (request[0], usize::from(word(1)), usize::from(word(3)));
    match function {
        3 | 4 if from + count > 200 => vec![function | 0x80, 2],
        3 | 4 => {
            let words = memory.registers[from..from + count].iter().flat_map(|word| word.to_be_bytes());
            [vec![function, (2 * count) as u8], words.collect()].concat()
        }
        1 => vec![1, 1, (0..count).fold(0, |bits, at| bits | u8::from(memory.coils[from + at]) << at)],
        5 => {
            memory.coils[from] = word(3) == 0xff00;
            request.to_vec()
        }
        6 | 16 if from >= 200 => vec![function | 0x80, 6],
        6 => {
            memory.registers[from] = word(3);
            request.to_vec()
        }
        16 => {
            for at in 0..count {
                memory.registers[from + at] = word(6 + 2 * at);
            }
            request[..5].to_vec()
        }
        _ => vec![function | 0x80, 1],
    }
}

fn settings(server: &Server) -> Value {
    json!({
        "connect": server.address.to_string(), "interval_ms": 50, "timeout_ms": 200, "raw_writes": true,
        "topic": "meters/{device}", "state_topic": "meters/{device}/state",
        "units": [{ "unit": 1, "device": "m1", "values": [
            { "name": "count", "function": "holding", "address": 10 },
            { "name": "setpoint", "function": "holding", "address": 20, "type": "f32", "unit": "A" },
            { "name": "relay", "function": "coil", "address": 3 },
        ] }],
    })
}

impl SilentPeer for Server {
    type Driver = Modbus;

    async fn prepare() -> (Self, Value) {
        let server = Self::start().await;
        let settings = settings(&server);
        (server, settings)
    }

    async fn tell(&mut self, number: u8) {
        self.behave(Manner::Right);
        self.memory.lock().registers[10] = number.into();
    }

    fn tells(inbound: &Inbound, number: u8) -> bool {
        let payload: Value = serde_json::from_slice(&inbound.payload).unwrap();
        payload["count"]["value"] == number
    }

    async fn tell_garbage(&mut self, bytes: Bytes) {
        self.behave(Manner::Garbage(bytes));
        tokio::time::sleep(Duration::from_millis(120)).await;
    }

    async fn tell_half(&mut self) {
        self.behave(Manner::Half);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }

    async fn vanish(&mut self) {
        self.stop();
    }

    async fn come_back(&mut self) {
        self.start_again().await;
    }
}

mod contract {
    crate::silent_driver_contract!(super::Server);
}

struct Running {
    server: Server,
    host: Arc<StandIn>,
    ingress: Supervised,
}

impl Running {
    async fn start(more: Value) -> Self {
        let (server, host) = (Server::start().await, StandIn::new());
        let mut settings = settings(&server);
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ingress = supervise::<Modbus>(settings, &host);
        running(&ingress).await;
        Self { server, host, ingress }
    }

    /// Of readings of states, in order, once there are so many.
    async fn states(&self, count: usize) -> Vec<Value> {
        let mut taken = 0;
        loop {
            let all = in_time(self.host.wait_taken(taken + 1)).await;
            let states: Vec<_> = of_topic(&all, "meters/m1/state");
            if states.len() >= count {
                return states;
            }
            taken = all.len();
        }
    }

    async fn command(&self, name: &str, payload: Value) -> Result<(), CommandError> {
        let command = Command {
            device: "m1".into(),
            name: name.into(),
            content_type: ContentType::JSON,
            payload: payload.to_string().into(),
        };
        in_time(self.host.command(command)).await.expect("the device is attached")
    }
}

fn of_topic(taken: &[Taken], topic: &str) -> Vec<Value> {
    let of_topic = taken.iter().filter(|taken| taken.inbound.topic.as_str() == topic);
    of_topic.map(|taken| serde_json::from_slice(&taken.inbound.payload).unwrap()).collect()
}

#[tokio::test]
async fn a_poll_is_a_reading_with_units_and_commands_write() {
    let running = Running::start(json!({})).await;
    running
        .command("write", json!([{ "name": "setpoint", "value": 12.5 }, { "name": "relay", "value": true }]))
        .await
        .unwrap();
    running.command("write", json!({ "function": "holding", "address": 10, "values": [7] })).await.unwrap();
    running.command("read", Value::Null).await.unwrap();
    let taken = running.host.taken();
    assert_eq!(
        of_topic(&taken, "meters/m1").last().unwrap(),
        &json!({ "count": { "value": 7 }, "setpoint": { "value": 12.5, "unit": "A" }, "relay": { "value": true } })
    );
    assert_eq!(of_topic(&taken, "meters/m1/state"), [json!({ "state": "online" })]);
    let inbound = &taken[0].inbound;
    assert_eq!((inbound.device.as_deref(), inbound.attributes.get("modbus.unit")), (Some("m1"), Some("1")));
    let refused = running.command("write", json!({ "name": "count", "value": 65536 })).await;
    assert_eq!(refused, Err(CommandError::Reject("count: 65536 is out of range: 0 to 65535".to_owned())));
    let busy =
        running.command("write", json!({ "function": "holding", "address": 200, "values": [1] })).await;
    assert_eq!(busy, Err(CommandError::Retry("busy (exception 6)".to_owned())));
}

#[tokio::test]
async fn what_a_unit_refuses_is_its_state_and_the_rest_is_read() {
    let values = json!([
        { "name": "count", "function": "holding", "address": 10 },
        { "name": "missing", "function": "input", "address": 250 },
    ]);
    let running = Running::start(json!({ "units": [{ "unit": 1, "device": "m1", "values": values }] })).await;
    let cause = "input 250: illegal data address (exception 2)";
    assert_eq!(running.states(1).await, [json!({ "state": "failing", "cause": cause })]);
    let taken = in_time(running.host.wait_taken(4)).await;
    assert_eq!(
        of_topic(&taken, "meters/m1")[0],
        json!({ "count": { "value": 0 }, "missing": { "error": "illegal data address (exception 2)" } })
    );
    assert_eq!(of_topic(&taken, "meters/m1/state").len(), 1);
}

#[tokio::test]
async fn silence_and_a_lost_link_are_a_state_said_once() {
    let mut running = Running::start(json!({})).await;
    running.states(1).await;
    running.server.behave(Manner::Silent);
    let unreachable = |cause: &str| json!({ "state": "unreachable", "cause": cause });
    assert_eq!(running.states(2).await[1], unreachable("no answer within 200 ms"));
    let refused = running.command("write", json!({ "name": "count", "value": 1 })).await;
    assert_eq!(refused, Err(CommandError::Retry("no answer within 200 ms".to_owned())));
    running.server.stop();
    in_time(running.ingress.wait_for(|status| status.last_error.is_some())).await;
    running.server.start_again().await;
    running.server.behave(Manner::Right);
    assert_eq!(running.states(3).await[2], json!({ "state": "online" }));
    running.server.stop();
    let states = running.states(4).await;
    assert_eq!(states[3]["state"], "unreachable");
    assert!(states[3]["cause"].as_str().unwrap().contains(&running.server.address.to_string()), "{states:?}");
}

#[tokio::test]
async fn a_device_that_hangs_up_is_said_to_have_done_so() {
    let running = Running::start(json!({})).await;
    running.states(1).await;
    running.server.behave(Manner::HangsUp);
    let cause = format!("asking {}: the device hung up", running.server.address);
    assert_eq!(running.states(2).await[1], json!({ "state": "unreachable", "cause": cause }));
}

#[tokio::test]
async fn a_gateway_that_closes_what_is_quiet_is_no_outage() {
    let running = Running::start(json!({})).await;
    running.states(1).await;
    running.server.behave(Manner::Closes);
    running.command("write", json!({ "name": "count", "value": 7 })).await.unwrap();
    running.command("read", Value::Null).await.unwrap();
    let taken = running.host.taken();
    assert_eq!(of_topic(&taken, "meters/m1").last().unwrap()["count"], json!({ "value": 7 }));
    assert_eq!(of_topic(&taken, "meters/m1/state"), [json!({ "state": "online" })]);
    assert_eq!(running.ingress.status().sessions, 1);
}

#[tokio::test]
async fn a_gateway_that_hangs_up_on_one_unit_serves_the_others() {
    let values = json!([{ "name": "count", "function": "holding", "address": 10 }]);
    let units = json!([
        { "unit": DEAD, "device": "m9", "values": values },
        { "unit": 1, "device": "m1", "values": values },
    ]);
    let running = Running::start(json!({ "units": units })).await;
    assert_eq!(running.states(1).await, [json!({ "state": "online" })]);
    let dead = of_topic(&running.host.taken(), "meters/m9/state");
    assert_eq!(dead[0]["state"], "unreachable");
    assert_eq!(running.ingress.status().sessions, 1);
}

#[tokio::test]
async fn an_answer_that_says_more_than_it_has_is_garbled_and_the_link_is_not_lost() {
    let running = Running::start(json!({})).await;
    running.states(1).await;
    // Six bytes, of which there are two.
    running.server.behave(Manner::Garbage(Bytes::from_static(b"\0\0\0\0\0\x05\x01\x03\x06\0\x01")));
    let cause = "the answer is garbled: failed to fill whole buffer";
    assert_eq!(running.states(2).await[1], json!({ "state": "unreachable", "cause": cause }));
    running.server.behave(Manner::Right);
    assert_eq!(running.states(3).await[2], json!({ "state": "online" }));
    assert_eq!(running.ingress.status().sessions, 1);
}

#[test]
fn names_the_setting_that_cannot_work() {
    let setting = |settings: Value| crate::build("modbus", settings).err().unwrap().setting;
    let with = |value: Value, more: Value| {
        let mut settings = json!({ "connect": "a:502", "units": [{ "unit": 1, "values": [value] }] });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    };
    let plain = json!({ "name": "a", "function": "holding", "address": 0 });
    assert_eq!(setting(with(plain.clone(), json!({ "connect": "a" }))), "connect");
    assert_eq!(setting(with(plain.clone(), json!({ "port": "/dev/ttyS0" }))), "connect");
    assert_eq!(setting(with(plain.clone(), json!({ "span_max": 126 }))), "span_max");
    assert_eq!(setting(with(plain.clone(), json!({ "interval_ms": 0 }))), "interval_ms");
    assert_eq!(setting(with(plain.clone(), json!({ "topic": "a/{port}" }))), "topic");
    assert_eq!(setting(with(plain.clone(), json!({ "units": [] }))), "units");
    let unit = |unit: u8| json!({ "units": [{ "unit": unit, "values": [plain.clone()] }] });
    assert_eq!(setting(with(plain.clone(), unit(250))), "units[0].unit");
    let rtu = json!({ "port": "/dev/ttyS0", "units": [{ "unit": 0, "values": [plain.clone()] }] });
    assert_eq!(setting(rtu), "units[0].unit");
    let value = |more: Value| {
        let mut value = plain.clone();
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        setting(with(value, json!({})))
    };
    assert_eq!(value(json!({ "function": "coil", "type": "u16" })), "units[0].values[0].type");
    assert_eq!(value(json!({ "bit": 3 })), "units[0].values[0].bit");
    assert_eq!(value(json!({ "type": "bool", "bit": 16 })), "units[0].values[0].bit");
    assert_eq!(value(json!({ "type": "string" })), "units[0].values[0].registers");
    assert_eq!(value(json!({ "type": "u64", "address": 65_533 })), "units[0].values[0].address");
    assert_eq!(value(json!({ "scale": 0 })), "units[0].values[0].scale");
    let twice = json!({ "units": [{ "unit": 1, "values": [plain.clone(), plain.clone()] }] });
    assert_eq!(setting(with(plain.clone(), twice)), "units[0].values[1].name");
}
