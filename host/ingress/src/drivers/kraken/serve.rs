//! Connections of collectors: HTTP/2, in plain text or TLS.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;
use tonic::codegen::Service;

use super::body::{Metered, Room};
use super::proto::kraken_service_server::KrakenServiceServer;
use super::service::{Calls, Collectors};
use crate::listener;
use crate::tls::Acceptor;
use crate::{PeerInfo, Session};

/// How long an answer that is being written may take when the session stops.
const DRAIN: Duration = Duration::from_millis(250);

/// Names, and what little metadata a gRPC call has.
const HEADERS_MAX: u32 = 16 << 10;

/// Who calls.
#[derive(Clone, Copy)]
pub(super) struct Caller(pub(super) SocketAddr);

pub(super) struct Server {
    pub(super) collectors: Collectors,
    pub(super) acceptor: Option<Arc<Acceptor>>,
    pub(super) message_max: usize,
    /// For all messages that are being received.
    pub(super) room: Arc<Room>,
    pub(super) calls_max: u32,
    pub(super) idle_max: Duration,
}

impl Server {
    /// Returns once the session has stopped and the calls in flight are answered.
    pub(super) async fn run(self, listener: TcpListener, session: &Session, connections_max: usize) {
        let server = Arc::new(self);
        listener::serve(listener, session, connections_max, |stream, peer| {
            let server = Arc::clone(&server);
            async move { server.connection(stream, peer).await }
        })
        .await;
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let session = &self.collectors.session;
        let _listed = session.connected(PeerInfo { remote: Some(peer), ..PeerInfo::default() });
        let Some(acceptor) = &self.acceptor else { return self.calls(stream, peer).await };
        let handshake = acceptor.at(session.now()).accept(stream);
        let stream = tokio::select! {
            stream = tokio::time::timeout(self.idle_max, handshake) => stream,
            () = session.stopped() => return,
        };
        if let Ok(Ok(stream)) = stream {
            self.calls(stream, peer).await;
        }
    }

    async fn calls(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let calls = Calls { collectors: self.collectors.clone(), under_way: Arc::default() };
        let under_way = Arc::clone(&calls.under_way);
        let service = KrakenServiceServer::new(calls)
            .max_decoding_message_size(self.message_max)
            .max_encoding_message_size(usize::MAX);
        let (room, idle_max) = (Arc::clone(&self.room), self.idle_max);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Caller(peer));
            let room = Arc::clone(&room);
            service.clone().call(request.map(|body| Body::new(Metered::new(body, room, idle_max))))
        });
        let builder = self.builder();
        let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let session = &self.collectors.session;
        tokio::select! {
            // Whether it ended or broke: the collector connects again.
            _ = &mut served => return,
            () = session.stopped() => {}
        }
        served.as_mut().graceful_shutdown();
        // Who is between calls, or in the middle of sending one, was promised nothing.
        while tokio::time::timeout(DRAIN, &mut served).await.is_err() && is_busy(&under_way) {}
    }

    /// A far end that vanished is found by HTTP/2's own pings.
    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new()).http2_only();
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEADERS_MAX)
            .max_concurrent_streams(self.calls_max)
            .keep_alive_interval(self.idle_max)
            .keep_alive_timeout(self.idle_max);
        builder
    }
}

fn is_busy(under_way: &AtomicU32) -> bool {
    under_way.load(Ordering::Relaxed) > 0
}
