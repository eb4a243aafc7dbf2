//! The opening handshake (RFC 6455, section 4.2): a request to an answer. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::paths::{Opened, Path};
use crate::bearer::Bearer;
use crate::requester::query;

/// What a connection must show to be opened.
pub(super) struct Door {
    pub(super) paths: Vec<Path>,
    pub(super) token: Option<Bearer>,
    pub(super) origins: Vec<Box<str>>,
    pub(super) sub_protocols: Vec<Box<str>>,
}

/// Why a connection is not opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unwelcome {
    status: StatusCode,
    code: &'static str,
    detail: &'static str,
}

impl Unwelcome {
    const fn new(status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        Self { status, code, detail }
    }

    pub(super) const fn bad_path() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_path", "The path cannot be a topic.")
    }

    pub(super) const fn bad_filter() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_topic_filter", "The parameter `topic` is no topic filter.")
    }

    pub(super) const fn bad_device() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_device", "The device's name must have 1 to 255 bytes.")
    }

    /// A problem (RFC 9457), and the headers that its status asks for.
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let body = serde_json::json!({
            "status": self.status.as_u16(), "title": self.status.canonical_reason(), "code": self.code,
            "detail": self.detail,
        });
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sandbar\""));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            StatusCode::UPGRADE_REQUIRED => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade, close"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            _ => {}
        }
        response
    }
}

impl Door {
    /// What the connection is for, and the answer that opens it. `peer` is its address and its certificate's name.
    pub(super) fn open(
        &self,
        parts: &Parts,
        peer: (&str, Option<&str>),
    ) -> Result<(Opened, Response<Full<Bytes>>), Unwelcome> {
        let key = key(parts)?;
        let may_enter = self.token.as_ref().is_none_or(|token| {
            token.is_in(&parts.headers)
                || query(parts, "access_token").is_some_and(|given| token.is(given.as_bytes()))
        });
        if !may_enter {
            return Err(Unwelcome::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "The token is missing or wrong.",
            ));
        }
        self.check_origin(&parts.headers)?;
        let sub_protocol = self.sub_protocol(&parts.headers)?;
        for path in &self.paths {
            if let Some(opened) = path.open(parts, peer, sub_protocol)? {
                return Ok((opened, accepting(key, sub_protocol)));
            }
        }
        Err(Unwelcome::new(StatusCode::NOT_FOUND, "no_such_path", "Nothing is here."))
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Unwelcome> {
        let Some(origin) = headers.get(ORIGIN).filter(|_| !self.origins.is_empty()) else { return Ok(()) };
        match self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
            true => Ok(()),
            false => {
                Err(Unwelcome::new(StatusCode::FORBIDDEN, "origin", "Pages of this site may not connect."))
            }
        }
    }

    fn sub_protocol(&self, headers: &HeaderMap) -> Result<Option<&str>, Unwelcome> {
        if self.sub_protocols.is_empty() {
            return Ok(None);
        }
        let spoken = self
            .sub_protocols
            .iter()
            .find(|spoken| has_token(headers, &SEC_WEBSOCKET_PROTOCOL, spoken, false));
        spoken.map(|spoken| Some(&**spoken)).ok_or(Unwelcome::new(
            StatusCode::BAD_REQUEST,
            "no_sub_protocol",
            "None of the offered sub-protocols is spoken here.",
        ))
    }
}

/// The request's key, if it is a request for a WebSocket at all (section 4.2.1).
fn key(parts: &Parts) -> Result<&HeaderValue, Unwelcome> {
    let headers = &parts.headers;
    if parts.method != Method::GET {
        return Err(Unwelcome::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Only GET opens a WebSocket.",
        ));
    }
    let upgrades =
        has_token(headers, &UPGRADE, "websocket", true) && has_token(headers, &CONNECTION, "upgrade", true);
    let version = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if !upgrades || !version {
        let detail = "Only WebSocket connections of version 13 are taken here.";
        return Err(Unwelcome::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail));
    }
    let is_key = |key: &&HeaderValue| STANDARD.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16);
    headers.get(SEC_WEBSOCKET_KEY).filter(is_key).ok_or(Unwelcome::new(
        StatusCode::BAD_REQUEST,
        "bad_key",
        "Sec-WebSocket-Key must be 16 bytes in base 64.",
    ))
}

fn accepting(key: &HeaderValue, sub_protocol: Option<&str>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(Ok(sub_protocol)) = sub_protocol.map(HeaderValue::from_str) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, sub_protocol);
    }
    response
}

/// Whether a list of a header (RFC 9110, section 5.6.1) has it.
fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str, any_case: bool) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|token| match any_case {
        true => token.eq_ignore_ascii_case(wanted),
        false => token == wanted,
    })
}
