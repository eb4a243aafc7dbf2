//! `sandbar:handler/http`: requests and answers as plain records, for languages without `wasi:http`. What is permitted,
//! reached and waited for is decided where it is for `wasi:http` (`HttpAccess::send`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use tokio::task::JoinSet;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody};

use super::{Failed, HttpAccess, Outgoing, without_secrets};
use crate::bindings::sandbar::handler::http as wit;
use crate::host::Host;
use crate::logs::LogLevel;

type Answer = Result<wit::Response, wit::HttpError>;

impl wit::Host for Host {
    async fn send(&mut self, request: wit::Request) -> wasmtime::Result<Answer> {
        let way = self.wasi().way_out().clone();
        let room = Room::of(&way.access);
        Ok(ask(way, request, room).await)
    }

    async fn send_all(&mut self, requests: Vec<wit::Request>) -> wasmtime::Result<Vec<Answer>> {
        let way = self.wasi().way_out();
        Ok(ask_all(way, requests).await)
    }
}

/// As many at the same time as the route allows; the answers are in the requests' order.
async fn ask_all(way: &Outgoing, requests: Vec<wit::Request>) -> Vec<Answer> {
    let room = Room::of(&way.access);
    let mut answers: Vec<Option<Answer>> = Vec::new();
    answers.resize_with(requests.len(), || None);
    let mut under_way = JoinSet::new();
    for (index, request) in requests.into_iter().enumerate() {
        if under_way.len() >= way.access.at_once_max.max(1) {
            keep(under_way.join_next().await, &mut answers);
        }
        let (way, room) = (way.clone(), room.clone());
        under_way.spawn(async move { (index, ask(way, request, room).await) });
    }
    while let Some(done) = under_way.join_next().await {
        keep(Some(done), &mut answers);
    }
    let lost = || Err(wit::HttpError::Failed("the request was given up".to_owned()));
    answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
}

fn keep(done: Option<Result<(usize, Answer), tokio::task::JoinError>>, answers: &mut [Option<Answer>]) {
    if let Some(Ok((index, answer))) = done {
        answers[index] = Some(answer);
    }
}

async fn ask(way: Outgoing, request: wit::Request, room: Room) -> Answer {
    let said = format!("{} {}", request.method, without_secrets(&request.url));
    let timeout = request.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
    let answer = match read(request) {
        Ok(mut request) => {
            way.trace.add(request.headers_mut());
            exchange(&way.access, request, timeout, &room).await
        }
        Err(problem) => Err(wit::HttpError::Invalid(problem)),
    };
    answer.inspect_err(|error| way.logs.add(LogLevel::Warn, "http", &format!("{said}: {}", why(error))))
}

fn why(error: &wit::HttpError) -> String {
    match error {
        wit::HttpError::Denied(why) | wit::HttpError::Invalid(why) | wit::HttpError::Failed(why) => {
            why.clone()
        }
        wit::HttpError::TooLarge(limit) => format!("the answer has more than {limit} bytes"),
    }
}

async fn exchange(
    access: &HttpAccess,
    request: Request<WasiBody>,
    timeout: Option<Duration>,
    room: &Room,
) -> Answer {
    let options = RequestOptions {
        connect_timeout: timeout,
        first_byte_timeout: timeout,
        between_bytes_timeout: timeout,
    };
    let (answer, connection) = access.send(request, options).await.map_err(refusal)?;
    let (parts, body) = answer.into_parts();
    let body = collect(body, room);
    let (mut body, mut connection) = (std::pin::pin!(body), Box::into_pin(connection));
    let mut ended = false;
    // The body comes only while somebody drives the connection.
    let body = loop {
        tokio::select! {
            biased;
            body = &mut body => break body?,
            _ = &mut connection, if !ended => ended = true,
        }
    };
    let headers = pairs(&parts.headers);
    room.take(headers.iter().map(|(name, value)| name.len() + value.len()).sum())?;
    Ok(wit::Response { status: parts.status.as_u16(), headers, body })
}

fn refusal(failed: Failed) -> wit::HttpError {
    match failed.error {
        Error::HttpRequestDenied | Error::DestinationIpProhibited => wit::HttpError::Denied(failed.why),
        Error::HttpRequestUriInvalid => wit::HttpError::Invalid(failed.why),
        _ => wit::HttpError::Failed(failed.why),
    }
}

async fn collect(mut body: WasiBody, room: &Room) -> Result<Vec<u8>, wit::HttpError> {
    let mut bytes = Vec::new();
    while let Some(part) = body.frame().await {
        let part = part.map_err(|error| wit::HttpError::Failed(error.to_string()))?;
        if let Some(data) = part.data_ref() {
            room.take(data.len())?;
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}

/// Headers that are not text are shown as far as they are.
fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// A request that can be sent, or what is wrong with it.
fn read(request: wit::Request) -> Result<Request<WasiBody>, String> {
    let method = Method::from_bytes(request.method.as_bytes()).ok();
    let method = method
        .filter(|method| *method != Method::CONNECT)
        .ok_or_else(|| format!("`{}` is no method for a request", request.method))?;
    let wrong = |problem: &str| format!("`{}` {problem}", request.url);
    let uri: Uri = request.url.parse().map_err(|error| wrong(&format!("is no URL: {error}")))?;
    let authority = match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) => authority.clone(),
        _ => return Err(wrong("does not begin with https:// or http:// and a host")),
    };
    if authority.as_str().contains('@') {
        return Err(format!("{} has a user in its URL: say it in a header", without_secrets(&request.url)));
    }
    let mut headers = headers(&request.headers)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("has no host"))?;
    headers.insert(header::HOST, host);
    let body = Full::new(Bytes::from(request.body)).map_err(|never| match never {}).boxed_unsync();
    let mut made = Request::new(body);
    (*made.method_mut(), *made.uri_mut(), *made.headers_mut()) = (method, uri, headers);
    Ok(made)
}

fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let wrong = |problem: &str| format!("header `{name}` {problem}");
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("has no name of a header"))?;
        if DEFAULT_FORBIDDEN_HEADERS.contains(&key) || key == header::CONTENT_LENGTH {
            return Err(wrong("is not a handler's to set"));
        }
        let value = HeaderValue::from_str(value).or_else(|_| HeaderValue::from_bytes(value.as_bytes()));
        headers.append(key, value.map_err(|_| wrong("has a value with line ends in it"))?);
    }
    Ok(headers)
}

/// Bytes that the answers to one call may still have, together.
#[derive(Clone)]
struct Room {
    left: Arc<AtomicUsize>,
    limit: usize,
}

impl Room {
    fn of(access: &HttpAccess) -> Self {
        Self { left: Arc::new(AtomicUsize::new(access.answer_bytes)), limit: access.answer_bytes }
    }

    fn take(&self, bytes: usize) -> Result<(), wit::HttpError> {
        let taken = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes));
        let limit = u32::try_from(self.limit).unwrap_or(u32::MAX);
        taken.map(drop).map_err(|_| wit::HttpError::TooLarge(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(method: &str, url: &str, header: (&str, &str)) -> String {
        let headers = vec![(header.0.to_owned(), header.1.to_owned())];
        let request = wit::Request {
            method: method.to_owned(),
            url: url.to_owned(),
            headers,
            body: Vec::new(),
            timeout_ms: None,
        };
        read(request).map(drop).unwrap_err()
    }

    #[test]
    fn says_what_is_no_request() {
        let plain = ("accept", "*/*");
        for (problem, says) in [
            (problem("G T", "http://a/", plain), "`G T` is no method"),
            (problem("CONNECT", "http://a/", plain), "`CONNECT` is no method"),
            (problem("GET", "/path", plain), "does not begin with https://"),
            (problem("GET", "ftp://a/", plain), "does not begin with https://"),
            (problem("GET", "http://a/ b", plain), "is no URL"),
            (problem("GET", "http://me:pw@a/x?key=1", plain), "http://a/x has a user"),
            (problem("GET", "http://a/", ("host", "b")), "`host` is not a handler's"),
            (problem("GET", "http://a/", ("Content-Length", "1")), "is not a handler's"),
            (problem("GET", "http://a/", ("a b", "c")), "has no name"),
            (problem("GET", "http://a/", ("a", "b\r\nc: d")), "has a value with line ends"),
        ] {
            assert!(problem.contains(says), "{problem}");
        }
    }

    #[test]
    fn the_far_end_is_told_its_host_and_texts_as_utf_8() {
        let request = wit::Request {
            method: "POST".to_owned(),
            url: "http://a.example:8080/x?y".to_owned(),
            headers: vec![("x-room".to_owned(), "Küche".to_owned())],
            body: b"{}".to_vec(),
            timeout_ms: None,
        };
        let made = read(request).unwrap();
        assert_eq!(made.headers()["host"], "a.example:8080");
        assert_eq!(made.headers()["x-room"].as_bytes(), "Küche".as_bytes());
    }

    #[test]
    fn all_answers_to_a_call_share_the_room() {
        let room = Room { left: Arc::new(AtomicUsize::new(10)), limit: 10 };
        let of_another = room.clone();
        assert!(room.take(6).is_ok() && of_another.take(4).is_ok());
        assert!(matches!(room.take(1), Err(wit::HttpError::TooLarge(10))));
    }
}
