//! Connections: accepts them, serves them, and ends them when they idle or the session stops.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::request::Requests;
use crate::complaints::Complaints;
use crate::listener::pause;

/// How long an answer that is being written may take when the session stops.
const DRAIN: Duration = Duration::from_millis(250);

/// A connection is looked at so many times in the time that it may idle.
const LOOKS: u32 = 4;

pub(super) struct Server {
    pub(super) requests: Arc<Requests>,
    pub(super) connections_max: usize,
    pub(super) idle_max: Duration,
    pub(super) head_max: usize,
}

impl Server {
    /// Returns once the session has stopped and the requests in flight are answered.
    pub(super) async fn run(self, listener: TcpListener) {
        let session = self.requests.session().clone();
        let complaints = Complaints::new(session.ingress().clone());
        let server = Arc::new(self);
        let mut connections = JoinSet::new();
        let mut stopped = pin!(session.stopped());
        loop {
            tokio::select! {
                () = &mut stopped => break,
                Some(ended) = connections.join_next() => log_panic(ended),
                // When there are enough, further ones wait in the kernel's backlog.
                accepted = listener.accept(), if connections.len() < server.connections_max => {
                    match accepted {
                        Ok((stream, peer)) => {
                            let server = Arc::clone(&server);
                            connections.spawn(async move { server.connection(stream, peer.to_string()).await });
                        }
                        Err(error) => pause(&error, &complaints, &session).await,
                    }
                }
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    }

    async fn connection(&self, stream: TcpStream, peer: String) {
        // Answers are short: waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let activity = Arc::new(Activity::default());
        let sender = Arc::new((peer, Arc::clone(&self.requests), Arc::clone(&activity)));
        let service = service_fn(move |request| {
            let sender = Arc::clone(&sender);
            async move {
                let (peer, requests, activity) = &*sender;
                let _busy = activity.begin();
                Ok::<_, Infallible>(requests.answer(request, peer).await)
            }
        });
        let builder = self.builder();
        let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));

        let session = self.requests.session();
        let mut stopped = pin!(session.stopped());
        let mut look = pin!(tokio::time::sleep(self.idle_max / LOOKS));
        let mut idle = Idle::default();
        loop {
            tokio::select! {
                biased;
                _ = &mut served => return,
                () = &mut stopped => break,
                () = &mut look => {
                    if idle.look(&activity) >= LOOKS {
                        return;
                    }
                    look.as_mut().reset(Instant::now() + self.idle_max / LOOKS);
                }
            }
        }
        served.as_mut().graceful_shutdown();
        // Who is between requests, or in the middle of sending one, was promised nothing.
        while tokio::time::timeout(DRAIN, &mut served).await.is_err() && activity.is_busy() {}
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().max_buf_size(self.head_max).half_close(true);
        builder
            .http2()
            .max_header_list_size(u32::try_from(self.head_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(256);
        builder
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "bug in the webhook driver: a connection was lost");
    }
}

/// What a connection is doing.
#[derive(Debug, Default)]
struct Activity {
    /// Requests whose head has come, ever.
    begun: AtomicU64,
    /// Of these, those that are not answered.
    in_flight: AtomicU32,
}

struct Busy<'a>(&'a Activity);

impl Activity {
    fn begin(&self) -> Busy<'_> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts the looks at which nothing had happened since the one before. That also finds who sends a head
/// byte by byte, at no cost for those who do not.
#[derive(Debug, Default)]
struct Idle {
    looks: u32,
    begun: u64,
}

impl Idle {
    fn look(&mut self, activity: &Activity) -> u32 {
        let begun = activity.begun.load(Ordering::Relaxed);
        let quiet = begun == self.begun && !activity.is_busy();
        self.begun = begun;
        self.looks = if quiet { self.looks + 1 } else { 0 };
        self.looks
    }
}
