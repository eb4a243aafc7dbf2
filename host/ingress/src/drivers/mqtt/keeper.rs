//! Writes of the broker's own state that come without a reading: in order, as many at once as there are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sandbar_reading::{Refused, StateWrite};
use tokio::sync::{Notify, oneshot};

use crate::Session;

/// The most that one commit takes.
const BATCH: usize = 1024;

/// What nobody waits for is gathered for so long.
const GATHER: Duration = Duration::from_millis(10);

/// After a refusal.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Default)]
pub(super) struct Keeper {
    pending: Mutex<Pending>,
    wake: Notify,
    closed: AtomicBool,
}

#[derive(Default)]
struct Pending {
    writes: Vec<StateWrite>,
    waiters: Vec<oneshot::Sender<Result<(), Refused>>>,
}

impl Keeper {
    /// They are written soon. Until then they can be lost with the host: so only what may be done twice.
    pub(super) fn soon(&self, writes: impl IntoIterator<Item = StateWrite>) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut pending = self.pending.lock();
        let before = pending.writes.len();
        pending.writes.extend(writes);
        if before == 0 && !pending.writes.is_empty() {
            drop(pending);
            self.wake.notify_one();
        }
    }

    /// Resolves once they, and all that was said before, are on disk. They are in line when this returns.
    pub(super) fn write(
        &self,
        writes: Vec<StateWrite>,
    ) -> impl Future<Output = Result<(), Refused>> + Send + 'static {
        let (done, written) = oneshot::channel();
        if self.closed.load(Ordering::Acquire) {
            drop(done);
        } else {
            let mut pending = self.pending.lock();
            pending.writes.extend(writes);
            pending.waiters.push(done);
            drop(pending);
            self.wake.notify_one();
        }
        async move { written.await.unwrap_or(Err(Refused::Stopping)) }
    }

    /// Whether something was said and is not on disk yet.
    pub(super) fn is_behind(&self) -> bool {
        !self.pending.lock().writes.is_empty()
    }

    /// Until it is closed and all is written.
    pub(super) async fn run(&self, session: &Session) {
        loop {
            let closed = self.closed.load(Ordering::Acquire);
            if !self.commit(session).await {
                if closed {
                    return;
                }
                self.wake.notified().await;
                // Whoever waits is not kept waiting.
                if self.pending.lock().waiters.is_empty() && !self.closed.load(Ordering::Acquire) {
                    tokio::time::sleep(GATHER).await;
                }
            }
        }
    }

    /// One commit; `false` if there was nothing to write.
    async fn commit(&self, session: &Session) -> bool {
        let Pending { mut writes, waiters } = std::mem::take(&mut *self.pending.lock());
        if writes.is_empty() && waiters.is_empty() {
            return false;
        }
        let mut result = Ok(());
        while !writes.is_empty() && result.is_ok() {
            let chunk = writes[..writes.len().min(BATCH)].to_vec();
            result = session.keep(chunk.clone()).await;
            if result.is_ok() {
                writes.drain(..chunk.len());
            }
        }
        let refused = result.is_err();
        for waiter in waiters {
            // Who waited may have gone.
            let _ = waiter.send(result.clone());
        }
        if refused {
            self.again(writes).await;
        }
        true
    }

    /// What was refused is still to be done, before what came since.
    async fn again(&self, writes: Vec<StateWrite>) {
        {
            let mut pending = self.pending.lock();
            let since = std::mem::replace(&mut pending.writes, writes);
            pending.writes.extend(since);
        }
        if self.closed.load(Ordering::Acquire) {
            // The host stops without being able to write: what is left may be done twice.
            self.pending.lock().writes.clear();
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// From now on nothing is taken; [`run`](Self::run) returns when the rest is written.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::super::rows;
    use super::*;
    use crate::contract::StandIn;

    #[tokio::test]
    async fn writes_in_order_and_all_before_it_ends() {
        let host = StandIn::new();
        let session = Session::new("mqtt".parse().unwrap(), Arc::clone(&host) as _, CancellationToken::new());
        let keeper = Arc::new(Keeper::default());
        keeper.soon([rows::mark("a".into())]);
        let running = tokio::spawn({
            let (keeper, session) = (Arc::clone(&keeper), session.clone());
            async move { keeper.run(&session).await }
        });
        keeper.write(vec![rows::mark("b".into())]).await.unwrap();
        keeper.soon([rows::delete("a".into())]);
        keeper.close();
        running.await.unwrap();
        assert_eq!(session.kept_names("").unwrap(), ["b".into()]);
        assert_eq!(keeper.write(Vec::new()).await, Err(Refused::Stopping));
    }
}
