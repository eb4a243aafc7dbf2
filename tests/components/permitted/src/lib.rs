//! Does what its reading's payload says, and puts out what came of it: for tests of what a route permits.
//!
//! `GET http://host/path`, `POST …`, `follow http://…` (a GET, and where it is redirected to), `secret NAME`,
//! `count` (in `wasi:keyvalue`), `keys`, `clock`, `random`, `log TEXT`; and with the contract's own `http`:
//! `ask METHOD http://host/path [BODY]`, `both URL URL`.

use sandbar_guest::bindings::wasi::keyvalue::{atomics, store};
use sandbar_guest::http::{HttpError, Request, Response, send_all};
use sandbar_guest::prelude::*;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, IncomingResponse, Method, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;

struct Permitted;

impl Handler for Permitted {
    fn configure() -> Result<Self, String> {
        Ok(Self)
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let asked = String::from_utf8_lossy(&reading.payload).into_owned();
        let (verb, rest) = asked.split_once(' ').unwrap_or((&asked, ""));
        let done = match verb {
            "follow" => follow(rest),
            "ask" => ask(rest),
            "both" => both(rest),
            "secret" => Ok(config_of(rest)),
            "count" => count(),
            "keys" => keys(),
            "clock" => Ok(wasip2::clocks::wall_clock::now().seconds.to_string()),
            "random" => Ok(wasip2::random::random::get_random_u64().to_string()),
            "log" => {
                log::warn!("{rest}");
                Ok(String::new())
            }
            method => fetch(method, rest).and_then(|answer| told(&answer)),
        };
        let text = done.unwrap_or_else(|problem| format!("error: {problem}"));
        Ok(vec![Message::new(format!("did/{verb}"), "text/plain", text.into_bytes()).into()])
    }
}

fn ask(rest: &str) -> Result<String, String> {
    let mut words = rest.splitn(3, ' ');
    let (method, url) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let request = Request { body: words.next().unwrap_or_default().into(), ..Request::new(method, url) };
    Ok(said(request.with_header("x-asks", "rust").send()))
}

fn both(rest: &str) -> Result<String, String> {
    let requests: Vec<_> = rest.split(' ').map(Request::get).collect();
    Ok(send_all(&requests).into_iter().map(said).collect::<Vec<_>>().join(" | "))
}

fn said(answer: Result<Response, HttpError>) -> String {
    match answer {
        Ok(answer) => format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
        Err(HttpError::Denied(_)) => "denied".to_owned(),
        Err(HttpError::Invalid(_)) => "invalid".to_owned(),
        Err(HttpError::Failed(_)) => "failed".to_owned(),
        Err(HttpError::TooLarge(_)) => "too-large".to_owned(),
    }
}

fn config_of(name: &str) -> String {
    let found = sandbar_guest::bindings::wasi::config::store::get(&format!("secret.{name}"));
    found.ok().flatten().unwrap_or_else(|| "not granted".to_owned())
}

fn count() -> Result<String, String> {
    let bucket = store::open("default").map_err(|error| format!("{error:?}"))?;
    let n = atomics::increment(&bucket, "n", 1).map_err(|error| format!("{error:?}"))?;
    Ok(n.to_string())
}

fn keys() -> Result<String, String> {
    let bucket = store::open("").map_err(|error| format!("{error:?}"))?;
    bucket.set("other", b"x").map_err(|error| format!("{error:?}"))?;
    let listed = bucket.list_keys(None).map_err(|error| format!("{error:?}"))?;
    Ok(listed.keys.join(","))
}

fn fetch(method: &str, url: &str) -> Result<IncomingResponse, String> {
    let (scheme, rest) = url.split_once("://").ok_or("no address")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(Fields::new());
    let method = match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        other => Method::Other(other.to_owned()),
    };
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_method(&method).map_err(|()| "the method")?;
    request.set_scheme(Some(&scheme)).map_err(|()| "the scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "the host")?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| "the path")?;
    let answer = outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))?;
    answer.subscribe().block();
    let answer = answer.get().ok_or("no answer")?.map_err(|()| "taken twice")?;
    answer.map_err(|error| format!("{error:?}"))
}

fn told(answer: &IncomingResponse) -> Result<String, String> {
    let status = answer.status();
    let body = answer.consume().map_err(|()| "the body")?;
    let stream = body.stream().map_err(|()| "the body's stream")?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(part) => bytes.extend(part),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(format!("{error:?}")),
        }
    }
    Ok(format!("{status} {}", String::from_utf8_lossy(&bytes)))
}

fn follow(url: &str) -> Result<String, String> {
    let answer = fetch("GET", url)?;
    let location = answer.headers().get("location");
    match location.first() {
        Some(next) => fetch("GET", &String::from_utf8_lossy(next)).and_then(|answer| told(&answer)),
        None => told(&answer),
    }
}

sandbar_guest::handler!(Permitted);
