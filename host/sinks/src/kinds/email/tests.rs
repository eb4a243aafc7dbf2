use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::address::Envelope;
use parking_lot::Mutex;
use sandbar_reading::DeliveryId;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;
use crate::contract::{self, Behaviour, FarEnd, deliveries, delivery};

/// A mail server that behaves as it is told, and keeps what it is sent.
#[derive(Clone)]
struct Server {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    connections: Mutex<usize>,
    /// Whom connections logged in as, and with what.
    logins: Mutex<Vec<String>>,
    taken: Mutex<Vec<(DeliveryId, String)>>,
    reached: Notify,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Take),
            connections: Mutex::default(),
            logins: Mutex::default(),
            taken: Mutex::default(),
            reached: Notify::new(),
        });
        let served = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *served.connections.lock() += 1;
                let shared = Arc::clone(&served);
                tokio::spawn(async move { shared.serve(stream).await });
            }
        });
        Self { port, shared }
    }

    fn sink(&self, more: &Value) -> Email {
        let mut settings = self.settings();
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        contract::sink::<Self>(settings)
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 test\r\n").await?;
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 0 {
            let reply = match line.get(..4).unwrap_or_default() {
                "DATA" => {
                    stream.write_all(b"354 go\r\n").await?;
                    let mut message = String::new();
                    while !message.ends_with("\r\n.\r\n") {
                        if stream.read_line(&mut message).await? == 0 {
                            return Ok(());
                        }
                    }
                    self.take(message).await
                }
                "EHLO" => "250-test\r\n250 AUTH PLAIN",
                "AUTH" => self.log_in(&line),
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
            line.clear();
        }
        Ok(())
    }

    /// `AUTH PLAIN`, and in base64 a NUL, the user, a NUL, the password (RFC 4616).
    fn log_in(&self, line: &str) -> &'static str {
        let said = STANDARD.decode(line.trim_end().rsplit(' ').next().unwrap()).unwrap();
        self.logins.lock().push(String::from_utf8(said).unwrap());
        "235 welcome"
    }

    async fn take(&self, message: String) -> &'static str {
        let id = message.lines().find_map(|line| line.strip_prefix("Message-ID: <")).unwrap();
        let id: DeliveryId = id.split('@').next().unwrap().parse().unwrap();
        let behaviour = *self.behaviour.lock();
        match behaviour {
            Behaviour::Stall => {
                self.reached.notify_one();
                std::future::pending().await
            }
            Behaviour::FailAfter(0) => "451 4.3.0 later",
            Behaviour::Refuse(refused) if refused == id => "554 5.6.0 never",
            _ => {
                if let Behaviour::FailAfter(more) = behaviour {
                    *self.behaviour.lock() = Behaviour::FailAfter(more - 1);
                }
                self.taken.lock().push((id, message));
                "250 ok"
            }
        }
    }
}

impl FarEnd for Server {
    type Sink = Email;
    const ONE_BY_ONE: bool = true;

    fn settings(&self) -> Value {
        json!({ "host": "127.0.0.1", "port": self.port, "tls": "none", "from": "a@example.com", "to": ["b@example.com"] })
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock() = behaviour;
    }

    fn taken(&self) -> Vec<DeliveryId> {
        self.shared.taken.lock().iter().map(|(id, _)| *id).collect()
    }

    async fn reached(&self) {
        self.shared.reached.notified().await;
    }
}

#[tokio::test]
async fn keeps_the_contract_of_sinks() {
    contract::check(&Server::start().await).await;
}

#[tokio::test]
async fn a_batch_goes_over_one_connection() {
    let server = Server::start().await;
    server.sink(&json!({})).deliver(&deliveries(0..20), &Progress::default()).await.unwrap();
    assert_eq!((server.taken().len(), *server.shared.connections.lock()), (20, 1));
}

#[tokio::test]
async fn a_renewed_password_logs_the_next_connection_in() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    contract::renew(&password, "one\n");
    let sink = server.sink(&json!({ "user": "u", "password": { "file": password } }));
    sink.deliver(&deliveries(0..1), &Progress::default()).await.unwrap();
    contract::renew(&password, "two\n");
    sink.deliver(&deliveries(1..2), &Progress::default()).await.unwrap();
    std::fs::remove_file(&password).unwrap();
    sink.deliver(&deliveries(2..3), &Progress::default()).await.unwrap();
    assert_eq!(*server.shared.logins.lock(), ["\0u\0one", "\0u\0two", "\0u\0two"]);
}

#[tokio::test]
async fn a_server_without_starttls_gets_no_message() {
    let server = Server::start().await;
    match server
        .sink(&json!({ "tls": "starttls" }))
        .deliver(&deliveries(0..1), &Progress::default())
        .await
        .unwrap_err()
    {
        DeliveryError::Retry { delivered: 0, cause, .. } => {
            assert!(cause.to_string().contains("STARTTLS"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
    assert!(server.taken().is_empty());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = json!({ "port": listener.local_addr().unwrap().port(), "timeout_ms": 50 });
    let sink = Server::start().await.sink(&settings);
    match sink.deliver(&deliveries(0..1), &Progress::default()).await.unwrap_err() {
        DeliveryError::Retry { delivered: 0, cause, .. } => {
            assert!(cause.to_string().ends_with("within 50 ms"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

fn composed(more: &Value, delivery: &Delivery) -> Result<(Envelope, String), Cause> {
    let mut settings = json!({ "host": "h", "from": "Box <a@example.com>", "to": ["b@example.com"] });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = sandbar_reading::settings(settings).unwrap();
    let (envelope, bytes) = Composer::new(&config).unwrap().compose(delivery)?;
    Ok((envelope, String::from_utf8(bytes).unwrap()))
}

#[test]
fn a_message_is_made_of_templates_and_the_same_at_every_attempt() {
    let settings = json!({
        "to": ["{{ device }}@example.com, Second <c@example.com>", "d@example.com"],
        "subject": "{{ device }} über {{ payload.count }}",
        "body": "{{ payload.count }} at {{ time }}",
        "html": "<b>{{ topic }} {{ '<i>' }}</b>",
        "attachment": "{{ device }}.json",
    });
    let (envelope, text) = composed(&settings, &delivery(7)).unwrap();
    assert_eq!(text, composed(&settings, &delivery(7)).unwrap().1);
    let to: Vec<_> = envelope.to().iter().map(ToString::to_string).collect();
    assert_eq!(to, ["k1@example.com", "c@example.com", "d@example.com"]);
    for part in [
        "Message-ID: <01HF7YAT000000000000000007@example.com>\r\n",
        "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n",
        "From: Box <a@example.com>\r\n",
        "Subject: k1 =?utf-8?b?",
        "7 at 2023-11-14T22:13:20.007000Z",
        "<b>sensors/kitchen &lt;i&gt;</b>",
        "Content-Disposition: attachment; filename=\"k1.json\"",
        "Content-Type: application/json",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn no_value_adds_a_header_or_a_recipient() {
    let mut evil = delivery(1);
    evil.message.topic = "a\r\nBcc: evil@example.com\r\n\r\nbody".parse().unwrap();
    evil.message.device = Some("x@example.com>\r\nRCPT TO:<evil@example.com".into());
    let (envelope, text) =
        composed(&json!({ "subject": "{{ topic }}", "attachment": "{{ topic }}" }), &evil).unwrap();
    assert!(!text.lines().any(|line| line.starts_with("Bcc")), "{text}");
    assert_eq!(envelope.to().len(), 1);
    let error = composed(&json!({ "to": ["{{ device }}"] }), &evil).unwrap_err().to_string();
    assert!(error.starts_with("to[0]: "), "{error}");
}

#[test]
fn settings_that_cannot_work_are_named() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    for (more, at) in [
        (json!({ "host": "" }), "host"),
        (json!({ "from": "nobody" }), "from"),
        (json!({ "to": [] }), "to"),
        (json!({ "to": ["a@x.example", "b@"] }), "to[1]"),
        (json!({ "to": ["{{ a"] }), "to[0]"),
        (json!({ "subject": "{% if %}" }), "subject"),
        (json!({ "user": "a" }), "password"),
        (json!({ "password": "a" }), "user"),
        (json!({ "user": "a", "password": { "env": "SANDBAR_NOT_SET" } }), "password"),
        (json!({ "hello": "a b" }), "hello"),
        (json!({ "ca_file": "/nowhere/ca.pem" }), "ca_file"),
        (json!({ "ca_file": empty.path() }), "ca_file"),
        (json!({ "tls": "maybe" }), "tls"),
        (json!({ "timeout_ms": 0 }), "timeout_ms"),
    ] {
        let mut settings = json!({ "host": "h", "from": "a@example.com", "to": ["b@example.com"] });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(
            crate::build("email", settings).err().map(|error| error.setting).as_deref(),
            Some(at),
            "{more}"
        );
    }
}
