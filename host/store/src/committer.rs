//! The one writer: takes everything that waits into one transaction, and tells those who wait of it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Durability, WriteTransaction};
use sandbar_reading::Timestamp;
use tokio::sync::{oneshot, watch};

use crate::ages::Ages;
use crate::apply::{Batch, Ids};
use crate::change::News;
use crate::digest::Digest;
use crate::error::{Fault, needs_reopening, panicked};
use crate::opened;
use crate::queue::{Change, Done, Work};
use crate::quick_repair::QuickRepair;
use crate::rests::Part;
use crate::retention::Sweep;
use crate::shared::Shared;
use crate::tables::{Ledger, Tables};

/// How long to wait before the storage is opened again: at first, and at most.
const REOPEN_WAIT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// That dead letters are discarded is said once in so long.
const SAID_FOR: Duration = Duration::from_secs(60);

/// For how long a change that nobody waits for waits for others.
const LINGER: Duration = Duration::from_millis(5);

pub(crate) struct Committing {
    shared: Arc<Shared>,
    ledger: Ledger,
    sweep: Sweep,
    quick_repair: QuickRepair,
    /// Dead letters that were discarded since that was said, and when it was.
    discarded: (u64, Option<Instant>),
    /// Dropped when the committer has ended.
    _ended: watch::Sender<()>,
}

enum Written {
    Committed(Box<Committed>),
    /// There was nothing to write.
    Nothing(Box<Sweep>),
    /// The storage failed at something that was to leave by itself: nothing is written.
    Unswept(Part, redb::Error),
}

/// A transaction that is on disk.
struct Committed {
    ledger: Ledger,
    sweep: Sweep,
    results: Vec<Done>,
    news: News,
    /// It also saved what a restart needs.
    saving: bool,
    /// Files that nothing refers to any more.
    unreferred: Vec<Digest>,
    /// Dead letters that went because there were too many.
    discarded: u64,
}

impl Committing {
    /// `ledger`: of the file that was opened.
    pub(crate) fn new(shared: Arc<Shared>, ledger: Ledger, ended: watch::Sender<()>) -> Self {
        let quick_repair = QuickRepair::new(&shared.options);
        let steady = tokio::time::Instant::now().into_std();
        let ages = Ages::new(ledger.last_id, shared.clock.now(), steady);
        let sweep = Sweep::new(&shared.options, ages);
        Self { shared, ledger, sweep, quick_repair, discarded: (0, None), _ended: ended }
    }

    /// Until the store is closed and all that waited is committed.
    pub(crate) async fn run(mut self) {
        loop {
            if let Some(fault) = self.shared.queue.suspected() {
                self.mend(fault, Vec::new()).await;
            }
            if self.sweep.is_to_go_alone(&self.ledger, self.shared.clock.now()) {
                self.commit(Vec::new()).await;
            }
            self.linger().await;
            let changes =
                self.shared.queue.take(self.shared.options.commit_max, self.shared.options.commit_bytes);
            if !changes.is_empty() {
                self.commit(changes).await;
                // On a shared runtime others must get to see it.
                tokio::task::yield_now().await;
            } else if self.shared.queue.is_done() {
                return;
            } else {
                self.idle().await;
            }
        }
    }

    /// What nobody waits for is committed together with what comes within a moment.
    async fn linger(&self) {
        if !self.shared.queue.is_patient() {
            return;
        }
        let mut moment = pin!(tokio::time::sleep(LINGER));
        while self.shared.queue.is_patient() {
            tokio::select! {
                biased;
                () = &mut moment => return,
                () = self.shared.queue.wake.notified() => {}
            }
        }
    }

    async fn idle(&mut self) {
        let now = self.look_at_clock();
        let wake = self.shared.queue.wake.notified();
        let sweep = self.sweep.due_in(&self.ledger, now);
        let due = [sweep, self.quick_repair.due_in(self.shared.file_len())].into_iter().flatten().min();
        let Some(due) = due else { return wake.await };
        if tokio::time::timeout(due, wake).await.is_err() {
            self.commit(Vec::new()).await;
        }
    }

    fn look_at_clock(&mut self) -> Timestamp {
        let now = self.shared.clock.now();
        self.sweep.look_at_clock(now, || self.shared.queue.last_id());
        now
    }

    async fn commit(&mut self, changes: Vec<Change>) {
        let now = self.look_at_clock();
        let began = Instant::now();
        let mut work = Vec::with_capacity(changes.len());
        let mut waiters = Vec::with_capacity(changes.len());
        // Held to the end: a commit that is told to have failed may refer to their files all the same.
        let mut pins = Vec::new();
        // Likewise: to the end they may be news to the observer.
        let mut late = Vec::new();
        for change in changes {
            let files = change.pins.as_ref().map(|pins| pins.files().to_vec()).unwrap_or_default();
            work.push((change.work, Ids::new(change.ids, files)));
            waiters.push(change.done);
            pins.extend(change.pins);
            late.extend(change.late);
        }
        match self.write(work, now) {
            Ok(Written::Committed(committed)) => self.tell(*committed, waiters, began),
            Ok(Written::Nothing(sweep)) => {
                self.sweep = *sweep;
                self.shared.counts.set(&self.ledger, self.sweep.oldest());
            }
            Ok(Written::Unswept(part, error)) => {
                let rest_s = self.sweep.failed(part).as_secs();
                tracing::error!(?part, %error, rest_s, "what leaves by itself cannot: tried again later");
                // Nobody was concerned, and the storage goes on.
                if !waiters.is_empty() || needs_reopening(&error) {
                    self.mend(Fault::of(&error), waiters).await;
                }
            }
            Err(error) => self.mend(Fault::of(&error), waiters).await,
        }
    }

    fn write(&self, work: Vec<(Work, Ids)>, now: Timestamp) -> Result<Written, redb::Error> {
        let sweeping = Cell::new(None);
        // A panic of the storage's library ends this transaction, not the host.
        let written = catch_unwind(AssertUnwindSafe(|| self.transact(work, now, &sweeping)));
        match (sweeping.get(), written.unwrap_or_else(|_| Err(panicked()))) {
            // On a full disk what leaves makes room: it does not rest for that.
            (Some(part), Err(error)) if Fault::of(&error) != Fault::DiskFull => {
                Ok(Written::Unswept(part, error))
            }
            (_, written) => written,
        }
    }

    /// One transaction: the changes, and a chunk of what is to be swept. Without changes it may be that there
    /// is nothing to write.
    fn transact(
        &self,
        work: Vec<(Work, Ids)>,
        now: Timestamp,
        sweeping: &Cell<Option<Part>>,
    ) -> Result<Written, redb::Error> {
        let database = self.shared.database.read();
        let Some(opened) = &*database else { return Err(redb::Error::DatabaseClosed) };
        let mut transaction = opened.database.begin_write()?;
        transaction.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
        let saving = self.quick_repair.is_due(opened.file_len());
        transaction.set_quick_repair(saving);
        match self.make(&transaction, work, now, saving, sweeping)? {
            Written::Committed(committed) => {
                transaction.commit()?;
                Ok(Written::Committed(committed))
            }
            nothing => {
                transaction.abort()?;
                Ok(nothing)
            }
        }
    }

    /// All that the transaction is to hold. `now`: of the last look at the clock, or a leap since would make what leaves
    /// by itself look old.
    fn make(
        &self,
        transaction: &WriteTransaction,
        work: Vec<(Work, Ids)>,
        now: Timestamp,
        saving: bool,
        sweeping: &Cell<Option<Part>>,
    ) -> Result<Written, redb::Error> {
        let mut batch = Batch::new(Tables::of(transaction), now, self.ledger);
        let alone = work.is_empty();
        let results = work.into_iter().map(|(work, ids)| batch.apply(work, ids)).collect::<Result<_, _>>()?;
        batch.write_trace(self.shared.options.trace_bytes)?;
        let mut sweep = self.sweep.clone();
        let swept = sweep.run(&mut batch, alone, sweeping)?;
        if alone && !swept && !(saving && self.quick_repair.is_unsaved()) {
            return Ok(Written::Nothing(Box::new(sweep)));
        }
        let Batch { tables, ledger, news, unreferred, discarded, .. } = batch;
        let on_disk = |ledger: &Ledger| (ledger.last_id, ledger.journal_bytes, ledger.trace_bytes);
        if on_disk(&ledger) != on_disk(&self.ledger) {
            tables.write_ledger(&ledger)?;
        }
        if (ledger.dead_bytes, ledger.dead) != (self.ledger.dead_bytes, self.ledger.dead) {
            tables.write_dead_letters(&ledger)?;
        }
        let committed = Committed { ledger, sweep, results, news, saving, unreferred, discarded };
        Ok(Written::Committed(Box::new(committed)))
    }

    fn tell(&mut self, committed: Committed, waiters: Vec<oneshot::Sender<Done>>, began: Instant) {
        let Committed { ledger, sweep, results, news, saving, unreferred, discarded } = committed;
        self.quick_repair.committed(saving);
        let readings = news.readings.len();
        self.shared.counts.committed(&ledger, sweep.oldest(), readings, discarded, began.elapsed());
        (self.ledger, self.sweep) = (ledger, sweep);
        self.say_discarded(discarded);
        for (done, result) in waiters.into_iter().zip(results) {
            // Who waited may have gone.
            let _ = done.send(result);
        }
        if !news.is_empty() {
            self.shared.observe(|observer| observer.committed(news));
        }
        self.shared.tidy_payloads(unreferred);
    }

    fn say_discarded(&mut self, more: u64) {
        let (count, said) = &mut self.discarded;
        *count += more;
        if *count > 0 && said.is_none_or(|said| said.elapsed() >= SAID_FOR) {
            tracing::error!(count = *count, "there are too many dead letters: the oldest are discarded");
            (*count, *said) = (0, Some(Instant::now()));
        }
    }

    /// Refuses everything until the storage could be opened again.
    async fn mend(&mut self, fault: Fault, waiters: Vec<oneshot::Sender<Done>>) {
        tracing::error!(error = %fault, "storage fails: refusing new work until it is well again");
        let mut wait = REOPEN_WAIT.0;
        self.fail(&fault, waiters);
        while !self.shared.queue.is_closed() {
            tokio::select! {
                biased;
                () = tokio::time::sleep(wait) => {}
                () = self.shared.queue.wake.notified() => continue,
            }
            match self.reopen(&fault) {
                Ok(()) => {
                    tracing::info!("storage is well again");
                    self.shared.queue.mend();
                    self.shared.tidy_all_payloads();
                    self.shared.observe(|observer| observer.recovered());
                    return;
                }
                Err(fault) => self.fail(&fault, Vec::new()),
            }
            wait = (wait * 2).min(REOPEN_WAIT.1);
        }
    }

    fn fail(&self, fault: &Fault, waiters: Vec<oneshot::Sender<Done>>) {
        let queued = self.shared.queue.fail(fault.clone());
        for done in waiters.into_iter().chain(queued.into_iter().map(|change| change.done)) {
            let _ = done.send(Err(fault.clone().into()));
        }
    }

    /// What ailed it is `fault`.
    fn reopen(&mut self, fault: &Fault) -> Result<(), Fault> {
        let shared = &self.shared;
        // Readers hold it for the time of one question; a new one is refused meanwhile.
        let Some(mut database) = shared.database.try_write_for(REOPEN_WAIT.1) else {
            return Err(Fault::Io { cause: "a reader holds the failed storage".to_owned() });
        };
        drop(database.take());
        shared.medium.recover().map_err(|error| Fault::of_io(&error))?;
        let opened = opened::open(&*shared.medium, &shared.options, false)?;
        // What was told to have failed may be there, and its ids are used up.
        self.ledger = opened.ledger;
        self.sweep.begin_anew();
        self.quick_repair = match fault {
            Fault::DiskFull => QuickRepair::new(&shared.options),
            Fault::Io { .. } => QuickRepair::after_fault(&shared.options),
        };
        shared.counts.set(&self.ledger, self.sweep.oldest());
        *database = Some(opened);
        Ok(())
    }
}

impl Drop for Committing {
    /// However it ends, nobody waits for it any longer.
    fn drop(&mut self) {
        self.shared.queue.close();
        drop(self.shared.queue.drain());
        self.shared.close();
    }
}
