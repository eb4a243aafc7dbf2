//! What is answered when a request is not taken: problem details (RFC 9457) with a stable `code`.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use sandbar_reading::{ReadingId, Refused};

#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// What programs look at; part of the interface.
    code: &'static str,
    detail: Cow<'static, str>,
    /// The reading was taken all the same: its id.
    id: Option<ReadingId>,
    header: Option<Box<(http::HeaderName, HeaderValue)>>,
}

/// Seconds after which a sender may try again when the host cannot say.
const RETRY_LATER: u64 = 10;

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), id: None, header: None }
    }

    fn with(mut self, name: http::HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.header = Some(Box::new((name, value.into())));
        self
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_path", "nothing is taken at this path")
    }

    pub(super) fn bad_path() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_path", "the path is not UTF-8, or has an encoded slash")
    }

    pub(super) fn bad_topic(error: &sandbar_reading::TopicError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_topic", format!("the path gives no topic: {error}"))
    }

    pub(super) fn bad_device() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_device", "the device's name must have 1 to 255 bytes")
    }

    pub(super) fn no_device(pointer: &str) -> Self {
        let detail = format!("the body names no device at {pointer}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "no_device", detail)
    }

    pub(super) fn bad_query(parameter: &str) -> Self {
        let detail = format!("the query parameter `{parameter}` is not UTF-8");
        Self::new(StatusCode::BAD_REQUEST, "bad_query", detail)
    }

    pub(super) fn bad_key() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_idempotency_key", "the key must be 1 to 255 bytes")
    }

    pub(super) fn cut_off() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "cut_off", "the body ended early")
    }

    pub(super) fn method(allowed: &str) -> Self {
        let problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("taken here: {allowed}"));
        match HeaderValue::from_str(allowed) {
            Ok(allowed) => problem.with(ALLOW, allowed),
            Err(_) => problem,
        }
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is needed, and must be right")
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sandbar\""))
    }

    pub(super) fn bad_signature() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "bad_signature", "the body's signature is missing or wrong")
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Signature realm=\"sandbar\""))
    }

    pub(super) fn content_type(taken: &[String]) -> Self {
        let detail = match taken {
            [] => "the content type is malformed".to_owned(),
            taken => format!("taken here: {}", taken.join(", ")),
        };
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", detail)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let detail = format!("the body may have {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    pub(super) fn timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took too long to arrive")
            .with(CONNECTION, HeaderValue::from_static("close"))
    }

    pub(super) fn refused(refused: &Refused) -> Self {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match refused {
            Refused::Busy { retry_after } => {
                // Rounded up: a sender that comes back early is refused again.
                let seconds = retry_after.as_millis().div_ceil(1000).clamp(1, 3600) as u64;
                Self::new(unavailable, "busy", "too much is waiting").with(RETRY_AFTER, seconds)
            }
            Refused::TooLarge { limit, .. } => Self::too_large(*limit),
            Refused::DiskFull => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", "the disk is full")
                .with(RETRY_AFTER, RETRY_LATER),
            // The cause is for the operator, who finds it in the log.
            Refused::Storage { .. } => {
                Self::new(unavailable, "storage", "the storage fails").with(RETRY_AFTER, RETRY_LATER)
            }
            Refused::Stopping => {
                Self::new(unavailable, "stopping", "shutting down").with(RETRY_AFTER, RETRY_LATER)
            }
        }
    }

    pub(super) fn rejected(id: ReadingId, why: String) -> Self {
        Self { id: Some(id), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "rejected", why) }
    }

    pub(super) fn no_reply(id: ReadingId) -> Self {
        let detail = "the reading was taken, but its handler has not replied in time";
        Self { id: Some(id), ..Self::new(StatusCode::GATEWAY_TIMEOUT, "no_reply", detail) }
    }

    pub(super) fn bad_reply(id: ReadingId, status: &str) -> Self {
        let detail = format!("the reading was taken, but its handler replied with the status `{status}`");
        Self { id: Some(id), ..Self::new(StatusCode::BAD_GATEWAY, "bad_reply", detail) }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Problem"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(id) = self.id {
            body["id"] = id.to_string().into();
        }
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.header.map(|header| *header));
        response
    }
}
