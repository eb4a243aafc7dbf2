//! A server that speaks as much of Redis's protocol (RESP 2) as the sink does.

use std::sync::Arc;

use parking_lot::Mutex;
use sandbar_reading::DeliveryId;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::Redis;
use crate::contract::{Behaviour, FarEnd};

pub(super) type Command = Vec<Vec<u8>>;

#[derive(Clone)]
pub(super) struct Server {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    commands: Mutex<Vec<Command>>,
    /// What connections showed.
    passwords: Mutex<Vec<String>>,
    reached: Notify,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Take),
            commands: Mutex::default(),
            passwords: Mutex::default(),
            reached: Notify::new(),
        });
        let server = Self { port, shared };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = serving.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        server
    }

    /// All that was taken, without what only sets a connection up.
    pub(super) fn commands(&self) -> Vec<Command> {
        self.shared.commands.lock().clone()
    }

    pub(super) fn passwords(&self) -> Vec<String> {
        self.shared.passwords.lock().clone()
    }

    async fn serve(&self, stream: TcpStream) -> Option<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        loop {
            let mut command = Vec::new();
            for _ in 0..number(&mut reader, '*').await? {
                let mut part = vec![0; number(&mut reader, '$').await?];
                reader.read_exact(&mut part).await.ok()?;
                reader.read_exact(&mut [0; 2]).await.ok()?;
                command.push(part);
            }
            let answer = self.answer(command).await;
            writer.write_all(answer.as_bytes()).await.ok()?;
        }
    }

    async fn answer(&self, command: Command) -> String {
        if let [name, .., password] = &command[..]
            && name == b"AUTH"
        {
            self.shared.passwords.lock().push(String::from_utf8_lossy(password).into_owned());
        }
        if matches!(&command[0][..], b"AUTH" | b"CLIENT" | b"HELLO" | b"SELECT") {
            return "+OK\r\n".to_owned();
        }
        let behaviour = *self.shared.behaviour.lock();
        match behaviour {
            Behaviour::Stall => {
                self.shared.reached.notify_one();
                std::future::pending().await
            }
            Behaviour::FailAfter(0) => {
                "-OOM command not allowed when used memory > 'maxmemory'.\r\n".to_owned()
            }
            Behaviour::Refuse(id) if id_of(&command) == Some(id) => {
                "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n".to_owned()
            }
            behaviour => {
                if let Behaviour::FailAfter(more) = behaviour {
                    *self.shared.behaviour.lock() = Behaviour::FailAfter(more - 1);
                }
                self.shared.commands.lock().push(command);
                ":1\r\n".to_owned()
            }
        }
    }
}

async fn number(reader: &mut (impl AsyncBufReadExt + Unpin), kind: char) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).await.ok()?;
    line.strip_prefix(kind)?.trim_end().parse().ok()
}

fn id_of(command: &Command) -> Option<DeliveryId> {
    let at = command.iter().position(|part| part == b"id")?;
    std::str::from_utf8(&command[at + 1]).ok()?.parse().ok()
}

impl FarEnd for Server {
    type Sink = Redis;

    fn settings(&self) -> Json {
        json!({ "url": format!("redis://:hunter2@127.0.0.1:{}", self.port), "key": "readings:{{ topic }}" })
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock() = behaviour;
    }

    fn taken(&self) -> Vec<DeliveryId> {
        self.commands().iter().filter_map(id_of).collect()
    }

    async fn reached(&self) {
        self.shared.reached.notified().await;
    }
}
