//! A real host on a directory of its own, and a client that talks to its router.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use futures::StreamExt;
use http_body_util::BodyExt;
use sandbar_api::{Token, router};
use sandbar_control::{Control, Declared, Start};
use sandbar_reading::SystemClock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) const TOKEN: &str = "a-token-for-tests";

pub(crate) struct Host {
    pub(crate) control: Control,
    pub(crate) router: Router,
    pub(crate) stop: CancellationToken,
    _dir: TempDir,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Host {
    pub(crate) async fn start() -> Self {
        Self::declaring("").await
    }

    /// With this configuration file.
    pub(crate) async fn declaring(toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sandbar.toml");
        std::fs::write(&file, toml).unwrap();
        let declared = Declared::load(&file).unwrap();
        let data_dir = declared.host().data_dir.clone();
        let control =
            Control::start(Start { data_dir, declared, clock: Arc::new(SystemClock) }).await.unwrap();
        let stop = CancellationToken::new();
        let router = router(control.clone(), Token::new(TOKEN), stop.clone());
        Self { control, router, stop, _dir: dir }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: impl Into<Asked>) -> Answer {
        let Asked { content_type, bytes } = body.into();
        let mut request = with_token(method, path);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        self.send(request.body(bytes.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, ()).await
    }

    /// What passes by from now on.
    pub(crate) async fn tail(&self, query: &str) -> Tail {
        self.watch(&format!("/v1/tail{query}")).await
    }

    /// Events of any path.
    pub(crate) async fn watch(&self, path: &str) -> Tail {
        let request = with_token("GET", path).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Tail(response.into_body())
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.control.stop(Duration::from_secs(5)).await;
    }
}

pub(crate) fn with_token(method: &str, path: &str) -> axum::http::request::Builder {
    let method: Method = method.parse().unwrap();
    Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"))
}

/// A body and its type.
pub(crate) struct Asked {
    content_type: Option<&'static str>,
    bytes: Vec<u8>,
}

impl From<()> for Asked {
    fn from((): ()) -> Self {
        Self { content_type: None, bytes: Vec::new() }
    }
}

impl From<Value> for Asked {
    fn from(json: Value) -> Self {
        Self { content_type: Some("application/json"), bytes: json.to_string().into() }
    }
}

impl From<&'static str> for Asked {
    fn from(json: &'static str) -> Self {
        Self { content_type: Some("application/json"), bytes: json.into() }
    }
}

impl From<(&'static str, Vec<u8>)> for Asked {
    fn from((content_type, bytes): (&'static str, Vec<u8>)) -> Self {
        Self { content_type: Some(content_type), bytes }
    }
}

/// A component, as it is uploaded.
pub(crate) fn wasm(component: Vec<u8>) -> Asked {
    ("application/wasm", component).into()
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// It was done.
    #[track_caller]
    pub(crate) fn done(self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        if self.bytes.is_empty() { json!(null) } else { self.json() }
    }

    /// It is a problem of this status and code; the problem.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{problem}");
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        problem
    }
}

pub(crate) struct Tail(Body);

impl Tail {
    /// The next event's name and data; none at the end.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        let mut stream = (&mut self.0).into_data_stream();
        let mut text = String::new();
        while !text.ends_with("\n\n") {
            text += std::str::from_utf8(&stream.next().await?.unwrap()).unwrap();
        }
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        Some((field("event:"), serde_json::from_str(&field("data:")).unwrap()))
    }

    /// The data of the next event of that name.
    pub(crate) async fn wait_for(&mut self, name: &str) -> Value {
        loop {
            let (event, data) = self.next().await.expect("the tail goes on");
            if event == name {
                return data;
            }
        }
    }
}
