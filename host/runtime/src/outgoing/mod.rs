//! Requests that a handler makes over HTTP (`wasi:http/outgoing-handler`, `sandbar:handler/http`): only what the route
//! permits, only to addresses that it may reach, only so many at once, and only for so long.

mod body;
mod connect;
mod permission;
mod plain;
mod range;
mod rehearsed;
mod trace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiHttpHooks};

use self::body::Timed;
pub use self::permission::HttpPermission;
pub use self::range::{AddressRange, AddressRangeError};
pub use self::rehearsed::HttpAnswer;
use self::rehearsed::Rehearsed;
pub(crate) use self::trace::TraceHeaders;
use crate::logs::{LogLevel, Logs};

/// What a route permits, shared by its handler's instances. By default nothing.
#[derive(Clone, Debug)]
pub struct HttpAccess {
    permissions: Arc<[HttpPermission]>,
    /// One for every request that may be under way.
    at_once: Arc<Semaphore>,
    at_once_max: usize,
    timeout: Duration,
    /// What the answers to one call may have together, where they are not read as streams.
    answer_bytes: usize,
    /// Nothing may come of it: only GET and HEAD are sent.
    trial: bool,
    /// Nothing is sent: these are the answers.
    rehearsed: Option<Rehearsed>,
}

impl Default for HttpAccess {
    fn default() -> Self {
        Self::new(Vec::new(), 0, Duration::ZERO, 0)
    }
}

impl HttpAccess {
    /// `timeout`: for a connection, for the beginning of an answer, and between two parts of it. `answer_bytes`: of
    /// all answers to one call of `sandbar:handler/http`, headers included.
    pub fn new(
        permissions: Vec<HttpPermission>,
        at_once: usize,
        timeout: Duration,
        answer_bytes: usize,
    ) -> Self {
        Self {
            permissions: permissions.into(),
            at_once: Arc::new(Semaphore::new(at_once)),
            at_once_max: at_once,
            timeout,
            answer_bytes,
            trial: false,
            rehearsed: None,
        }
    }

    /// The same for calls of which nothing is to come.
    #[must_use]
    pub fn for_trial(self) -> Self {
        Self { trial: true, ..self }
    }

    /// The same with nothing sent: who is permitted to ask gets one of these answers.
    #[must_use]
    pub fn rehearsed(self, answers: Vec<HttpAnswer>) -> Self {
        Self { rehearsed: Some(Rehearsed::new(answers)), ..self }
    }

    pub fn is_nothing(&self) -> bool {
        self.permissions.is_empty()
    }

    /// All that cover the request: each may reach other addresses.
    fn covering(&self, method: &Method, uri: &Uri) -> Result<Vec<&HttpPermission>, String> {
        if self.trial && *method != Method::GET && *method != Method::HEAD {
            return Err("is not sent in a trial".to_owned());
        }
        let found: Vec<_> =
            self.permissions.iter().filter(|permission| permission.covers(method, uri)).collect();
        match found.is_empty() {
            true => Err("is not in the route's permissions".to_owned()),
            false => Ok(found),
        }
    }
}

/// One instance's way out.
#[derive(Clone)]
pub(crate) struct Outgoing {
    access: HttpAccess,
    logs: Logs,
    trace: TraceHeaders,
}

impl Outgoing {
    pub(crate) fn new(access: HttpAccess, logs: &Logs) -> Self {
        Self { access, logs: logs.clone(), trace: TraceHeaders::default() }
    }

    /// What the call's requests are part of.
    pub(crate) fn follow(&mut self, trace: TraceHeaders) {
        self.trace = trace;
    }
}

type Sent = (Response<wasmtime_wasi_http::WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        mut request: Request<wasmtime_wasi_http::WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let (access, logs) = (self.access.clone(), self.logs.clone());
        self.trace.add(request.headers_mut());
        let said = format!("{} {}", request.method(), without_secrets(&request.uri().to_string()));
        Box::new(async move {
            let sent = access.send(request, options.unwrap_or_default()).await;
            sent.map_err(|Failed { why, error }| {
                logs.add(LogLevel::Warn, "http", &format!("{said}: {why}"));
                error
            })
        })
    }

    fn forbidden_header_filter(&mut self) -> wasmtime_wasi_http::ForbiddenHeaderFilter {
        Arc::new(|name: &HeaderName| wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS.contains(name))
    }

    /// Two chunks of a body wait for the network, also if it is never sent.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        16 << 10
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        if error.is_timeout() { ErrorCode::HttpResponseTimeout } else { ErrorCode::HttpProtocolError }
    }

    fn p2_error_from_connect(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }
}

/// A query may have secrets in it, and so may what stands before the host.
fn without_secrets(url: &str) -> String {
    let text = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// For the handler's log, and for the handler.
struct Failed {
    why: String,
    error: Error,
}

impl Failed {
    fn new(why: impl Into<String>, error: Error) -> Self {
        Self { why: why.into(), error }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { why: error.to_string(), error }
    }
}

impl HttpAccess {
    async fn send(
        &self,
        request: Request<wasmtime_wasi_http::WasiBody>,
        options: RequestOptions,
    ) -> Result<Sent, Failed> {
        let permissions = self.covering(request.method(), request.uri());
        let permissions = permissions.map_err(|why| Failed::new(why, Error::HttpRequestDenied))?;
        if let Some(rehearsed) = &self.rehearsed {
            return rehearsed.answer(request.method(), request.uri());
        }
        let limit = |asked: Option<Duration>| asked.map_or(self.timeout, |asked| asked.min(self.timeout));
        let (connect, first, between) = (
            limit(options.connect_timeout),
            limit(options.first_byte_timeout),
            limit(options.between_bytes_timeout),
        );
        // One that has ended makes room a moment later.
        let permit = tokio::time::timeout(connect, Arc::clone(&self.at_once).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or_else(|| {
            Failed::new("as many requests as may be are under way", Error::ConnectionLimitReached)
        })?;
        let addresses = tokio::time::timeout(connect, resolve(&permissions, request.uri()))
            .await
            .map_err(|_| Failed::from(Error::DnsTimeout))??;
        let stream = tokio::time::timeout(connect, connect::open(request.uri(), &addresses))
            .await
            .map_err(|_| Failed::from(Error::ConnectionTimeout))??;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_headers(100)
            .handshake(wasmtime_wasi_http::io::TokioIo::new(stream))
            .await
            .map_err(|error| Failed::from(Error::from(error)))?;
        let mut connection = Box::pin(async move {
            let ended = connection.await.map_err(Error::from);
            drop(permit);
            ended
        });
        let answer = tokio::time::timeout(first, sender.send_request(to_origin(request)));
        let mut answer = std::pin::pin!(answer);
        let mut ended = None;
        // The connection is driven here until the answer begins, and by whoever has the answer from then on.
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer,
                result = &mut connection, if ended.is_none() => ended = Some(result),
            }
        };
        let answer = answer
            .map_err(|_| Failed::from(Error::ConnectionReadTimeout))?
            .map_err(|error| Failed::from(Error::from(error)))?;
        let rest: Box<dyn Future<Output = Result<(), Error>> + Send> = match ended {
            Some(result) => Box::new(std::future::ready(result)),
            None => Box::new(connection),
        };
        Ok((answer.map(|incoming| Timed::new(incoming, between).boxed_unsync()), rest))
    }
}

/// The addresses of the request's host, each of which one of the permissions must reach: what is connected to is
/// what was looked at, whatever the name stands for a moment later.
async fn resolve(permissions: &[&HttpPermission], uri: &Uri) -> Result<Vec<SocketAddr>, Failed> {
    let host = permission::bare(uri.host().unwrap_or_default());
    let usual = uri.scheme().and_then(permission::usual_port).unwrap_or(443);
    let port = uri.port_u16().unwrap_or(usual);
    let found = tokio::net::lookup_host((host.as_str(), port)).await;
    let unknown = |error: std::io::Error| {
        Failed::new(
            format!("{host} has no address: {error}"),
            Error::DnsError { rcode: None, info_code: None },
        )
    };
    let addresses: Vec<_> = found.map_err(unknown)?.collect();
    let reached =
        |address: &SocketAddr| permissions.iter().any(|permission| permission.reaches(address.ip()));
    if let Some(forbidden) = addresses.iter().find(|address| !reached(address)) {
        let why = format!("{host} is {}, which the route's permission does not name", forbidden.ip());
        return Err(Failed::new(why, Error::DestinationIpProhibited));
    }
    match addresses.is_empty() {
        true => Err(Error::DestinationNotFound.into()),
        false => Ok(addresses),
    }
}

/// A server, other than a proxy, is asked for the path alone.
fn to_origin<B>(mut request: Request<B>) -> Request<B> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// What the answer's body is made of.
type Part = http_body::Frame<Bytes>;

#[cfg(test)]
mod tests;
