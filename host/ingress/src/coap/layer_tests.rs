//! The layer against messages written by hand, on a clock of the test's own.

use std::time::Duration;

use tokio::time::Instant;

use super::layer::{Event, Failure, Layer, Parameters, Ticket, Token};
use super::packet::{self, Code, MessageClass, MessageType, Method, Opt, Packet, Parsed, response};

const PEER: u8 = 7;
const TOKEN: Token = *b"\x01\x02\x03\x04\x05\x06\x07\x08";

struct Rig {
    layer: Layer<u8>,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        Self { layer: Layer::new(Parameters::default(), 0, || 0.0), now: Instant::now() }
    }

    fn pass(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        self.layer.tick(self.now).iter().map(say).collect()
    }

    fn receive(&mut self, packet: &Packet) -> Option<Event<u8>> {
        self.layer.receive(PEER, &packet::bytes(packet), self.now)
    }

    fn ticket(&mut self, packet: &Packet) -> Ticket<u8> {
        match self.receive(packet) {
            Some(Event::Request(ticket, _)) => ticket,
            other => panic!("{other:?}"),
        }
    }

    /// What goes out: type, code, message id, and payload.
    fn sent(&mut self) -> Vec<String> {
        let outgoing = self.layer.take_outgoing();
        outgoing.iter().map(|(_, bytes)| shown(bytes)).collect()
    }

    fn ask(&mut self) {
        let request = packet::request(Method::Get, "/a", &[]);
        self.layer.request(PEER, TOKEN, request, Duration::from_secs(100), self.now).unwrap();
    }
}

fn shown(bytes: &[u8]) -> String {
    let Parsed::Message(packet) = packet::parse(bytes) else { panic!("{bytes:?}") };
    let kind = match packet.header.get_type() {
        MessageType::Confirmable => "CON",
        MessageType::NonConfirmable => "NON",
        MessageType::Acknowledgement => "ACK",
        MessageType::Reset => "RST",
    };
    let text = String::from_utf8_lossy(&packet.payload).into_owned();
    format!("{kind} {} {} {text}", packet.header.code, packet.header.message_id).trim_end().to_owned()
}

fn say(event: &Event<u8>) -> String {
    match event {
        Event::Request(..) => "request".to_owned(),
        Event::Response(_, _, packet, ticket) => {
            format!("{} {}", packet.header.code, if ticket.is_some() { "to be taken" } else { "" })
                .trim_end()
                .to_owned()
        }
        Event::Failed(_, _, failure) => failure.to_string(),
        Event::Acknowledged(..) => "acknowledged".to_owned(),
    }
}

fn message(kind: MessageType, code: impl Into<MessageClass>, id: u16, token: &[u8]) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = code.into();
    packet.header.message_id = id;
    packet.set_token(token.to_vec());
    packet
}

fn post(kind: MessageType, id: u16) -> Packet {
    message(kind, MessageClass::Request(Method::Post), id, b"\x09")
}

fn changed(kind: MessageType, id: u16, token: &[u8]) -> Packet {
    message(kind, MessageClass::Response(Code::Changed), id, token)
}

fn notification(kind: MessageType, id: u16) -> Packet {
    let mut packet = message(kind, MessageClass::Response(Code::Content), id, &TOKEN);
    packet::set_uint(&mut packet, Opt::Observe, u32::from(id));
    packet
}

fn answer(rig: &mut Rig, ticket: &Ticket<u8>) {
    rig.layer.answer(ticket, response(Code::Changed), rig.now);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_is_answered_again_and_not_taken_again() {
    let mut rig = Rig::new();
    let ticket = rig.ticket(&post(MessageType::Confirmable, 40));
    assert!(rig.receive(&post(MessageType::Confirmable, 40)).is_none());
    assert!(rig.sent().is_empty());
    answer(&mut rig, &ticket);
    assert_eq!(rig.sent(), ["ACK 2.04 40"]);
    assert!(rig.receive(&post(MessageType::Confirmable, 40)).is_none());
    assert_eq!(rig.sent(), ["ACK 2.04 40"]);
    rig.pass(300);
    rig.ticket(&post(MessageType::Confirmable, 41));
    rig.ticket(&post(MessageType::Confirmable, 40));
}

/// A node that was switched off, and begins to count again.
#[tokio::test(start_paused = true)]
async fn another_message_under_a_used_id_is_not_taken_for_a_repetition() {
    let mut rig = Rig::new();
    let (mut colder, mut warmer) = (post(MessageType::Confirmable, 1), post(MessageType::Confirmable, 1));
    colder.payload = b"20.5".to_vec();
    warmer.payload = b"21.5".to_vec();
    let first = rig.ticket(&colder);
    let second = rig.ticket(&warmer);
    answer(&mut rig, &first);
    assert_eq!(rig.sent(), ["ACK 2.04 1"]);
    // What was said to the first is not said to the second.
    assert!(rig.receive(&warmer).is_none());
    assert!(rig.sent().is_empty());
    answer(&mut rig, &second);
    assert!(rig.receive(&warmer).is_none());
    assert_eq!(rig.sent(), ["ACK 2.04 1", "ACK 2.04 1"]);
    // The second is remembered for as long as if it had been the only one.
    rig.pass(200);
    rig.ticket(&colder);
    rig.pass(100);
    rig.ticket(&post(MessageType::Confirmable, 2));
    assert!(rig.receive(&colder).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_counts_when_it_is_repeated() {
    let mut rig = Rig::new();
    let ticket = rig.ticket(&post(MessageType::NonConfirmable, 40));
    rig.layer.forget(&ticket);
    let ticket = rig.ticket(&post(MessageType::NonConfirmable, 40));
    answer(&mut rig, &ticket);
    assert_eq!(rig.sent(), ["NON 2.04 1"]);
    assert!(rig.receive(&post(MessageType::NonConfirmable, 40)).is_none());
    assert!(rig.sent().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_comes_by_itself_until_it_is_acknowledged() {
    let mut rig = Rig::new();
    let ticket = rig.ticket(&post(MessageType::Confirmable, 40));
    rig.pass(1);
    assert_eq!(rig.sent(), ["ACK 0.00 40"]);
    assert!(rig.receive(&post(MessageType::Confirmable, 40)).is_none());
    assert_eq!(rig.sent(), ["ACK 0.00 40"]);
    answer(&mut rig, &ticket);
    assert_eq!(rig.sent(), ["CON 2.04 1"]);
    rig.pass(2);
    assert_eq!(rig.sent(), ["CON 2.04 1"]);
    assert!(rig.receive(&message(MessageType::Acknowledgement, MessageClass::Empty, 1, b"")).is_none());
    assert!(rig.pass(100).is_empty());
    assert!(rig.sent().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_again_ever_more_slowly_and_then_given_up() {
    let mut rig = Rig::new();
    rig.ask();
    assert_eq!(rig.sent(), ["CON 0.01 1"]);
    for wait in [2, 4, 8, 16] {
        rig.pass(wait - 1);
        assert!(rig.sent().is_empty());
        rig.pass(1);
        assert_eq!(rig.sent(), ["CON 0.01 1"]);
    }
    assert_eq!(rig.pass(32), ["no answer in time"]);
    // Too late: nobody knows the token any more.
    assert!(rig.receive(&changed(MessageType::Confirmable, 50, &TOKEN)).is_none());
    assert_eq!(rig.sent(), ["RST 0.00 50"]);
}

#[tokio::test(start_paused = true)]
async fn answers_belong_to_their_requests() {
    let mut rig = Rig::new();
    rig.ask();
    // Of another message, of another token, of nothing.
    assert!(rig.receive(&changed(MessageType::Acknowledgement, 2, &TOKEN)).is_none());
    assert!(rig.receive(&changed(MessageType::Acknowledgement, 1, b"\x01")).is_none());
    assert!(rig.receive(&changed(MessageType::NonConfirmable, 60, b"\x01")).is_none());
    rig.sent();
    let event = rig.receive(&changed(MessageType::Acknowledgement, 1, &TOKEN)).unwrap();
    assert_eq!(say(&event), "2.04");
    assert!(rig.receive(&changed(MessageType::Acknowledgement, 1, &TOKEN)).is_none());
    rig.ask();
    assert!(rig.receive(&message(MessageType::Acknowledgement, MessageClass::Empty, 2, b"")).is_none());
    rig.sent();
    assert!(rig.pass(99).is_empty() && rig.sent().is_empty());
    let event = rig.receive(&changed(MessageType::Confirmable, 61, &TOKEN)).unwrap();
    assert_eq!((say(&event), rig.sent()), ("2.04".to_owned(), vec!["ACK 0.00 61".to_owned()]));
    assert!(rig.receive(&changed(MessageType::Confirmable, 61, &TOKEN)).is_none());
    assert_eq!(rig.sent(), ["ACK 0.00 61"]);
}

#[tokio::test(start_paused = true)]
async fn one_peer_is_asked_one_thing_at_a_time() {
    let mut rig = Rig::new();
    rig.ask();
    let request = packet::request(Method::Get, "/b", &[]);
    rig.layer.request(PEER, [9; 8], request, Duration::from_secs(100), rig.now).unwrap();
    assert_eq!(rig.sent(), ["CON 0.01 1"]);
    let reset = message(MessageType::Reset, MessageClass::Empty, 1, b"");
    assert_eq!(say(&rig.receive(&reset).unwrap()), "it was not understood (RST)");
    assert_eq!(rig.sent(), ["CON 0.01 2"]);
    for number in 0..64 {
        let request = packet::request(Method::Get, "/b", &[]);
        rig.layer.request(PEER, [number; 8], request, Duration::from_secs(100), rig.now).unwrap();
    }
    let request = packet::request(Method::Get, "/b", &[]);
    let full = rig.layer.request(PEER, [99; 8], request, Duration::from_secs(100), rig.now);
    assert_eq!(full, Err(Failure::Full));
}

#[tokio::test(start_paused = true)]
async fn a_notification_is_acknowledged_once_it_was_taken() {
    let mut rig = Rig::new();
    let mut request = packet::request(Method::Get, "/a", &[]);
    packet::set_uint(&mut request, Opt::Observe, 0);
    rig.layer.request(PEER, TOKEN, request, Duration::from_secs(100), rig.now).unwrap();
    let first = rig.receive(&notification(MessageType::Acknowledgement, 1)).unwrap();
    assert_eq!(say(&first), "2.05");
    rig.sent();
    let Some(Event::Response(.., Some(ticket))) = rig.receive(&notification(MessageType::Confirmable, 70))
    else {
        panic!("no notification")
    };
    assert!(rig.receive(&notification(MessageType::Confirmable, 70)).is_none());
    assert!(rig.sent().is_empty());
    rig.layer.forget(&ticket);
    let again = rig.receive(&notification(MessageType::Confirmable, 70));
    let Some(Event::Response(.., Some(ticket))) = again else { panic!("{again:?}") };
    rig.layer.acknowledge(&ticket);
    assert_eq!(rig.sent(), ["ACK 0.00 70"]);
    rig.layer.give_up(PEER, TOKEN, rig.now);
    assert!(rig.receive(&notification(MessageType::NonConfirmable, 71)).is_none());
    assert_eq!(rig.sent(), ["RST 0.00 71"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_understood_is_reset_and_pings_are_answered() {
    let mut rig = Rig::new();
    assert!(rig.receive(&message(MessageType::Confirmable, MessageClass::Empty, 5, b"")).is_none());
    assert!(rig.layer.receive(PEER, b"\x40\x20\x00\x06", rig.now).is_none());
    assert!(rig.layer.receive(PEER, b"\x50\x20\x00\x07", rig.now).is_none());
    assert!(rig.receive(&post(MessageType::Acknowledgement, 8)).is_none());
    assert_eq!(rig.sent(), ["RST 0.00 5", "RST 0.00 6"]);
}

#[tokio::test(start_paused = true)]
async fn so_much_is_remembered_only() {
    let parameters = Parameters { heard_max: 2, ..Parameters::default() };
    let mut rig = Rig { layer: Layer::new(parameters, 0, || 0.0), now: Instant::now() };
    for id in 1..=3 {
        let ticket = rig.ticket(&post(MessageType::Confirmable, id));
        answer(&mut rig, &ticket);
    }
    assert!(rig.receive(&post(MessageType::Confirmable, 3)).is_none());
    rig.ticket(&post(MessageType::Confirmable, 1));
}
