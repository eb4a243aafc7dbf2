//! Every way in which a request can fail, as problem details (RFC 9457).

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sandbar_control::ControlError;
use sandbar_reading::{ConfigError, Refused};

use crate::views::{Code, Problem, ProblemType};

pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// What to tell a client that may try again at once.
const SOON: Duration = Duration::from_secs(1);

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            kind: ProblemType::AboutBlank,
            title: Cow::Borrowed(status.canonical_reason().unwrap_or_default()),
            status: code.status(),
            detail: detail.into(),
            code,
            setting: None,
            line: None,
            column: None,
            used_by: Vec::new(),
        }
    }

    /// Something of the request is wrong, and has a name: a parameter, a field, a setting.
    pub(crate) fn at(code: Code, error: ConfigError) -> Self {
        let detail = error.to_string();
        Self { setting: Some(error.setting).filter(|setting| !setting.is_empty()), ..Self::new(code, detail) }
    }

    pub(crate) fn not_found(path: &str) -> Self {
        Self::new(Code::NotFound, format!("there is nothing at {path}; see /openapi.json"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("strings and numbers, written to memory");
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let headers = response.headers_mut();
        match self.code {
            Code::Unauthorized => {
                headers
                    .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sandbar\""));
            }
            Code::Busy => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(SOON.as_secs()));
            }
            // What is still to come of the body is not read.
            Code::TooLarge | Code::Timeout => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let text = error.to_string();
        match error {
            ControlError::NotFound { .. } => Self::new(Code::NotFound, text),
            ControlError::Declared { .. } => Self::new(Code::DeclaredInFile, text),
            ControlError::InUse { by, .. } => Self { used_by: by, ..Self::new(Code::InUse, text) },
            ControlError::Invalid(error) => Self::at(Code::InvalidConfig, error),
            ControlError::Problem(problem) => Self {
                line: Some(u32::try_from(problem.line).unwrap_or(u32::MAX)),
                setting: Some(problem.setting).filter(|setting| !setting.is_empty()),
                ..Self::new(Code::InvalidConfig, text)
            },
            ControlError::Component(_) => Self::new(Code::InvalidComponent, text),
            ControlError::Untrusted(_) => Self::new(Code::Untrusted, text),
            ControlError::TooLarge { .. } => Self::new(Code::TooLarge, text),
            ControlError::Conflict(_) => Self::new(Code::Conflict, text),
            ControlError::Refused(refused) => refused.into(),
            ControlError::Storage(_) => Self::new(Code::Storage, text),
            ControlError::DiskFull => Self::new(Code::DiskFull, text),
            ControlError::Stopping => Self::new(Code::Stopping, text),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::Busy { .. } => Code::Busy,
            Refused::TooLarge { .. } => Code::TooLarge,
            Refused::DiskFull => Code::DiskFull,
            Refused::Storage { .. } => Code::Storage,
            Refused::Stopping => Code::Stopping,
        };
        Self::new(code, refused.to_string())
    }
}
