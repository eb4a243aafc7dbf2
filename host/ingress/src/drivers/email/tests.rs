//! With real sockets, on the loopback address.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sandbar_reading::{ContentType, Message, Refused};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::Email;
use crate::contract::{Ending, Peer, StandIn, Told, in_time, running, supervise};
use crate::tls::testing::self_signed;
use crate::{Answer, Supervised};

/// A client that says what it is told to, byte for byte.
struct Client<S = TcpStream>(BufReader<S>);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    /// Past the greeting and EHLO.
    async fn greeted(address: SocketAddr) -> Self {
        let mut client = Self::connect(address).await;
        assert_eq!(client.reply().await, "220 localhost ESMTP Sandbar");
        client.says("EHLO test\r\n").await;
        client
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    /// The last line of the next reply; empty if the connection is over.
    async fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            let _ = in_time(self.0.read_line(&mut line)).await;
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    async fn says(&mut self, bytes: impl AsRef<[u8]>) -> String {
        self.write(bytes).await;
        self.reply().await
    }

    /// Sends a message, and resolves with the answer to it.
    async fn send(&mut self, message: &str) -> String {
        assert!(self.says("MAIL FROM:<a@x>\r\n").await.starts_with("250"));
        assert!(self.says("RCPT TO:<b@y>\r\n").await.starts_with("250"));
        assert!(self.says("DATA\r\n").await.starts_with("354"));
        self.says(format!("{message}\r\n.\r\n")).await
    }
}

struct SmtpPeer(Option<SocketAddr>);

impl SmtpPeer {
    fn address(&self) -> SocketAddr {
        self.0.unwrap()
    }
}

impl Peer for SmtpPeer {
    type Driver = Email;

    async fn prepare() -> (Self, Value) {
        (Self(None), json!({ "listen": "127.0.0.1:0", "payload": "body" }))
    }

    async fn reach(&mut self, address: Option<SocketAddr>) {
        self.0 = address;
    }

    async fn send(&self, payload: Bytes) -> Told {
        let mut client = Client::greeted(self.address()).await;
        let head = "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n";
        assert!(client.says("MAIL FROM:<a@x>\r\n").await.starts_with("250"));
        assert!(client.says("RCPT TO:<b@y>\r\n").await.starts_with("250"));
        assert!(client.says("DATA\r\n").await.starts_with("354"));
        client.write(format!("{head}{}\r\n.\r\n", STANDARD.encode(payload))).await;
        // As long as it takes.
        let mut line = String::new();
        match client.0.read_line(&mut line).await {
            Ok(0) | Err(_) => Told::Nothing,
            Ok(_) if line.starts_with("250") => Told::Acknowledged,
            Ok(_) => Told::Refused(line[..3].to_owned()),
        }
    }

    fn told_for(&self, refused: &Refused) -> Told {
        let code = match refused {
            Refused::TooLarge { .. } => "552",
            Refused::DiskFull | Refused::Busy { .. } => "452",
            Refused::Storage { .. } => "451",
            Refused::Stopping => "421",
        };
        Told::Refused(code.to_owned())
    }

    async fn send_garbage(&self, bytes: Bytes) {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        // The driver may hang up before all of it was written.
        let _ = stream.write_all(&bytes).await;
    }

    async fn send_half(&self) -> Box<dyn Send> {
        let mut client = Client::greeted(self.address()).await;
        client.write("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nSubject: half\r\n\r\nha").await;
        Box::new(client)
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(TcpStream::connect(self.address()).await.unwrap())
    }
}

mod contract {
    crate::driver_contract!(super::SmtpPeer);
}

/// A server that runs.
struct Server {
    host: Arc<StandIn>,
    ingress: Supervised,
    address: SocketAddr,
}

impl Server {
    async fn start(more: Value) -> Self {
        let host = StandIn::with_reading_max(100_000);
        let mut settings = json!({ "listen": "127.0.0.1:0" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ingress = supervise::<Email>(settings, &host);
        let address = running(&ingress).await.address.unwrap();
        Self { host, ingress, address }
    }

    async fn client(&self) -> Client {
        Client::greeted(self.address).await
    }
}

#[tokio::test]
async fn a_whole_conversation_may_come_at_once() {
    let server = Server::start(json!({})).await;
    let mut client = Client::connect(server.address).await;
    client
        .write("EHLO a\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nDATA\r\n..stuffed\r\n.\r\nMAIL FROM:<a@x>\r\nRSET\r\nQUIT\r\n")
        .await;
    let mut codes = Vec::new();
    loop {
        match client.reply().await {
            end if end.is_empty() => break,
            reply => codes.push(reply[..3].to_owned()),
        }
    }
    assert_eq!(codes, ["220", "250", "250", "250", "250", "354", "250", "250", "250", "221"]);
    let taken = server.host.taken();
    let payload: Value = serde_json::from_slice(&taken[0].inbound.payload).unwrap();
    assert_eq!((taken.len(), &payload["to"]), (1, &json!(["b@y", "c@y"])));
}

#[tokio::test]
async fn a_refused_or_forgotten_message_leaves_nothing_for_the_next() {
    let server = Server::start(json!({ "message_max": 1000 })).await;
    let mut client = server.client().await;
    assert!(client.send(&"x".repeat(2000)).await.starts_with("552 5.3.4"), "too large, and taken to its end");
    assert!(client.says("MAIL FROM:<a@x>\r\n").await.starts_with("250"));
    assert!(client.says("RCPT TO:<stale@y>\r\n").await.starts_with("250"));
    assert!(client.says("RSET\r\n").await.starts_with("250"));
    assert!(client.send("Subject: next\r\n\r\nx").await.starts_with("250 2.0.0 taken as 0"));
    let payload: Value = serde_json::from_slice(&server.host.taken()[0].inbound.payload).unwrap();
    assert_eq!(payload["to"], json!(["b@y"]));
}

#[tokio::test]
async fn a_message_with_a_bare_line_feed_is_refused_and_nothing_in_it_is_obeyed() {
    let server = Server::start(json!({})).await;
    for smuggled in ["\n.\n", "\n.\r\n", "\r.\r\n", "\r\n.\r"] {
        let mut client = server.client().await;
        let talk = format!("x{smuggled}MAIL FROM:<evil@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nevil\r\n.\r\n");
        assert!(client.send(&talk).await.starts_with("550 5.6.0"), "{smuggled:?}");
        assert_eq!(client.reply().await, "", "{smuggled:?}: the connection is over");
    }
    assert!(server.host.taken().is_empty());
}

#[tokio::test]
async fn too_many_connections_and_too_many_bytes_are_refused_for_now() {
    let server = Server::start(json!({ "connections_max": 1, "messages_max": 1000 })).await;
    let mut first = server.client().await;
    let mut second = Client::connect(server.address).await;
    assert!(second.reply().await.starts_with("421 4.3.2"));
    assert!(first.send(&"x".repeat(2000)).await.starts_with("452 4.3.1"));
    assert!(first.send("x").await.starts_with("250"), "what it had was given back");
}

#[tokio::test]
async fn a_slow_peer_is_told_so() {
    let settings = json!({ "command_timeout_ms": 100, "data_timeout_ms": 100, "message_timeout_ms": 100 });
    let server = Server::start(settings).await;
    let mut idle = server.client().await;
    assert!(idle.reply().await.starts_with("421 4.4.2"));
    let mut half = server.client().await;
    half.write("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nhalf").await;
    while !half.reply().await.starts_with("354") {}
    assert!(half.reply().await.starts_with("421 4.4.2"));
    assert!(server.host.taken().is_empty());
}

#[tokio::test]
async fn who_is_connected_when_it_stops_is_told_so() {
    let server = Server::start(json!({})).await;
    let mut client = server.client().await;
    server.ingress.stop(std::time::Duration::from_secs(5)).await;
    assert!(client.reply().await.starts_with("421 4.3.2"));
}

#[tokio::test]
async fn a_handler_says_what_becomes_of_a_message() {
    let server = Server::start(json!({ "reply_timeout_ms": 50 })).await;
    let reply = Message {
        topic: "reply".parse().unwrap(),
        device: None,
        content_type: ContentType::TEXT,
        attributes: Default::default(),
        payload: "ticket 7".into(),
    };
    let again = Answer::Retrying("database is down".to_owned());
    for (answers, ending, expected) in [
        (vec![Answer::Reply(reply)], Ending::Ended, "250 2.0.0"),
        (vec![Answer::Rejected("no such plant".to_owned())], Ending::Ended, "554 5.6.0"),
        (vec![again.clone()], Ending::Open, "250 2.0.0"),
        (vec![again, Answer::Rejected("given up".to_owned())], Ending::Open, "554 5.6.0"),
        (vec![], Ending::Ended, "250 2.0.0"),
        (vec![], Ending::Open, "250 2.0.0"),
    ] {
        server.host.answer(answers.clone(), ending);
        let said = server.client().await.send("x").await;
        assert!(said.starts_with(expected), "{answers:?}: {said}");
    }
    assert_eq!(server.host.taken().len(), 6, "all are on disk, whatever was said");
}

/// Trusts the certificate of [`self_signed`] and no other.
async fn handshake(
    stream: TcpStream,
    tls: &crate::tls::ServerTls,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let client = sandbar_tls::ClientTls { ca_file: Some(tls.certificate_file.clone()), ..Default::default() };
    let (connector, name) = client.connector("localhost").unwrap().current();
    in_time(connector.connect(name, stream)).await.unwrap()
}

#[tokio::test]
async fn what_was_sent_ahead_of_the_handshake_is_not_carried_out() {
    let folder = tempfile::tempdir().unwrap();
    let tls = self_signed(folder.path());
    let files = json!({ "certificate_file": tls.certificate_file, "key_file": tls.key_file });
    let server = Server::start(json!({ "tls": files, "tls_required": true })).await;
    let mut client = server.client().await;
    assert!(client.says("MAIL FROM:<a@x>\r\n").await.starts_with("530"));
    // CVE-2011-0411: the commands after STARTTLS are somebody else's.
    client.write("STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<evil@y>\r\n").await;
    assert!(client.reply().await.starts_with("220"));
    let mut client = Client(BufReader::new(handshake(client.0.into_inner(), &tls).await));
    assert!(client.says("RCPT TO:<b@y>\r\n").await.starts_with("503"), "neither EHLO nor MAIL was heard");
    assert!(client.says("EHLO test\r\n").await.starts_with("250"));
    assert!(client.send("x").await.starts_with("250"));
    let taken = server.host.taken();
    assert_eq!(taken[0].inbound.attributes.get("email.tls"), Some("true"));
    assert_eq!(taken[0].inbound.attributes.get("email.recipient"), Some("b@y"));
}

#[tokio::test]
async fn tls_may_be_there_from_the_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let tls = self_signed(folder.path());
    let files = json!({ "certificate_file": tls.certificate_file, "key_file": tls.key_file });
    let server = Server::start(json!({ "tls": files, "tls_mode": "implicit", "users": { "a": "b" } })).await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"EHLO test\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = in_time(plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"220"), "{answer:?}");

    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut client = Client(BufReader::new(handshake(stream, &tls).await));
    assert!(client.reply().await.starts_with("220"));
    assert!(client.says("EHLO test\r\n").await.starts_with("250 AUTH PLAIN LOGIN"));
    assert!(client.says("MAIL FROM:<a@x>\r\n").await.starts_with("530 5.7.0"));
    assert!(client.says("AUTH PLAIN AGEAYg==\r\n").await.starts_with("235"));
    assert!(client.send("x").await.starts_with("250"));
    assert_eq!(server.host.taken()[0].inbound.attributes.get("email.user"), Some("a"));
}
