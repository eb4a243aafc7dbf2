//! A server that speaks as much of MongoDB's wire protocol (OP_MSG, and the OP_QUERY of a first hello) as the
//! sink does.

use std::sync::Arc;

use mongodb::bson::{Bson, Document, doc};
use parking_lot::Mutex;
use sandbar_reading::DeliveryId;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::MongoDb;
use crate::contract::{Behaviour, FarEnd};

#[derive(Clone)]
pub(super) struct Server {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    documents: Mutex<Vec<Document>>,
    reached: Notify,
}

const OP_QUERY: i32 = 2004;
const OP_REPLY: i32 = 1;
const OP_MSG: i32 = 2013;

/// 16 KiB more than a document.
const COMMAND_MAX: i32 = (16 << 20) + (16 << 10);

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Take),
            documents: Mutex::default(),
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

    pub(super) fn documents(&self) -> Vec<Document> {
        self.shared.documents.lock().clone()
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let length = stream.read_i32_le().await?;
            let request = stream.read_i32_le().await?;
            stream.read_i32_le().await?;
            let kind = stream.read_i32_le().await?;
            let mut body = vec![0; length as usize - 16];
            stream.read_exact(&mut body).await?;
            let (command, head, answer_kind) = match kind {
                // Flags, name of the collection, two numbers; then the document.
                OP_QUERY => {
                    let name = body[4..].iter().position(|byte| *byte == 0).unwrap();
                    (&body[4 + name + 1 + 8..], [0u8; 20].to_vec(), OP_REPLY)
                }
                // Flags, the kind of the first section; then the document.
                OP_MSG => (&body[5..], [0u8; 5].to_vec(), OP_MSG),
                other => panic!("a client would not send {other}"),
            };
            let command = Document::from_reader(command).unwrap();
            let answer = match length > COMMAND_MAX {
                true => doc! { "ok": 0.0, "code": 10_334, "errmsg": "BSONObj size is invalid" },
                false => self.answer(&command).await,
            };
            let mut message = head;
            if answer_kind == OP_REPLY {
                message[16] = 1;
            }
            answer.to_writer(&mut message).unwrap();
            stream.write_i32_le(message.len() as i32 + 16).await?;
            stream.write_i32_le(7).await?;
            stream.write_i32_le(request).await?;
            stream.write_i32_le(answer_kind).await?;
            stream.write_all(&message).await?;
        }
    }

    async fn answer(&self, command: &Document) -> Document {
        let (name, _) = command.iter().next().unwrap();
        let documents: Vec<Document> = match name.as_str() {
            "insert" => array(command, "documents"),
            "update" => array(command, "updates")
                .iter()
                .map(|update| update.get_document("u").unwrap().clone())
                .collect(),
            "hello" | "isMaster" | "ismaster" => {
                return doc! {
                    "helloOk": true, "isWritablePrimary": true, "ismaster": true, "minWireVersion": 0,
                    "maxWireVersion": 21, "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000,
                    "maxWriteBatchSize": 100_000, "ok": 1.0,
                };
            }
            _ => return doc! { "ok": 1.0 },
        };
        let is_update = name == "update";
        for (index, document) in documents.into_iter().enumerate() {
            if let Some((code, text)) = self.take(document, is_update).await {
                let error = doc! { "index": index as i32, "code": code, "errmsg": text };
                return doc! { "ok": 1.0, "n": index as i32, "writeErrors": [error] };
            }
        }
        doc! { "ok": 1.0, "n": 1 }
    }

    async fn take(&self, document: Document, is_update: bool) -> Option<(i32, &'static str)> {
        let behaviour = *self.shared.behaviour.lock();
        match behaviour {
            Behaviour::Stall => {
                self.shared.reached.notify_one();
                std::future::pending::<()>().await;
            }
            Behaviour::FailAfter(0) => return Some((11_600, "interrupted at shutdown")),
            Behaviour::FailAfter(more) => *self.shared.behaviour.lock() = Behaviour::FailAfter(more - 1),
            Behaviour::Refuse(id) if id_of(&document) == id => {
                return Some((121, "Document failed validation"));
            }
            Behaviour::Refuse(_) | Behaviour::Take => {}
        }
        let mut documents = self.shared.documents.lock();
        match documents.iter().position(|there| there.get("_id") == document.get("_id")) {
            Some(at) if is_update => documents[at] = document,
            Some(_) => {
                return Some((
                    11_000,
                    "E11000 duplicate key error collection: plant.readings index: _id_ dup key",
                ));
            }
            None => documents.push(document),
        }
        None
    }
}

fn array(command: &Document, name: &str) -> Vec<Document> {
    let items = command.get_array(name).unwrap().iter();
    items.map(|item| item.as_document().unwrap().clone()).collect()
}

fn id_of(document: &Document) -> DeliveryId {
    match document.get("_id") {
        Some(Bson::String(id)) => id.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

impl FarEnd for Server {
    type Sink = MongoDb;

    fn settings(&self) -> Json {
        json!({
            "url": format!("mongodb://127.0.0.1:{}", self.port), "database": "plant", "collection": "readings",
        })
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock() = behaviour;
    }

    fn taken(&self) -> Vec<DeliveryId> {
        self.documents().iter().map(id_of).collect()
    }

    async fn reached(&self) {
        self.shared.reached.notified().await;
    }
}
