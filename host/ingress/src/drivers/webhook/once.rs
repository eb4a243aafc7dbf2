//! Requests with an idempotency key: taken once, however often they are sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use sandbar_reading::{Inbound, ReadingId, Refused, StateWrite};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::{Accepted, Session};

/// How long a key is remembered.
const REMEMBERED: Duration = Duration::from_hours(24);

const KEY_MAX: usize = 255;

/// A sender's key at a path, as it is kept: `idempotency/<hash>`.
pub(super) type Key = Box<str>;

pub(super) enum Taken {
    New(Accepted),
    /// It was taken before. The id is unknown if the host died between taking it and answering.
    Before(Option<ReadingId>),
}

/// Requests with the same key wait for each other.
#[derive(Default)]
pub(super) struct Once {
    running: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
}

/// The key of a request, if it has one.
pub(super) fn key(header: &HeaderName, headers: &HeaderMap, path: &str) -> Result<Option<Key>, Problem> {
    let Some(key) = headers.get(header) else { return Ok(None) };
    if key.is_empty() || key.len() > KEY_MAX {
        return Err(Problem::bad_key());
    }
    let hash = Sha256::new().chain_update(path).chain_update([0]).chain_update(key).finalize();
    let mut name = String::from("idempotency/");
    for byte in hash {
        name.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
    }
    Ok(Some(name.into()))
}

impl Once {
    /// Goes on when the sender hangs up: a repetition must find out whether the first one was taken.
    pub(super) async fn accept(
        self: &Arc<Self>,
        session: Session,
        key: Key,
        inbound: Inbound,
    ) -> Result<Taken, Refused> {
        let once = Arc::clone(self);
        let task = tokio::spawn(async move {
            let turn = once.turn(&key);
            let taken = {
                let _turn = turn.lock().await;
                accept(&session, &key, inbound).await
            };
            once.leave(&key, turn);
            taken
        });
        task.await.unwrap_or(Err(Refused::Stopping))
    }

    fn turn(&self, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.running.lock().entry(key.clone()).or_default())
    }

    fn leave(&self, key: &Key, turn: Arc<tokio::sync::Mutex<()>>) {
        let mut running = self.running.lock();
        drop(turn);
        if running.get(key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            running.remove(key);
        }
    }
}

async fn accept(session: &Session, key: &Key, inbound: Inbound) -> Result<Taken, Refused> {
    if let Some(id) = session.kept(key)? {
        let id = std::str::from_utf8(&id).ok().and_then(|id| id.parse().ok());
        return Ok(Taken::Before(id));
    }
    let expires = Some(session.now().after(REMEMBERED));
    let write = |value| StateWrite { name: key.clone(), value: Some(value), expires };
    // The id is only known after the commit: until the second write the key is known without it.
    let accepted = session.accept_keeping(inbound, vec![write(Bytes::new())]).await?;
    let id = Bytes::from(accepted.receipt.id().to_string());
    // The reading is taken, whatever becomes of this.
    if let Err(error) = session.keep(vec![write(id)]).await {
        tracing::warn!(ingress = %session.ingress(), error = &error as &dyn std::error::Error,
            "a repetition of this request will be answered without its id");
    }
    Ok(Taken::New(accepted))
}
