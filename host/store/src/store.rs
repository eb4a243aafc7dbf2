//! The store's handle: what may be changed, and how one waits for it.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{Clock, DeadLetterId, Name, ReadingId, Receipt, Refused, Scope, StateWrite, Target};
use tokio::sync::{oneshot, watch};

use crate::change::{Accept, Delivered, Observer, Outcome, Replayed};
use crate::committer::Committing;
use crate::documents::Kind;
use crate::error::{Fault, OpenError, StoreError};
use crate::folder::Files;
use crate::medium::Medium;
use crate::opened;
use crate::options::{Committer, Options};
use crate::payloads::{Payloads, Pins};
use crate::queue::{Done, Large, New, NotQueued, Pushed, Work};
use crate::shared::Shared;
use crate::writers::Writers;

/// What a peer is told to wait when more is waiting for the disk than may wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A handle of the store; clones are the same store. When the last one is dropped, what waits is still
/// committed, and then the file is given back; [`close`](Self::close) waits for that.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    modules: Files,
    ended: watch::Receiver<()>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// A reading on its way to the disk.
pub struct Journaling {
    /// What it will be called. It is in the journal once `committed` says so.
    pub id: ReadingId,
    pub committed: Committed,
}

/// Resolves once the reading is on disk, or is known not to have been taken.
pub struct Committed {
    id: ReadingId,
    done: oneshot::Receiver<Done>,
}

impl Future for Committed {
    type Output = Result<Receipt, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.done).poll(context));
        Poll::Ready(match done {
            Ok(Ok(_)) => Ok(Receipt::issue(self.id)),
            Ok(Err(error)) => Err(error.into()),
            Err(_committer_ended) => Err(Refused::Stopping),
        })
    }
}

impl Store {
    /// Opens the store, or makes a new one where there is none. What cannot be opened is left as it is.
    ///
    /// `modules` is a folder, made if need be, for what [`put_blob`](Self::put_blob) keeps.
    pub fn open(
        medium: Arc<dyn Medium>,
        modules: PathBuf,
        options: Options,
        clock: Arc<dyn Clock>,
        committer: Committer,
    ) -> Result<Self, OpenError> {
        let opened = opened::open(&*medium, &options, true)?;
        let failed = |path: PathBuf| move |source: io::Error| OpenError::Io { path, source };
        let modules = Files::open(modules.clone()).map_err(failed(modules))?;
        let path = medium.path().to_owned();
        // Not before the file is known to be nobody else's.
        let folder = medium.payloads().map_err(failed(path.clone()))?;
        let takes = {
            let medium = medium.clone();
            Arc::new(move |bytes| medium.takes(bytes))
        };
        let payloads = Payloads::new(folder, Writers::new(committer, takes));
        let ledger = opened.ledger;
        let shared = Arc::new(Shared::new(options, clock, medium, opened, payloads));
        shared.collect_payloads();
        let (alive, ended) = watch::channel(());
        let committing = Committing::new(shared.clone(), ledger, alive);
        match committer {
            Committer::Task => drop(tokio::spawn(committing.run())),
            Committer::Thread => start_thread(committing).map_err(failed(path))?,
        }
        Ok(Self { handle: Arc::new(Handle { shared, modules, ended }) })
    }

    /// From now on `observer` is told of every commit, instead of the one before it.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.shared().set_observer(observer);
    }

    /// Takes a reading over. Many may be under way at once: they share a commit, and the order of the calls
    /// is the order of their ids and of the journal. One with a large payload is committed after that is in its
    /// file; of those that come meanwhile only what goes into the same lanes, or writes the same state, waits for it.
    pub fn accept(&self, accept: Accept) -> Result<Journaling, Refused> {
        let (id, done) = self.push_from_driver(Work::Accept(accept))?;
        let id = ReadingId::from_u128(id);
        Ok(Journaling { id, committed: Committed { id, done } })
    }

    /// The first id of a reading that may yet be journaled after younger ones: its payload is being written, or it
    /// must not overtake one whose is. Of all others the observer is told in the order of their ids.
    pub fn oldest_late(&self) -> Option<ReadingId> {
        self.shared().queue.oldest_late().map(ReadingId::from_u128)
    }

    /// The last id that was given out, to whatever; in time behind none that was before, however the clock is set.
    pub fn last_id(&self) -> ReadingId {
        ReadingId::from_u128(self.shared().queue.last_id())
    }

    /// Writes a driver's or handler's state without a reading.
    pub fn keep(
        &self,
        scope: Scope,
        writes: Vec<StateWrite>,
    ) -> impl Future<Output = Result<(), Refused>> + Send + 'static + use<> {
        self.kept(Work::Keep { scope, writes, prompt: true })
    }

    /// The same, of what nobody waits for: others are given a moment to share its commit.
    pub fn keep_patiently(
        &self,
        scope: Scope,
        writes: Vec<StateWrite>,
    ) -> impl Future<Output = Result<(), Refused>> + Send + 'static + use<> {
        self.kept(Work::Keep { scope, writes, prompt: false })
    }

    fn kept(&self, work: Work) -> impl Future<Output = Result<(), Refused>> + Send + 'static + use<> {
        let queued = self.push_from_driver(work);
        async move {
            let (_, done) = queued?;
            result(done.await)?;
            Ok(())
        }
    }

    /// Commits what came of handling readings: all of it, or with [`StoreError::Stale`] nothing, if one of
    /// them no longer waits in that lane.
    pub fn settle(
        &self,
        outcome: Outcome,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static + use<> {
        self.own(Work::Settle(outcome))
    }

    /// Commits what came of offering deliveries. Those that are no longer in the outbox are passed over.
    pub fn delivered(
        &self,
        delivered: Delivered,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static + use<> {
        self.own(Work::Delivered(delivered))
    }

    /// Commits what came of handling readings once more, and how far that has come, all of it or nothing.
    pub async fn replayed(&self, replayed: Replayed) -> Result<(), StoreError> {
        self.own(Work::Replayed(replayed)).await
    }

    /// Writes, or with `None` deletes, documents, all in one transaction.
    pub async fn put_documents(
        &self,
        documents: Vec<(Kind, String, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        self.own(Work::Documents(documents)).await
    }

    /// What waits for the route becomes dead letters, and its state is dropped: in chunks, so that nobody
    /// waits for it. The caller sees to it that nothing more comes to wait.
    pub async fn discard_route(&self, route: Name) -> Result<(), StoreError> {
        self.in_chunks(|| Work::DiscardRoute(route.clone())).await
    }

    /// What is queued for the target becomes dead letters, likewise.
    pub async fn discard_target(&self, target: Target) -> Result<(), StoreError> {
        self.in_chunks(|| Work::DiscardTarget(target.clone())).await
    }

    /// What a driver has kept as the ingress of this name is dropped, likewise.
    pub async fn discard_ingress(&self, ingress: Name) -> Result<(), StoreError> {
        self.in_chunks(|| Work::DiscardIngress(ingress.clone())).await
    }

    /// What was given up on waits again, under its old id and without attempts.
    pub async fn redrive(&self, id: DeadLetterId) -> Result<(), StoreError> {
        let shared = self.shared();
        // It will be told of with its payload, which the committer must not read.
        let payload = match shared.kept_of_dead_letter(id)? {
            None => None,
            Some(kept) => Some(shared.read_payload(kept).await?),
        };
        self.own(Work::Redrive(id.as_u128(), payload)).await
    }

    pub async fn discard_dead_letter(&self, id: DeadLetterId) -> Result<(), StoreError> {
        self.own(Work::DiscardDeadLetter(id.as_u128())).await
    }

    /// Commits what waits, then gives the file back. Later changes are refused with `Stopping`.
    pub async fn close(self) {
        self.shared().queue.close();
        let mut ended = self.handle.ended.clone();
        // Nothing is ever sent: it ends with the committer.
        while ended.changed().await.is_ok() {}
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    pub(crate) fn modules(&self) -> &Files {
        &self.handle.modules
    }

    /// A change that is refused when there is no room.
    pub(crate) fn push_from_driver(&self, work: Work) -> Result<(u128, oneshot::Receiver<Done>), Refused> {
        let shared = self.shared();
        let payloads = work.large(shared.options.inline_max);
        let large = match payloads.iter().flatten().map(Bytes::len).sum() {
            0 => Large::None,
            bytes => Large::ToWrite(bytes),
        };
        let pushed = shared.queue.push(New { work, large }, shared.clock.now());
        let Pushed { first, done, ticket } = pushed.map_err(|not_queued| match not_queued {
            NotQueued::Full(_) => Refused::Busy { retry_after: RETRY_AFTER },
            NotQueued::Never(error) => error.into(),
        })?;
        if let Some(number) = ticket {
            let ticket = Ticket { shared: shared.clone(), number: Some(number) };
            shared.put_payloads(payloads, |put| ticket.tell(put));
        }
        Ok((first, done))
    }

    /// A change that waits for room, if there is none at the time of the call; and for its large payloads, before it
    /// is queued: nothing else of the host waits for them.
    pub(crate) fn own(
        &self,
        work: Work,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static + use<> {
        let shared = self.shared().clone();
        let payloads = work.large(shared.options.inline_max);
        let begun = if payloads.is_empty() {
            Begun::Queued(shared.queue.push(New { work, large: Large::None }, shared.clock.now()))
        } else {
            let (put, written) = oneshot::channel();
            // Who waited may have gone; then the files go, too.
            shared.put_payloads(payloads, |pins| drop(put.send(pins)));
            Begun::Writing(work, written)
        };
        async move {
            let queued = match begun {
                Begun::Queued(queued) => queued,
                Begun::Writing(work, written) => {
                    let pins = written.await.map_err(|_| StoreError::Stopping)??;
                    shared.queue.push(New { work, large: Large::Written(pins) }, shared.clock.now())
                }
            };
            let done = queue(&shared, queued).await?;
            result(done.await).map(|_| ())
        }
    }

    async fn in_chunks(&self, work: impl Fn() -> Work) -> Result<(), StoreError> {
        let shared = self.shared();
        loop {
            let queued = shared.queue.push(New { work: work(), large: Large::None }, shared.clock.now());
            let done = queue(shared, queued).await?;
            if !result(done.await)? {
                return Ok(());
            }
        }
    }
}

type Queued = Result<Pushed, NotQueued>;

enum Begun {
    Queued(Queued),
    /// Its payloads are being written.
    Writing(Work, oneshot::Receiver<Result<Pins, Fault>>),
}

/// Tells the queue what became of a change's payloads, whatever becomes of who writes them.
struct Ticket {
    shared: Arc<Shared>,
    number: Option<u64>,
}

impl Ticket {
    fn tell(mut self, put: Result<Pins, Fault>) {
        if let Some(number) = self.number.take() {
            self.shared.queue.written(number, put.map_err(StoreError::from));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            self.shared.queue.written(number, Err(StoreError::Stopping));
        }
    }
}

/// Waits until there is room, if there was none.
async fn queue(shared: &Shared, mut queued: Queued) -> Result<oneshot::Receiver<Done>, StoreError> {
    loop {
        match queued {
            Ok(pushed) => return Ok(pushed.done),
            Err(NotQueued::Never(error)) => return Err(error),
            Err(NotQueued::Full(new)) => {
                // Asked for before the next try: room that is made in between is not missed.
                let mut room = std::pin::pin!(shared.queue.room.notified());
                room.as_mut().enable();
                queued = shared.queue.push(*new, shared.clock.now());
                if matches!(queued, Err(NotQueued::Full(_))) {
                    room.await;
                }
            }
        }
    }
}

pub(crate) fn result(done: Result<Done, oneshot::error::RecvError>) -> Done {
    done.unwrap_or(Err(StoreError::Stopping))
}

fn start_thread(committing: Committing) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new()
        .name("committer".to_owned())
        .spawn(move || runtime.block_on(committing.run()))
        .map(drop)
}
