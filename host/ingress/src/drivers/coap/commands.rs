//! Commands to devices: a PUT or POST, acknowledged by its 2.xx.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::FutureExt;
use futures::stream::FuturesUnordered;
use sandbar_reading::{Command, ContentType, Message};
use tokio::sync::mpsc;

use super::Settings;
use super::decode::content_type;
use super::door::Door;
use crate::coap::call::{Body, CallError};
use crate::coap::dtls::Identities;
use crate::coap::{Caller, Method, Packet, formats};
use crate::devices::Order;
use crate::{CommandError, Session};

/// How many are under way at once.
const UNDER_WAY_MAX: usize = 256;

pub(super) struct Commanding {
    pub(super) settings: Arc<Settings>,
    pub(super) door: Arc<Door>,
    pub(super) caller: Caller,
    pub(super) identities: Identities,
    pub(super) session: Session,
}

impl Commanding {
    pub(super) async fn run(self, mut orders: mpsc::Receiver<Order>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.session.stopped() => return,
                Some(()) = under_way.next() => {}
                Some(order) = orders.recv(), if under_way.len() < UNDER_WAY_MAX => {
                    under_way.push(self.carry_out(order).boxed());
                }
            }
        }
    }

    async fn carry_out(&self, order: Order) {
        match self.send(&order).await {
            Ok(Some(answer)) if order.asks => {
                let answer = message(&order.command, &answer);
                order.answer(answer);
            }
            Ok(_) => order.done(Ok(())),
            Err(error) => order.done(Err(error)),
        }
    }

    async fn send(&self, order: &Order) -> Result<Option<Packet>, CommandError> {
        let command = &order.command;
        let peer = match self.settings.node(&command.device) {
            Some(node) => node.peer(&self.identities).await.map_err(|error| CommandError::from(&error))?,
            None => {
                let place = self.door.place(&command.device);
                place.ok_or_else(|| CommandError::Retry("where the device is is not known".to_owned()))?
            }
        };
        let path = self.settings.command_path.fill(&[(&*command.name).into()]);
        let method = self.settings.command_method;
        let body = Body { format: formats::format(&command.content_type), bytes: command.payload.clone() };
        order.sent();
        match self.caller.send(peer, method, &path, &body).await {
            Ok(answer) => Ok(Some(answer)),
            // Carried out, whatever of the answer is not there.
            Err(CallError::TooLarge { .. } | CallError::Torn) => Ok(None),
            Err(error) => Err((&error).into()),
        }
    }
}

/// What a device said to a command.
fn message(command: &Command, answer: &Packet) -> Message {
    let code = answer.header.code.to_string();
    Message {
        topic: "answer".parse().expect("a topic"),
        device: Some(command.device.clone()),
        content_type: content_type(answer, &ContentType::OCTETS),
        attributes: [("coap.code", code.as_str())].into_iter().collect(),
        payload: Bytes::copy_from_slice(&answer.payload),
    }
}

/// As a setting says it.
pub(super) const fn method(method: super::config::CommandMethod) -> Method {
    match method {
        super::config::CommandMethod::Put => Method::Put,
        super::config::CommandMethod::Post => Method::Post,
    }
}
