//! Writes of the broker's own state that come without a reading: in order, as many at once as there are.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sandbar_reading::{Refused, StateWrite};
use tokio::sync::{Notify, oneshot};

use crate::Session;

/// The most that one commit takes.
const BATCH: usize = 1024;

/// What nobody waits for is gathered for so long. A host that is killed meanwhile does it twice: it sends a message
/// again that was acknowledged.
const GATHER: Duration = Duration::from_millis(100);

/// After a refusal.
const PAUSE: Duration = Duration::from_millis(250);

/// While the disk takes nothing, so much waits for it, of which each name is there once.
const BEHIND_MAX: usize = 100_000;

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
    /// Others are on their way to the disk.
    commits: bool,
    /// What the last commit was refused for.
    refused: Option<Refused>,
}

impl Pending {
    /// Why no more can wait, if that is so.
    fn full(&self) -> Option<Refused> {
        self.refused.clone().filter(|_| self.writes.len() >= BEHIND_MAX)
    }

    /// Of each name only the last write counts: else what changes again and again would wait as often.
    fn keep_the_last(&mut self) {
        let mut seen = HashSet::with_capacity(self.writes.len());
        self.writes.reverse();
        self.writes.retain(|write| seen.insert(write.name.clone()));
        self.writes.reverse();
    }
}

impl Keeper {
    /// They are written soon. Until then they can be lost with the host: so only what may be done twice. They are lost
    /// as well when there is no room for more.
    pub(super) fn soon(&self, writes: impl IntoIterator<Item = StateWrite>) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut pending = self.pending.lock();
        if pending.full().is_some() {
            return;
        }
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
            if let Some(refused) = pending.full() {
                let _ = done.send(Err(refused));
            } else {
                pending.writes.extend(writes);
                pending.waiters.push(done);
            }
            drop(pending);
            self.wake.notify_one();
        }
        async move { written.await.unwrap_or(Err(Refused::Stopping)) }
    }

    /// Whether something was said and is not on disk yet.
    pub(super) fn is_behind(&self) -> bool {
        let pending = self.pending.lock();
        pending.commits || !pending.writes.is_empty()
    }

    /// Until it is closed and all is written.
    pub(super) async fn run(&self, session: &Session) {
        loop {
            self.gather().await;
            let closed = self.closed.load(Ordering::Acquire);
            if !self.commit(session).await && closed {
                return;
            }
        }
    }

    /// Returns when there was something to write for a while, or at once when somebody waits for it.
    async fn gather(&self) {
        while self.is_patient() && !self.is_behind() {
            self.wake.notified().await;
        }
        let mut moment = pin!(tokio::time::sleep(GATHER));
        while self.is_patient() {
            tokio::select! {
                biased;
                () = &mut moment => return,
                () = self.wake.notified() => {}
            }
        }
    }

    fn is_patient(&self) -> bool {
        self.pending.lock().waiters.is_empty() && !self.closed.load(Ordering::Acquire)
    }

    /// One commit; `false` if there was nothing to write.
    async fn commit(&self, session: &Session) -> bool {
        let Pending { mut writes, waiters, .. } = {
            let mut pending = self.pending.lock();
            let commits = !pending.writes.is_empty();
            std::mem::replace(&mut *pending, Pending { commits, ..Pending::default() })
        };
        if writes.is_empty() && waiters.is_empty() {
            return false;
        }
        let mut result = Ok(());
        while !writes.is_empty() && result.is_ok() {
            let count = writes.len().min(BATCH);
            let chunk = writes[..count].to_vec();
            // What is as much as a commit takes needs no company.
            result = match count < BATCH && waiters.is_empty() && self.is_patient() {
                true => session.keep_patiently(chunk).await,
                false => session.keep(chunk).await,
            };
            if result.is_ok() {
                writes.drain(..count);
            }
        }
        if result.is_ok() {
            self.pending.lock().commits = false;
        }
        for waiter in waiters {
            // Who waited may have gone.
            let _ = waiter.send(result.clone());
        }
        if let Err(refused) = result {
            self.again(writes, refused).await;
        }
        true
    }

    /// What was refused is still to be done, before what came since.
    async fn again(&self, writes: Vec<StateWrite>, refused: Refused) {
        {
            let mut pending = self.pending.lock();
            pending.commits = false;
            let since = std::mem::replace(&mut pending.writes, writes);
            pending.writes.extend(since);
            pending.keep_the_last();
            pending.refused = Some(refused);
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

    use tokio::task::JoinHandle;
    use tokio_util::sync::CancellationToken;

    use super::super::rows;
    use super::*;
    use crate::contract::StandIn;

    fn session(host: &Arc<StandIn>) -> Session {
        Session::new("mqtt".parse().unwrap(), Arc::clone(host) as _, CancellationToken::new())
    }

    fn run(keeper: &Arc<Keeper>, session: &Session) -> JoinHandle<()> {
        let (keeper, session) = (Arc::clone(keeper), session.clone());
        tokio::spawn(async move { keeper.run(&session).await })
    }

    #[tokio::test]
    async fn writes_in_order_and_all_before_it_ends() {
        let host = StandIn::new();
        let (keeper, session) = (Arc::new(Keeper::default()), session(&host));
        keeper.soon([rows::mark("a".into())]);
        let running = run(&keeper, &session);
        keeper.write(vec![rows::mark("b".into())]).await.unwrap();
        keeper.soon([rows::delete("a".into())]);
        keeper.close();
        running.await.unwrap();
        assert_eq!(session.kept_names("").unwrap(), ["b".into()]);
        assert_eq!(keeper.write(Vec::new()).await, Err(Refused::Stopping));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_gathered_and_who_waits_does_not_wait_for_that() {
        let host = StandIn::new();
        let (keeper, session) = (Arc::new(Keeper::default()), session(&host));
        let _running = run(&keeper, &session);
        keeper.soon([rows::mark("a".into())]);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let begun = tokio::time::Instant::now();
        keeper.write(vec![rows::mark("b".into())]).await.unwrap();
        assert_eq!((begun.elapsed(), host.keeps()), (Duration::ZERO, vec![(2, true)]));
        // Nor does each have a commit of its own because there was one just now.
        for number in 0..30 {
            keeper.soon([rows::mark(format!("c{number}").into())]);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(GATHER).await;
        let gathered = host.keeps().split_off(1);
        assert_eq!(gathered.iter().map(|(count, _)| count).sum::<usize>(), 30);
        assert!(gathered.len() <= 4 && gathered.iter().all(|(_, prompt)| !prompt), "{gathered:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_is_not_on_disk() {
        let host = StandIn::new();
        let (keeper, session) = (Arc::new(Keeper::default()), session(&host));
        let _running = run(&keeper, &session);
        host.hold_keeps(true);
        keeper.soon([rows::mark("a".into())]);
        tokio::time::sleep(2 * GATHER).await;
        assert!(keeper.pending.lock().writes.is_empty() && keeper.is_behind());
        host.hold_keeps(false);
        tokio::time::sleep(GATHER).await;
        assert!(!keeper.is_behind());
        assert_eq!(session.kept_names("").unwrap(), ["a".into()]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_disk_is_full_only_the_last_of_each_name_waits_and_no_more_than_so_many() {
        let host = StandIn::new();
        let (keeper, session) = (Arc::new(Keeper::default()), session(&host));
        let _running = run(&keeper, &session);
        host.refuse_to_keep(Some(Refused::DiskFull));
        for _ in 0..100 {
            keeper.soon([rows::delete("a".into()), rows::mark("b".into())]);
            let refused = keeper.write(vec![rows::mark("a".into()), rows::delete("b".into())]).await;
            assert_eq!(refused, Err(Refused::DiskFull));
        }
        assert_eq!(keeper.pending.lock().writes.len(), 2);
        keeper.soon((0..BEHIND_MAX).map(|number| rows::mark(format!("c{number}").into())));
        keeper.soon([rows::mark("d".into())]);
        assert_eq!(keeper.write(vec![rows::mark("e".into())]).await, Err(Refused::DiskFull));
        host.refuse_to_keep(None);
        while keeper.is_behind() {
            tokio::time::sleep(PAUSE).await;
        }
        keeper.write(vec![rows::mark("f".into())]).await.unwrap();
        let kept = session.kept_names("").unwrap();
        assert_eq!((kept.len(), &*kept[0], &*kept[kept.len() - 1]), (BEHIND_MAX + 2, "a", "f"));
    }
}
