//! IoT Cloud Connector: devices on the WebSocket `/connect`, and who asks for them on the same port.
//!
//! What differs: two connections of one device are two, and closing one leaves the other listed; requests need a
//! token if one is set; connections are pinged and limited; what devices send is on disk before it is forgotten.

mod connect;
mod http;
mod status;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use sandbar_control::tables::CloudConnectorTable;
use sandbar_control::{Control, DeviceConnections, Session};
use sandbar_reading::ConfigError;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What readings of these devices have as their ingress.
pub const INGRESS: &str = sandbar_control::CLOUD_CONNECTOR_INGRESS;

/// What all requests share.
struct Face {
    control: Control,
    session: Session,
    devices: Arc<DeviceConnections>,
    token: Option<Box<str>>,
    query_timeout: Duration,
    ping_interval: Duration,
    places: Arc<Semaphore>,
    traffic: status::Traffic,
    connections: TaskTracker,
    /// The host stops, or this face of it.
    stop: CancellationToken,
}

/// Answers until `stop`; then connections are closed (1001).
pub async fn serve(
    listener: TcpListener,
    control: Control,
    table: &CloudConnectorTable,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let token = table.token.as_ref();
    let token = token.map(|token| token.resolve("token", |path| std::fs::read_to_string(path))).transpose();
    let session = control.session(INGRESS.parse().expect("it is a name"));
    let face = Arc::new(Face {
        devices: DeviceConnections::new(session.clone()),
        session,
        control,
        token: token
            .map_err(|error| error.within("compat.cloud_connector"))?
            .map(|token| token.trim().into()),
        query_timeout: Duration::from_millis(table.query_timeout_ms.get()),
        ping_interval: Duration::from_millis(table.ping_interval_ms.get()),
        places: Arc::new(Semaphore::new(table.connections_max)),
        traffic: status::Traffic::new(),
        connections: TaskTracker::new(),
        stop: stop.clone(),
    });
    let sampling = tokio::spawn(status::sample(Arc::clone(&face)));
    let result = sandbar_serve::serve(listener, router(Arc::clone(&face)), table.connections_max, stop).await;
    sampling.abort();
    face.connections.close();
    face.connections.wait().await;
    face.devices.closed().await;
    Ok(result?)
}

/// Why there is no such face.
#[derive(Debug)]
pub enum ServeError {
    Config(ConfigError),
    Io(io::Error),
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Io(error) => write!(f, "the face of IoT Cloud Connector ended: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}

impl From<ConfigError> for ServeError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn router(face: Arc<Face>) -> Router {
    Router::new()
        .route("/connect", get(connect::connect))
        .route("/cloud-connector/status", get(status::show))
        .route("/cloud-connector/status/stream", get(status::stream))
        .route("/devices", get(http::devices))
        .route("/devices/status/{id}", get(http::status))
        .route("/devices/{id}/show", get(http::show))
        .route("/devices/command/{id}", post(http::command))
        .route("/devices/query/{id}", post(http::query))
        .layer(from_fn_with_state(Arc::clone(&face), check))
        .with_state(face)
}

/// Lets nobody through without the token; where there is none, no page of another site that somebody looks at.
async fn check(State(face): State<Arc<Face>>, request: Request, next: Next) -> Response {
    let refusal = match &face.token {
        Some(token) => {
            (!presents(request.headers(), token)).then_some((StatusCode::UNAUTHORIZED, "a token is needed"))
        }
        None => is_of_a_page(request.headers()).then_some((
            StatusCode::FORBIDDEN,
            "a browser may ask by this machine's address, or with a token",
        )),
    };
    match refusal {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    }
}

/// Whether a browser asks for a page that is not of this address. Whoever owns a name may let it lead here for a
/// moment (DNS rebinding), so a name is nobody's address.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let (origin, site) = (text("origin"), text("sec-fetch-site"));
    if origin.is_none() && site.is_none() {
        return false;
    }
    let host = text("host").unwrap_or_default();
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name);
    let is_address = name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_own = origin.is_none_or(|origin| origin.split_once("://").is_some_and(|(_, rest)| rest == host))
        && site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    !(is_address && is_own)
}

fn presents(headers: &HeaderMap, token: &str) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    let given = bearer.or_else(|| text("authentication"));
    given.is_some_and(|given| given.as_bytes().ct_eq(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_told_from_programs_and_from_this_site() {
        let asked = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            is_of_a_page(&pairs.collect())
        };
        let here = ("host", "127.0.0.1:3001");
        assert!(!asked(&[here]) && !asked(&[("host", "box.local:3001")]), "a program");
        assert!(!asked(&[here, ("origin", "http://127.0.0.1:3001"), ("sec-fetch-site", "same-origin")]));
        assert!(!asked(&[("host", "[::1]:3001"), ("sec-fetch-site", "none")]), "typed into the address bar");
        assert!(asked(&[here, ("origin", "https://elsewhere.example")]));
        assert!(asked(&[here, ("origin", "null")]));
        assert!(asked(&[here, ("sec-fetch-site", "cross-site")]));
        let rebound = ("host", "elsewhere.example:3001");
        assert!(asked(&[
            rebound,
            ("origin", "http://elsewhere.example:3001"),
            ("sec-fetch-site", "same-origin")
        ]));
    }
}
