//! A client of a running host's API, and what it says when that does not work.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use sandbar_control::script;
use serde::Deserialize;
use serde_json::Value;

/// Connecting to a box at the far end of a slow line takes a while; waiting longer helps nobody.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A big component is compiled while its upload waits for the answer.
const ANSWER_MAX: Duration = Duration::from_secs(120);

const SIGNATURE: HeaderName = HeaderName::from_static("sandbar-signature");

/// Where the token for the API is found.
#[derive(Clone, Debug)]
pub(crate) enum Token {
    Given(String),
    /// Not there, or not readable: why.
    Missing {
        file: PathBuf,
        cause: String,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Token,
}

/// What went wrong, in words that say what to do next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("`{url}` is no address of a host: it looks like http://127.0.0.1:7420")]
    NoAddress { url: String },
    #[error(
        "no host answers at {url}: start one with `sandbar run`, or say where it is with --url (or SANDBAR_URL)"
    )]
    NotRunning { url: String },
    #[error(
        "the host at {url} asks for its token, and {} cannot be read: {cause}; \
         name the host's data directory with --data, or give the token with --token (or SANDBAR_TOKEN)",
        file.display()
    )]
    NoToken { url: String, file: PathBuf, cause: String },
    #[error(
        "the host at {url} does not accept this token: the right one is in the file `token` of its data \
         directory, or in its configuration; give it with --token (or SANDBAR_TOKEN), or the directory with --data"
    )]
    WrongToken { url: String },
    /// The host understood, and says why not.
    #[error("{0}")]
    Refused(Problem),
    #[error("what answers at {url} is no Sandbar host: it says {status}")]
    NotSandbar { url: String, status: StatusCode },
    #[error("the connection to {url} was lost")]
    Lost {
        url: String,
        #[source]
        source: reqwest::Error,
    },
}

impl ClientError {
    /// Whether the host has refused with this code.
    pub(crate) fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused(problem) if problem.code == code)
    }
}

/// The API's way of saying no (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Problem {
    pub title: String,
    pub code: String,
    pub detail: Option<String>,
    pub setting: Option<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let detail = self.detail.as_deref().filter(|detail| !detail.is_empty()).unwrap_or(&self.title);
        match self.setting.as_deref() {
            // Some details begin with the setting already.
            Some(setting) if !setting.is_empty() && !detail.contains(setting) => {
                write!(f, "{setting}: {detail} ({})", self.code)
            }
            _ => write!(f, "{detail} ({})", self.code),
        }
    }
}

impl Client {
    /// `url`: where the host's API is, without `/v1`.
    pub(crate) fn new(url: &str, token: Token) -> Result<Self, ClientError> {
        let no_address = || ClientError::NoAddress { url: url.to_owned() };
        let base = Url::parse(url).map_err(|_| no_address())?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(no_address());
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .no_proxy()
            .build()
            .map_err(|source| ClientError::Lost { url: shown(&base), source })?;
        Ok(Self { http, base, token })
    }

    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, ClientError> {
        self.answer(self.request(Method::GET, path, query)).await
    }

    pub(crate) async fn put(&self, path: &[&str], body: &Value) -> Result<Value, ClientError> {
        self.answer(self.request(Method::PUT, path, &[]).json(body)).await
    }

    /// Uploads a component, or a script as a store has it; `activate` as in `Sandbar-Activate`.
    pub(crate) async fn put_component(
        &self,
        path: &[&str],
        component: Bytes,
        signature: Option<&str>,
        activate: bool,
    ) -> Result<Value, ClientError> {
        const ACTIVATE: HeaderName = HeaderName::from_static("sandbar-activate");
        let (content_type, component) = body_of(component);
        let mut request = self
            .request(Method::PUT, path, &[])
            .header(CONTENT_TYPE, content_type)
            .header(ACTIVATE, if activate { "true" } else { "false" })
            .body(component);
        if let Some(signature) = signature {
            request = request.header(SIGNATURE, signature);
        }
        self.answer(request).await
    }

    /// A component, a script as a store has it, or nothing, as the body of a POST.
    pub(crate) async fn post_component(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        component: Bytes,
        signature: Option<&str>,
    ) -> Result<Value, ClientError> {
        let (content_type, component) = body_of(component);
        let mut request = self.request(Method::POST, path, query);
        if let Some(signature) = signature {
            request = request.header(SIGNATURE, signature);
        }
        self.answer(request.header(CONTENT_TYPE, content_type).body(component)).await
    }

    pub(crate) async fn post(&self, path: &[&str], body: &Value) -> Result<Value, ClientError> {
        self.answer(self.request(Method::POST, path, &[]).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &[&str]) -> Result<Value, ClientError> {
        self.answer(self.request(Method::DELETE, path, &[])).await
    }

    /// The body of an answer that does not end by itself: server-sent events.
    pub(crate) async fn stream(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Response, ClientError> {
        let request = self.request(Method::GET, path, query).header(ACCEPT, "text/event-stream");
        let response = request.send().await.map_err(|error| self.lost(error))?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.refusal(response).await),
        }
    }

    /// Why a body that was being read ended.
    pub(crate) fn lost(&self, source: reqwest::Error) -> ClientError {
        let url = shown(&self.base);
        match source.is_connect() {
            true => ClientError::NotRunning { url },
            false => ClientError::Lost { url, source },
        }
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        match &self.token {
            Token::Given(token) => request.bearer_auth(token),
            Token::Missing { .. } => request,
        }
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, ClientError> {
        let response = request.timeout(ANSWER_MAX).send().await.map_err(|error| self.lost(error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.lost(error))?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| ClientError::NotSandbar { url: shown(&self.base), status })
    }

    async fn refusal(&self, response: Response) -> ClientError {
        let status = response.status();
        match response.bytes().await {
            Ok(body) => self.judge(status, &body),
            Err(error) => self.lost(error),
        }
    }

    /// What an answer that is no success means for the person at the keyboard.
    fn judge(&self, status: StatusCode, body: &[u8]) -> ClientError {
        let url = shown(&self.base);
        match (serde_json::from_slice::<Problem>(body), &self.token) {
            (Ok(problem), Token::Missing { file, cause }) if problem.code == "unauthorized" => {
                ClientError::NoToken { url, file: file.clone(), cause: cause.clone() }
            }
            (Ok(problem), Token::Given(_)) if problem.code == "unauthorized" => {
                ClientError::WrongToken { url }
            }
            (Ok(problem), _) => ClientError::Refused(problem),
            (Err(_), _) => ClientError::NotSandbar { url, status },
        }
    }
}

/// As the API takes it: the text of a script, which a store has as something else; and what it is.
fn body_of(module: Bytes) -> (&'static str, Bytes) {
    match script::text(&module) {
        Some(Ok(text)) => ("text/javascript", Bytes::from(text.to_owned())),
        _ => ("application/wasm", module),
    }
}

/// Without the slash at its end, as people write it.
fn shown(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn given() -> Token {
        Token::Given("abc".into())
    }

    fn missing() -> Token {
        Token::Missing { file: "sandbar-data/token".into(), cause: "no such file".into() }
    }

    fn client(token: Token) -> Client {
        crate::install_tls();
        Client::new("http://127.0.0.1:7420", token).unwrap()
    }

    fn check(token: Token, status: u16, body: &Value, says: &Expect) {
        let status = StatusCode::from_u16(status).unwrap();
        says.assert_eq(&client(token).judge(status, body.to_string().as_bytes()).to_string());
    }

    fn problem(code: &str, detail: &str, setting: Option<&str>) -> Value {
        json!({ "type": "about:blank", "title": "No", "status": 400, "detail": detail, "code": code, "setting": setting })
    }

    #[test]
    fn a_wrong_token_and_none_say_where_the_right_one_is() {
        let unauthorized = problem("unauthorized", "a bearer token is needed", None);
        check(
            given(),
            401,
            &unauthorized,
            &expect![
                "the host at http://127.0.0.1:7420 does not accept this token: the right one is in the file `token` of its data directory, or in its configuration; give it with --token (or SANDBAR_TOKEN), or the directory with --data"
            ],
        );
        check(
            missing(),
            401,
            &unauthorized,
            &expect![
                "the host at http://127.0.0.1:7420 asks for its token, and sandbar-data/token cannot be read: no such file; name the host's data directory with --data, or give the token with --token (or SANDBAR_TOKEN)"
            ],
        );
    }

    #[test]
    fn a_refusal_is_the_hosts_own_words() {
        let plain = problem("in-use", "the module is used by the route `celsius`", None);
        check(given(), 409, &plain, &expect!["the module is used by the route `celsius` (in-use)"]);
        let named = problem("invalid-config", "must be above 0", Some("limits.time_ms"));
        check(given(), 422, &named, &expect!["limits.time_ms: must be above 0 (invalid-config)"]);
        check(given(), 500, &problem("storage", "", None), &expect!["No (storage)"]);
    }

    #[test]
    fn another_server_is_recognised() {
        check(
            given(),
            404,
            &json!("<html>"),
            &expect!["what answers at http://127.0.0.1:7420 is no Sandbar host: it says 404 Not Found"],
        );
    }

    #[tokio::test]
    async fn a_host_that_does_not_run_is_said_so() {
        crate::install_tls();
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let error = Client::new(&url, given()).unwrap().get(&["status"], &[]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "no host answers at {url}: start one with `sandbar run`, or say where it is with --url (or SANDBAR_URL)"
            )
        );
    }

    #[test]
    fn what_is_no_address_is_refused_at_once() {
        for url in ["127.0.0.1:7420", "localhost", "ftp://box", "unix:/run/sandbar"] {
            let error = Client::new(url, given()).unwrap_err();
            assert!(matches!(error, ClientError::NoAddress { .. }), "{url}: {error}");
        }
    }

    #[test]
    fn names_cannot_leave_their_place_in_the_path() {
        let request = client(given())
            .request(Method::GET, &["modules", "../status?x#y"], &[("topic", "a/#&b".into())])
            .build()
            .unwrap();
        assert_eq!(
            request.url().as_str(),
            "http://127.0.0.1:7420/v1/modules/..%2Fstatus%3Fx%23y?topic=a%2F%23%26b"
        );
    }
}
