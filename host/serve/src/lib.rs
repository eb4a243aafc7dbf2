//! Answers HTTP for those who keep a router: no client holds what others need, be it connections, time or memory.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderValue, Version, header};
use axum::response::Response;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

/// HTTP/2 requests of one connection at once.
const STREAMS_MAX: u32 = 32;
/// A request's head must be there after this, also the first one of a connection.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// A client that takes nothing of its answer for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// After a stop, requests under way may take so long.
const GRACE: Duration = Duration::from_secs(5);
/// When the system gives no more sockets.
const NO_SOCKET_WAIT: Duration = Duration::from_millis(100);

/// Answers requests until `stop`; then those under way are finished. Requests have their peer's address as
/// [`ConnectInfo`]; connections that become WebSockets are counted and ended by whoever takes them over.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    stop: CancellationToken,
) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(connections_max));
    let tasks = TaskTracker::new();
    loop {
        // Who comes when there are too many waits to be accepted.
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = connections.clone().acquire_owned() => permit.map_err(io::Error::other)?,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, router.clone(), stop.clone());
                tasks.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "connections cannot be accepted");
                sleep(NO_SOCKET_WAIT).await;
            }
        }
    }
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        debug!(connections = tasks.len(), "requests are left unfinished");
    }
    Ok(())
}

/// A refusal may come before the body was read: over HTTP/1 the client is told that the connection ends with it,
/// or it would take what is left of its body for a request of its own.
async fn answer(
    router: Router,
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    let unread = request.version() < Version::HTTP_2 && !request.body().is_end_stream();
    let mut response = router.oneshot(request.map(Body::new)).await?;
    if unread && (response.status().is_client_error() || response.status().is_server_error()) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    // An error means that the connection is gone, which the first read will tell.
    drop(stream.set_nodelay(true));
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_WITHIN));
    let begun = Arc::new(AtomicBool::new(false));
    let has_begun = begun.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        begun.store(true, Ordering::Relaxed);
        answer(router.clone(), request, peer)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().half_close(true).timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(Some(HEAD_WITHIN))
        .keep_alive_timeout(HEAD_WITHIN);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(Box::pin(stream)), service);
    let mut connection = std::pin::pin!(connection);
    // Until the version of HTTP is known nobody else counts the time.
    let mut first_head = std::pin::pin!(sleep(HEAD_WITHIN));
    let mut counting = true;
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    debug!(error, "a connection failed");
                }
                return;
            }
            () = &mut first_head, if counting => {
                counting = false;
                if !has_begun.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
