//! Who writes and removes files: not the committer, and nobody who must not wait for the disk.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc as task;

use crate::options::Committer;

/// How many files are written at once: their flushes share what the filesystem does for each.
const THREADS: NonZeroUsize = NonZeroUsize::new(3).expect("it is 3");

/// Something to be done; if nobody is left to do it, it is dropped.
pub(crate) struct Job {
    /// To be written.
    bytes: usize,
    run: Box<dyn FnOnce() + Send>,
}

impl Job {
    pub(crate) fn new(bytes: usize, run: impl FnOnce() + Send + 'static) -> Self {
        Self { bytes, run: Box::new(run) }
    }
}

/// How long it takes to write so many bytes; nothing but for a simulation.
pub(crate) type Takes = Arc<dyn Fn(usize) -> Duration + Send + Sync>;

pub(crate) enum Writers {
    Threads {
        jobs: mpsc::Sender<Job>,
        waiting: Arc<Mutex<mpsc::Receiver<Job>>>,
        /// How many there are, once there was something to do: many hosts never see a large payload.
        started: OnceLock<usize>,
    },
    Task(task::UnboundedSender<Job>),
}

impl Writers {
    #[allow(clippy::disallowed_methods, reason = "what is written was let in by the queue, which is bounded")]
    pub(crate) fn new(committer: Committer, takes: Takes) -> Self {
        match committer {
            Committer::Thread => {
                let (jobs, waiting) = mpsc::channel();
                Self::Threads { jobs, waiting: Arc::new(Mutex::new(waiting)), started: OnceLock::new() }
            }
            Committer::Task => {
                let (jobs, mut waiting) = task::unbounded_channel::<Job>();
                tokio::spawn(async move {
                    while let Some(job) = waiting.recv().await {
                        tokio::time::sleep(takes(job.bytes)).await;
                        (job.run)();
                    }
                });
                Self::Task(jobs)
            }
        }
    }

    /// What is pushed is for readings that the queue had room for, for outcomes of as many turns as there may be at once,
    /// however many bytes those have, or has no payload.
    pub(crate) fn push(&self, job: Job) {
        match self {
            Self::Task(jobs) => drop(jobs.send(job)),
            Self::Threads { jobs, waiting, started } => {
                let threads = *started.get_or_init(|| {
                    let starts = (0..THREADS.get()).map(|_| start(waiting.clone()));
                    starts.filter(|started| *started).count()
                });
                if threads == 0 {
                    (job.run)();
                } else {
                    drop(jobs.send(job));
                }
            }
        }
    }
}

fn start(waiting: Arc<Mutex<mpsc::Receiver<Job>>>) -> bool {
    let work = move || {
        loop {
            let job = waiting.lock().recv();
            match job {
                Ok(job) => (job.run)(),
                Err(_no_store_left) => return,
            }
        }
    };
    let started = std::thread::Builder::new().name("payloads".to_owned()).spawn(work);
    if let Err(error) = &started {
        tracing::warn!(%error, "no thread for large payloads");
    }
    started.is_ok()
}
