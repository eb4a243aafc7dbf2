//! Requests over HTTP that the route permits (`permissions.http`).
//!
//! ```no_run
//! use sandbar_guest::prelude::*;
//! use sandbar_guest::http::Request;
//!
//! # fn f(reading: &Reading) -> Result<(), Failure> {
//! let answer = Request::get("https://api.example.com/v1/limits").send()?;
//! if !answer.is_ok() {
//!     return Err(Failure::retry(format!("the limits: status {}", answer.status)));
//! }
//! let limits: serde_json::Value = answer.json()?;
//! # Ok(()) }
//! # use sandbar_guest::serde_json;
//! ```
//!
//! A handler waits for the answer, and its time goes on: `limits.time_ms` must have room for it. What is asked of others
//! is not undone if the handler fails; at the next attempt it is asked again. Redirects are not followed.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Failure, host};

pub use crate::bindings::sandbar::handler::http::{HttpError, Request, Response};

impl Request {
    /// A request without headers and body.
    ///
    /// ```
    /// # use sandbar_guest::http::Request;
    /// let request = Request::new("DELETE", "https://api.example.com/v1/rooms/7");
    /// ```
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: None,
        }
    }

    /// ```
    /// # use sandbar_guest::http::Request;
    /// assert_eq!(Request::get("https://api.example.com/").method, "GET");
    /// ```
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A request with a body.
    ///
    /// ```
    /// # use sandbar_guest::http::Request;
    /// let note = Request::post("https://api.example.com/notes", "text/plain", "the door is open");
    /// assert_eq!(note.headers, [("content-type".to_owned(), "text/plain".to_owned())]);
    /// ```
    pub fn post(url: impl Into<String>, content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", url) }.with_header("content-type", content_type)
    }

    /// A request whose body is `value` as JSON.
    ///
    /// ```
    /// # use sandbar_guest::{http::Request, serde_json::json};
    /// let request = Request::post_json("https://api.example.com/rooms", &json!({"celsius": 21.5})).unwrap();
    /// assert_eq!(request.body, br#"{"celsius":21.5}"#);
    /// ```
    pub fn post_json(url: impl Into<String>, value: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self::post(url, "application/json", serde_json::to_vec(value)?))
    }

    /// Adds a header.
    ///
    /// ```
    /// # use sandbar_guest::{http::Request, config};
    /// # fn f() -> Result<(), String> {
    /// let token: String = config::required("secret.token")?;
    /// let request = Request::get("https://api.example.com/").with_header("authorization", format!("Bearer {token}"));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// For connecting, for the beginning of the answer, and between two parts of it; at most what the route allows.
    ///
    /// ```
    /// # use sandbar_guest::http::Request;
    /// # use std::time::Duration;
    /// let request = Request::get("https://api.example.com/").with_timeout(Duration::from_millis(300));
    /// ```
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = Some(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
        self
    }

    /// Sends it and waits for the answer. `?` on the error tries again later what may go well then, and rejects the rest.
    pub fn send(&self) -> Result<Response, HttpError> {
        host::http_send(self)
    }
}

/// Sends several requests at the same time, as many as the route allows, and waits for all answers, which are in the
/// requests' order.
///
/// ```no_run
/// use sandbar_guest::http::{Request, send_all};
/// let [inside, outside] = ["inside", "outside"].map(|place| format!("https://api.example.com/{place}"));
/// let answers = send_all(&[Request::get(inside), Request::get(outside)]);
/// ```
pub fn send_all(requests: &[Request]) -> Vec<Result<Response, HttpError>> {
    host::http_send_all(requests)
}

impl Response {
    /// An answer as tests make them.
    ///
    /// ```
    /// # use sandbar_guest::http::Response;
    /// assert!(Response::new(204, "").is_ok());
    /// ```
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// Whether the status is one of 200 to 299.
    ///
    /// ```
    /// # use sandbar_guest::http::Response;
    /// assert!(!Response::new(404, "").is_ok());
    /// ```
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of that name, whatever its capitals.
    ///
    /// ```
    /// # use sandbar_guest::http::Response;
    /// fn next(answer: &Response) -> Option<&str> {
    ///     answer.header("Location")
    /// }
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().find(is_it).map(|(_, value)| value.as_str())
    }

    /// The body as text; what is not UTF-8 is rejected.
    ///
    /// ```
    /// # use sandbar_guest::http::Response;
    /// assert_eq!(Response::new(200, "pong").text().unwrap(), "pong");
    /// ```
    pub fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.body)
            .map_err(|error| Failure::reject(format!("the answer is not UTF-8 text: {error}")))
    }

    /// The body as JSON. What is not the JSON that `T` says is rejected, with what is wrong and where.
    ///
    /// ```
    /// # use sandbar_guest::http::Response;
    /// assert_eq!(Response::new(200, "[1,2]").json::<Vec<u8>>().unwrap(), [1, 2]);
    /// ```
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::reject(format!("the answer is not the JSON expected: {error}")))
    }
}

/// An error's text, for failures and logs.
struct Said<'a>(&'a HttpError);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            HttpError::Denied(why) | HttpError::Invalid(why) | HttpError::Failed(why) => f.write_str(why),
            HttpError::TooLarge(limit) => write!(f, "the answers have more than {limit} bytes"),
        }
    }
}

/// What may go well another time is tried again; what never will is rejected.
impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let said = Said(&error).to_string();
        match error {
            HttpError::Failed(_) => Self::retry(said),
            _ => Self::reject(said),
        }
    }
}
