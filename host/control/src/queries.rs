//! What was accepted, what waits, and what was given up on.

use sandbar_ingress::{Accepted, ConnectionStatus};
use sandbar_pipeline::Seen;
use sandbar_reading::{
    DeadLetterId, DeliveryId, Inbound, Name, Reading, ReadingId, Receipt, Refused, Target,
};
use sandbar_store::{DeadLetter, DeadLetterQuery, Queued, ReadingQuery, Store, StoreError};
use serde_json::Value;
use tokio::sync::broadcast;
use tracing::warn;

use crate::control::Control;
use crate::error::ControlError;
use crate::plan::Plan;
use crate::views::Page;
use crate::what::What;

/// Which deliveries of the outbox, by target and then oldest first.
#[derive(Clone, Debug, Default)]
pub struct OutboxQuery {
    pub target: Option<Target>,
    /// Go on behind this one.
    pub cursor: Option<(Target, DeliveryId)>,
    pub limit: usize,
}

/// Which dead letters; those left `None` do not restrict.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    pub route: Option<Name>,
    pub target: Option<Target>,
}

/// A driver, or a kind of sink, that this host was built with.
#[derive(Clone, Debug)]
pub struct Kinds {
    pub what: What,
    pub name: &'static str,
    /// A working configuration in TOML, without its name.
    pub example: &'static str,
    /// JSON schema of its settings.
    pub schema: Value,
}

/// Everything that an ingress or sink can be; drivers first, by name.
pub fn kinds() -> Vec<Kinds> {
    let drivers = sandbar_ingress::kinds().map(|kind| Kinds {
        what: What::Ingress,
        name: kind.name,
        example: kind.example,
        schema: (kind.schema)().to_value(),
    });
    let sinks = sandbar_sinks::kinds().into_iter().map(|kind| Kinds {
        what: What::Sink,
        name: kind.name,
        example: kind.example,
        schema: kind.schema,
    });
    let mut kinds: Vec<_> = drivers.chain(sinks).collect();
    kinds.sort_by_key(|kind| (kind.what != What::Ingress, kind.name));
    kinds
}

impl Control {
    /// Takes a reading over, as the ingress `api`; it is on disk when this returns.
    pub async fn accept(&self, inbound: Inbound) -> Result<Receipt, Refused> {
        let limit = self.inner.intake.reading_max();
        if inbound.payload.len() > limit {
            return Err(Refused::TooLarge { size: inbound.payload.len(), limit });
        }
        let Accepted { receipt, .. } =
            self.inner.intake.accept(crate::api_ingress(), inbound, Vec::new()).await?;
        Ok(receipt)
    }

    /// The most bytes of payload that a reading may have.
    pub fn reading_max(&self) -> usize {
        self.inner.intake.reading_max()
    }

    pub async fn readings(&self, query: ReadingQuery) -> Result<Page<Reading, ReadingId>, ControlError> {
        let page = self.ask(move |store| store.readings(&query)).await?;
        Ok(Page { items: page.items, next: page.cursor })
    }

    pub async fn reading(&self, id: ReadingId) -> Result<Reading, ControlError> {
        let reading = self.ask(move |store| store.reading(id)).await?;
        reading.ok_or_else(|| ControlError::NotFound { what: What::Reading, name: id.to_string() })
    }

    /// Everything that is journaled, put out or given up on from now on. Who is slow misses some.
    pub fn watch(&self) -> broadcast::Receiver<Seen> {
        self.inner.pipeline.watch()
    }

    pub async fn outbox(
        &self,
        query: OutboxQuery,
    ) -> Result<Page<Queued, (Target, DeliveryId)>, ControlError> {
        let OutboxQuery { target, cursor, limit } = query;
        let of_target = || target.clone().map(|target| (target, DeliveryId::from_u128(0)));
        let begin = cursor.or_else(of_target);
        let page = self.ask(move |store| store.outbox(begin.as_ref(), limit)).await?;
        let found = page.items.len();
        let wanted = |queued: &Queued| target.as_ref().is_none_or(|target| queued.target == *target);
        let items: Vec<_> = page.items.into_iter().take_while(wanted).collect();
        let next = page.cursor.filter(|_| items.len() == found);
        Ok(Page { items, next })
    }

    /// Connections that drivers have open, of one ingress or of all: those after `cursor`, oldest first. An
    /// ingress's filter may leave a page short.
    pub fn connections(
        &self,
        ingress: Option<&Name>,
        cursor: Option<u64>,
        limit: usize,
    ) -> Page<ConnectionStatus, u64> {
        let mut items = self.inner.pipeline.connections().list(cursor.unwrap_or(0), limit);
        let next = (items.len() == limit).then(|| items.last().map(|last| last.id)).flatten();
        items.retain(|connection| ingress.is_none_or(|ingress| connection.ingress == *ingress));
        Page { items, next }
    }

    /// Does not wait for a failing target's time-out; without one, for that of no target.
    pub fn try_now(&self, target: Option<&Target>) {
        match target {
            Some(target) => self.inner.pipeline.try_now(target),
            None => self.inner.pipeline.outlets().iter().for_each(|outlet| {
                self.inner.pipeline.try_now(&outlet.target);
            }),
        }
    }

    pub async fn dead_letters(
        &self,
        query: DeadLetterQuery,
    ) -> Result<Page<DeadLetter, DeadLetterId>, ControlError> {
        let page = self.ask(move |store| store.dead_letters(&query)).await?;
        Ok(Page { items: page.items, next: page.cursor })
    }

    pub async fn dead_letter(&self, id: DeadLetterId) -> Result<DeadLetter, ControlError> {
        let letter = self.ask(move |store| store.dead_letter(id)).await?;
        letter.ok_or_else(|| no_dead_letter(id))
    }

    pub async fn discard_dead_letter(&self, id: DeadLetterId) -> Result<(), ControlError> {
        self.inner.store.discard_dead_letter(id).await.map_err(|error| about(id, error))
    }

    /// It waits again where it waited, without attempts. Refused if its route or sink is no longer there.
    pub async fn redrive(&self, id: DeadLetterId) -> Result<(), ControlError> {
        let letter = self.dead_letter(id).await?;
        let leaving = self.inner.leaving.read().await;
        if let Some(gone) = self.gone(&letter, &leaving) {
            return Err(ControlError::Conflict(format!("{gone} is no longer there")));
        }
        self.inner.store.redrive(id).await.map_err(|error| about(id, error))
    }

    /// All that match and are there now; how many. Those whose route or sink is gone stay, and those that cannot be
    /// read.
    pub async fn redrive_all(&self, filter: DeadLetterFilter) -> Result<u64, ControlError> {
        const AT_ONCE: usize = 256;
        let (mut redriven, mut unreadable, mut cursor) = (0, 0_u64, None);
        loop {
            let DeadLetterFilter { route, target } = filter.clone();
            let page = self
                .dead_letters(DeadLetterQuery { route, target, cursor, oldest_first: false, limit: AT_ONCE })
                .await?;
            for letter in &page.items {
                let leaving = self.inner.leaving.read().await;
                if self.gone(letter, &leaving).is_some() {
                    continue;
                }
                match self.inner.store.redrive(letter.id).await {
                    Ok(()) => redriven += 1,
                    // Somebody else was faster.
                    Err(StoreError::NotFound) => {}
                    // The next may be whole: the store itself is well.
                    Err(StoreError::Unavailable(_)) if self.inner.store.stats().fault.is_none() => {
                        unreadable += 1;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            // Newest first: what fails again meanwhile is in front of the cursor, and not met again.
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        if unreadable > 0 {
            warn!(unreadable, redriven, "dead letters that cannot be read stay what they are");
        }
        Ok(redriven)
    }

    /// Where it would wait, if that is no longer there, or is about to go.
    fn gone(&self, letter: &DeadLetter, leaving: &Plan) -> Option<String> {
        let running = self.inner.running.read();
        match &letter.subject {
            sandbar_store::Subject::Reading { lane, .. }
                if !running.wanted.routes.contains_key(&lane.route)
                    || leaving.routes.removed.contains(&lane.route) =>
            {
                Some(format!("route `{}`", lane.route))
            }
            sandbar_store::Subject::Delivery { target: Target::Sink(sink), .. }
                if !running.wanted.sinks.contains_key(sink) || leaving.sinks.removed.contains(sink) =>
            {
                Some(format!("sink `{sink}`"))
            }
            _ => None,
        }
    }

    /// Questions that may look at much are not asked on a thread that others wait for.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ControlError> {
        let store = self.inner.store.clone();
        let answer = tokio::task::spawn_blocking(move || ask(&store)).await;
        answer.map_err(|error| ControlError::Storage(error.to_string()))?.map_err(ControlError::from)
    }
}

fn about(id: DeadLetterId, error: StoreError) -> ControlError {
    match error {
        StoreError::NotFound => no_dead_letter(id),
        error => error.into(),
    }
}

fn no_dead_letter(id: DeadLetterId) -> ControlError {
    ControlError::NotFound { what: What::DeadLetter, name: id.to_string() }
}

#[cfg(test)]
mod tests {
    use sandbar_runtime::test_components;

    use super::*;
    use crate::tests::{Host, until};

    /// It stopped there each time, and what is behind it was never tried again.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_dead_letter_that_has_lost_its_payload_does_not_keep_the_others_from_being_redriven() {
        let host = Host::start("").await;
        host.upload("m", test_components::reject()).await;
        host.put_sink("out").await;
        host.put_route("r", "m", "out").await;
        host.send("d", "x").await;
        host.send("d", &"y".repeat(100_000)).await;
        let dead = || host.control.status().store.dead_letters;
        until(|| dead() == 2).await;
        let payloads = host.dir.path().join("sandbar-data/store.payloads");
        for file in std::fs::read_dir(payloads).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        assert_eq!(host.control.redrive_all(DeadLetterFilter::default()).await.unwrap(), 1);
        until(|| dead() == 2).await;
        host.stop().await;
    }
}
