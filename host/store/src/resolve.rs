//! Reads the payloads that have files, after the database was asked and without it: nobody who opens it again waits
//! for a picture.

use std::sync::Arc;

use bytes::Bytes;
use sandbar_reading::DeadLetterId;
use tokio::sync::oneshot;

use crate::error::{Fault, StoreError};
use crate::partial::{Carries, Kept, Missing, Partial};
use crate::payloads::is_referred_to;
use crate::queue::{Large, Lost, LostWhat, New, Work};
use crate::read::Loaded;
use crate::row::{self, DeadHead};
use crate::shared::Shared;
use crate::store::Store;
use crate::tables::DEAD;

/// What says, in what is shown, that the payload is gone or cannot be read, and is empty for that.
pub const LOST_ATTRIBUTE: &str = "sandbar.payload-lost";

impl Store {
    /// What is to be handled or delivered. What has lost its payload, or comes next and is damaged, becomes a dead
    /// letter, later, and nothing behind it is loaded before.
    pub(crate) fn complete<T: Carries>(
        &self,
        (loaded, damaged): (Loaded<Partial<T>>, Option<Lost>),
        what: impl Fn(&T) -> (LostWhat, u128),
    ) -> Result<Loaded<T>, StoreError> {
        let mut items = Vec::with_capacity(loaded.items.len());
        for partial in loaded.items {
            let Some(kept) = partial.kept() else {
                items.push(partial.without_payload());
                continue;
            };
            match self.shared().payload(&kept)? {
                Found::Whole(payload) => items.push(partial.with(payload)),
                Found::Gone => {}
                Found::Missing(missing) => {
                    let error = match missing {
                        Missing::Lost(cause) => {
                            let (what, id) = what(partial.it());
                            self.lose(Lost { what, id, cause })
                        }
                        Missing::Unreadable(error) => Fault::of_io(&error).into(),
                    };
                    return ends_with(items, error);
                }
            }
        }
        match damaged {
            Some(lost) => ends_with(items, self.lose(lost)),
            None => Ok(Loaded { items, complete: loaded.complete }),
        }
    }

    /// What is shown to people and programs: it says if its payload is not to be had.
    pub(crate) fn shown<T: Carries>(
        &self,
        partials: impl IntoIterator<Item = Partial<T>>,
    ) -> Result<Vec<T>, StoreError> {
        let mut items = Vec::new();
        for partial in partials {
            let Some(kept) = partial.kept() else {
                items.push(partial.without_payload());
                continue;
            };
            match self.shared().payload(&kept)? {
                Found::Whole(payload) => items.push(partial.with(payload)),
                Found::Gone => {}
                // One that cannot be read must not hide the others.
                Found::Missing(missing) => {
                    let mut item = partial.without_payload();
                    item.attributes_mut().add(LOST_ATTRIBUTE, missing.cause());
                    items.push(item);
                }
            }
        }
        Ok(items)
    }

    /// Nobody waits for it: whoever asked is told this, and asks again.
    pub(crate) fn lose(&self, lost: Lost) -> StoreError {
        let (shared, cause) = (self.shared(), lost.cause.clone());
        match shared.queue.push(New { work: Work::Lose(lost), large: Large::None }, shared.clock.now()) {
            Ok(_) => {
                tracing::error!(cause, "it becomes a dead letter");
                StoreError::Lost { cause }
            }
            // There is no room for that now.
            Err(_) => Fault::Io { cause }.into(),
        }
    }
}

/// What there is in front of what cannot be had, if anything.
fn ends_with<T>(items: Vec<T>, error: StoreError) -> Result<Loaded<T>, StoreError> {
    if items.is_empty() { Err(error) } else { Ok(Loaded { items, complete: false }) }
}

/// What came of looking for a payload.
enum Found {
    Whole(Bytes),
    /// What it was of has gone in the meantime.
    Gone,
    Missing(Missing),
}

impl Shared {
    fn payload(&self, kept: &Kept) -> Result<Found, StoreError> {
        match kept.read(&self.payloads) {
            Ok(payload) => Ok(Found::Whole(payload)),
            Err(missing @ Missing::Unreadable(_)) => Ok(Found::Missing(missing)),
            Err(missing) => {
                let is_there = self.ask(|read| is_referred_to(read, &kept.digest))?;
                Ok(if is_there { Found::Missing(missing) } else { Found::Gone })
            }
        }
    }

    pub(crate) fn kept_of_dead_letter(&self, id: DeadLetterId) -> Result<Option<Kept>, StoreError> {
        self.ask(|read| {
            let Some(row) = read.open_table(DEAD)?.get(id.as_u128())? else { return Ok(None) };
            let (head, rest) = row::read_head::<DeadHead<'_>>(row.value(), "dead letters")?;
            Ok(crate::read::subject(&head, rest)?.kept())
        })
    }

    /// On a thread that may wait for the disk.
    pub(crate) async fn read_payload(self: &Arc<Self>, kept: Kept) -> Result<Bytes, StoreError> {
        let (told, read) = oneshot::channel();
        let shared = self.clone();
        self.on_writer(move || drop(told.send(kept.read(&shared.payloads))));
        let read = read.await.map_err(|_| StoreError::Stopping)?;
        read.map_err(|missing| missing.fault().into())
    }
}

impl Missing {
    fn cause(self) -> String {
        match self {
            Self::Lost(cause) => cause,
            Self::Unreadable(error) => format!("its payload cannot be read: {error}"),
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::Lost(cause) => Fault::Io { cause: cause.clone() },
            Self::Unreadable(error) => Fault::of_io(error),
        }
    }
}
