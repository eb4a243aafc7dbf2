use std::net::SocketAddr;

use bytes::Bytes;
use sandbar_reading::Refused;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::super::Mqtt;
use super::client::{Client, Hello};
use crate::contract::{Peer, Told};

struct Publisher(SocketAddr);

impl Peer for Publisher {
    type Driver = Mqtt;

    async fn prepare() -> (Self, Value) {
        (Self(([127, 0, 0, 1], 0).into()), json!({ "listen": "127.0.0.1:0" }))
    }

    async fn reach(&mut self, address: Option<SocketAddr>) {
        self.0 = address.expect("it listens");
    }

    async fn send(&self, payload: Bytes) -> Told {
        let mut client = Client::connect(self.0, Hello::five("")).await;
        client.publish(1, 7, "sensors/1", &payload).await;
        match client.next().await {
            Some((0x40, body)) if body.len() == 2 => Told::Acknowledged,
            Some((0x40, body)) => Told::Refused(format!("{:#x}", body[2])),
            Some((0xE0, body)) => Told::Refused(format!("{:#x}", body[0])),
            _ => Told::Nothing,
        }
    }

    fn told_for(&self, refused: &Refused) -> Told {
        Told::Refused(
            match refused {
                Refused::Busy { .. } | Refused::DiskFull | Refused::TooLarge { .. } => "0x97",
                Refused::Storage { .. } => "0x83",
                Refused::Stopping => "0x8b",
            }
            .to_owned(),
        )
    }

    async fn send_garbage(&self, bytes: Bytes) {
        let mut link = Client::link(self.0).await;
        let _ = link.write_all(&bytes).await;
    }

    async fn send_half(&self) -> Box<dyn Send> {
        let mut client = Client::connect(self.0, Hello::five("")).await;
        client.say(0x30, b"").await;
        let mut link = Client::link(self.0).await;
        link.write_all(&[0x10, 20, 0, 4, b'M']).await.unwrap();
        Box::new((client, link))
    }

    async fn idle(&self) -> Box<dyn Send> {
        Box::new(Client::connect(self.0, Hello::three("idle")).await)
    }
}

crate::driver_contract!(Publisher);
