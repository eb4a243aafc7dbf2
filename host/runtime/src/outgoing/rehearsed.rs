//! Answers that stand in for the far ends' where a handler is tried offline.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use sandbar_reading::ConfigError;
use wasmtime_wasi_http::Error;

use super::{Failed, Sent, without_secrets};

/// What a request gets for an answer.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    method: Method,
    uri: Uri,
    /// The text is why the far end does not answer.
    answer: Result<Response<Bytes>, String>,
}

impl HttpAnswer {
    /// To `method` and `url`, query included. Errors name `method`, `url`, `status` or `headers`.
    pub fn new(
        method: &str,
        url: &str,
        status: u16,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Self, ConfigError> {
        let mut answer = Response::new(body);
        *answer.status_mut() = StatusCode::from_u16(status)
            .map_err(|_| ConfigError::at("status", format!("{status} is no status of an answer")))?;
        for (name, value) in headers {
            let wrong = || ConfigError::at("headers", format!("`{name}: {value}` is no header"));
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            answer.headers_mut().append(key, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?);
        }
        Self::to(method, url, Ok(answer))
    }

    /// None comes, and this is why.
    pub fn failure(method: &str, url: &str, why: &str) -> Result<Self, ConfigError> {
        Self::to(method, url, Err(why.to_owned()))
    }

    fn to(method: &str, url: &str, answer: Result<Response<Bytes>, String>) -> Result<Self, ConfigError> {
        let no_method = |_| ConfigError::at("method", format!("`{method}` is not a method, such as GET"));
        let no_url = |error| ConfigError::at("url", format!("`{url}`: {error}"));
        Ok(Self {
            method: Method::from_bytes(method.as_bytes()).map_err(no_method)?,
            uri: url.parse().map_err(no_url)?,
            answer,
        })
    }
}

/// Each is given once, in their order; the last of a request again and again.
#[derive(Clone, Debug)]
pub(super) struct Rehearsed(Arc<Mutex<Vec<HttpAnswer>>>);

impl Rehearsed {
    pub(super) fn new(answers: Vec<HttpAnswer>) -> Self {
        Self(Arc::new(Mutex::new(answers)))
    }

    pub(super) fn answer(&self, method: &Method, uri: &Uri) -> Result<Sent, Failed> {
        let answer = self.next(method, uri).ok_or_else(|| {
            let why = format!(
                "nothing is sent here, and no answer stands for {method} {}",
                without_secrets(&uri.to_string())
            );
            Failed::new(why, Error::DestinationUnavailable)
        })?;
        let answer = answer.map_err(|why| Failed::new(why, Error::ConnectionTerminated))?;
        let body = |bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
        Ok((answer.map(body), Box::new(std::future::ready(Ok(())))))
    }

    fn next(&self, method: &Method, uri: &Uri) -> Option<Result<Response<Bytes>, String>> {
        let mut answers = self.0.lock();
        let is_it = |answer: &HttpAnswer| answer.method == *method && answer.uri == *uri;
        let at = answers.iter().position(is_it)?;
        let is_last = answers.iter().filter(|answer| is_it(answer)).count() == 1;
        Some(if is_last { answers[at].answer.clone() } else { answers.remove(at).answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_their_order_and_the_last_one_stays() {
        let answer = |status| HttpAnswer::new("GET", "http://a/x", status, &[], Bytes::new()).unwrap();
        let failure = HttpAnswer::failure("GET", "http://a/x", "no one is there").unwrap();
        let rehearsed = Rehearsed::new(vec![answer(200), failure, answer(404)]);
        let ask = |url: &str| rehearsed.next(&Method::GET, &url.parse().unwrap());
        assert!(ask("http://a/y").is_none());
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(ask("http://a/x").unwrap().map(|answer| answer.status().as_u16()));
        }
        assert_eq!(seen, [Ok(200), Err("no one is there".to_owned()), Ok(404), Ok(404)]);
    }

    #[test]
    fn says_what_is_no_answer() {
        let setting = |made: Result<HttpAnswer, ConfigError>| made.unwrap_err().setting;
        let bad = [("a b".to_owned(), "c".to_owned())];
        assert_eq!(setting(HttpAnswer::new("GET", "http://a/", 99, &[], Bytes::new())), "status");
        assert_eq!(setting(HttpAnswer::new("GET", "http://a/", 200, &bad, Bytes::new())), "headers");
        assert_eq!(setting(HttpAnswer::failure("G T", "http://a/", "")), "method");
        assert_eq!(setting(HttpAnswer::failure("GET", "http://a b/", "")), "url");
    }
}
