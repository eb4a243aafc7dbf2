//! Accepts connections, each served by a task of its own.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};

use crate::complaints::Complaints;
use crate::{LinkError, Session};

/// After a failure to accept, such as too many open files: one closed connection may be enough.
const PAUSE: Duration = Duration::from_millis(100);

/// A far end that vanished without a farewell is noticed after about five of these.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Listens at `address`, and tells the session the one it got.
pub(crate) async fn listen(address: SocketAddr, session: &Session) -> Result<TcpListener, LinkError> {
    let listening = |error| LinkError::new(format!("listening on {address}"), error);
    let listener = TcpListener::bind(address).await.map_err(listening)?;
    session.bound(listener.local_addr().map_err(listening)?);
    Ok(listener)
}

/// Serves connections, at most so many at once, until the session stops and all have ended. Further ones wait in
/// the kernel's backlog. Each is to end by itself when the session stops.
pub(crate) async fn serve<F>(
    listener: TcpListener,
    session: &Session,
    connections_max: usize,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let complaints = Complaints::new(session.ingress().clone());
    let mut connections = JoinSet::new();
    let mut stopped = pin!(session.stopped());
    loop {
        tokio::select! {
            () = &mut stopped => break,
            Some(ended) = connections.join_next() => log_panic(ended, session),
            accepted = listener.accept(), if connections.len() < connections_max => match accepted {
                Ok((stream, peer)) => {
                    prepare(&stream);
                    connections.spawn(serve(stream, peer));
                }
                Err(error) => pause(&error, &complaints, session).await,
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log_panic(ended, session);
    }
}

/// Waits after a failure to accept, and says so now and then: who is not accepted hears nothing.
pub(crate) async fn pause(error: &io::Error, complaints: &Complaints, session: &Session) {
    complaints.note("not accepted", "a connection", error, session.now());
    tokio::time::sleep(PAUSE).await;
}

/// Small writes go out at once, and a far end that vanished is noticed.
pub(crate) fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(4);
    // A stream that is gone already says so when it is read.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

fn log_panic(ended: Result<(), JoinError>, session: &Session) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(ingress = %session.ingress(), %error, "bug in a driver: a connection was lost");
    }
}
