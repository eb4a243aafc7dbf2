//! What a route permits, and nothing else: HTTP by method, host, path and address, clocks, randomness, secrets;
//! logging, settings and key-value as WASI has them. In Rust and in Python, and but for HTTP in JavaScript.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get};
use reqwest::Method;
use sandbar_tests::host::{Host, binary, guest};
use sandbar_tests::{eventually, tool};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{delivered, done, send, upload};

/// A server that anybody could be: it answers, and redirects where it likes.
async fn server() -> Result<u16> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let away = move || async move { Redirect::temporary(&format!("http://127.0.0.1:{port}/secret")) };
    let app = Router::new()
        .route("/api/hello", any(|| async { "hello" }))
        .route("/api/away", get(away))
        .route(
            "/api/slow",
            get(|| async {
                tokio::time::sleep(std::time::Duration::from_secs(60)).await;
                StatusCode::OK.into_response()
            }),
        )
        .route("/secret", get(|| async { "nobody should see this" }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(port)
}

/// Two routes, each with its module.
const IN_THE_FILE: [(&str, &str); 2] = [("r", "rust"), ("j", "js")];

async fn start(folder: &Path) -> Result<Host> {
    crate::host(folder, &modules()).await
}

fn modules() -> String {
    format!(
        "[secret]\nkey = \"hunter2\"\n[module.rust]\nfile = \"{}\"\n[module.js]\nfile = \"{}\"\n",
        guest("permitted").display(),
        guest("permitted-js").display()
    )
}

async fn route(host: &Host, name: &str, module: &str, permissions: Value) -> Result<()> {
    let table = json!({ "module": module, "topic": [format!("{name}/#")], "sinks": ["out"], "key": "topic",
        "permissions": permissions, "limits": { "http_timeout_ms": 300, "time_ms": 5000 } });
    done(host, Method::PUT, &format!("/v1/routes/{name}"), table).await?;
    Ok(())
}

/// What the handler of route `name` makes of `asked`.
async fn ask(host: &Host, name: &str, asked: &str) -> Result<String> {
    let id = send(host, &format!("{name}/x"), asked).await?;
    eventually(asked, 30, || async { delivered(host).iter().any(|line| line["reading"] == id) }).await;
    let lines = delivered(host);
    let line = lines.iter().find(|line| line["reading"] == id).context("gone")?;
    Ok(line["payload"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_permitted_unless_it_is_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    for (name, module) in IN_THE_FILE {
        without_permissions(&host, name, module).await.with_context(|| module.to_owned())?;
    }
    denied(&host, "r", "rust", server().await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_permitted_works_in_rust_and_in_javascript() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    for (name, module) in IN_THE_FILE {
        with_permissions(&host, name, module).await.with_context(|| module.to_owned())?;
    }
    let config = host.get("/v1/config").await?.to_string();
    ensure!(!config.contains("hunter2"));
    Ok(())
}

/// By name, by redirect and by DNS answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_reaches_what_is_named_and_nothing_else() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    reaches(&host, "r", "rust", server().await?).await
}

/// A web server of openssl's, with a certificate for `localhost` that signs itself.
struct TlsServer {
    _child: Child,
    port: u16,
    certificate: PathBuf,
}

impl TlsServer {
    async fn start(folder: &Path) -> Result<Self> {
        let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
        let mut make = Command::new(tool::path("openssl"));
        make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        make.args(["-days", "2", "-subj", "/CN=unknown", "-addext", "subjectAltName=DNS:localhost"]);
        make.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        make.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        tool::succeeds(make, 30).await?;
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let mut serve = Command::new(tool::path("openssl"));
        serve.args(["s_server", "-www", "-quiet", "-accept", &format!("127.0.0.1:{port}")]);
        serve.arg("-cert").arg(&certificate).arg("-key").arg(&key);
        let serve = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = serve.kill_on_drop(true).spawn().context("starting openssl")?;
        eventually("openssl listens", 30, async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Ok(Self { _child: child, port, certificate })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_reaches_whom_the_machine_trusts_and_nobody_else() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = TlsServer::start(folder.path()).await?;
    let url = format!("https://localhost:{}/", server.port);
    let permissions = json!({ "http": [{ "url": url, "addresses": ["127.0.0.0/8", "::1"] }] });
    for (trusted, expected) in [(true, "200 "), (false, "error: ")] {
        crate::write_config(folder.path(), &modules())?;
        let mut command = std::process::Command::new(binary());
        if trusted {
            command.env("SSL_CERT_FILE", &server.certificate);
        }
        let host = Host::start_with(folder.path(), command).await?;
        let table = json!({ "module": "rust", "topic": ["r/#"], "sinks": ["out"], "key": "topic",
            "permissions": permissions, "limits": { "time_ms": 20_000 } });
        done(&host, Method::PUT, "/v1/routes/r", table).await?;
        let answer = ask(&host, "r", &format!("GET {url}")).await?;
        ensure!(answer.starts_with(expected), "trusted: {trusted}: {answer}");
        let logs = host.get("/v1/routes/r/logs?level=warn").await?.to_string();
        ensure!(trusted || logs.contains("invalid peer certificate"), "{logs}");
        // What is listed is one scheme.
        let answer = ask(&host, "r", &format!("GET http://localhost:{}/", server.port)).await?;
        ensure!(answer.contains("HttpRequestDenied"), "{answer}");
        host.terminate().await?;
    }
    Ok(())
}

/// All of it once more: its component takes long to compile, so it is done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_in_python() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    upload(&host, "py", &guest("permitted-py"), true).await?;
    let port = server().await?;
    without_permissions(&host, "p", "py").await?;
    denied(&host, "p", "py", port).await?;
    with_permissions(&host, "p", "py").await?;
    reaches(&host, "p", "py", port).await
}

async fn without_permissions(host: &Host, name: &str, module: &str) -> Result<()> {
    route(host, name, module, json!({})).await?;
    ensure!(ask(host, name, "secret key").await? == "not granted");
    let clock: u64 = ask(host, name, "clock").await?.parse()?;
    ensure!(clock > 1_600_000_000, "the reading's own time: {clock}");
    Ok(())
}

async fn denied(host: &Host, name: &str, module: &str, port: u16) -> Result<()> {
    let answer = ask(host, name, &format!("GET http://127.0.0.1:{port}/api/hello")).await?;
    ensure!(answer.contains("HttpRequestDenied"), "{answer}");
    // Why is in the route's log, and in the reading's trace.
    let logs = host.get(&format!("/v1/routes/{name}/logs?level=warn")).await?;
    ensure!(logs.to_string().contains("is not in the route's permissions"), "{logs}");
    let not_granted = host.get(&format!("/v1/modules/{module}")).await?["not_granted"].to_string();
    for import in ["wasi:http/outgoing-handler", "wasi:clocks/wall-clock", "wasi:random/random"] {
        ensure!(not_granted.contains(import), "{import}: {not_granted}");
    }
    Ok(())
}

async fn with_permissions(host: &Host, name: &str, module: &str) -> Result<()> {
    let permissions = json!({ "clock": true, "random": true, "secrets": ["key"] });
    route(host, name, module, permissions).await?;
    ensure!(ask(host, name, "secret key").await? == "hunter2");
    ensure!(ask(host, name, "random").await? != ask(host, name, "random").await?);
    ensure!(ask(host, name, "count").await? == "1");
    ensure!(ask(host, name, "count").await? == "2");
    ensure!(ask(host, name, "keys").await? == "n,other");
    ask(host, name, "log a word").await?;
    let logs = host.get(&format!("/v1/routes/{name}/logs")).await?;
    let said = logs["items"].as_array().context("no items")?.iter().find(|line| line["message"] == "a word");
    let said = said.with_context(|| format!("{logs}"))?;
    ensure!(said["level"] == "warn" && said["route"] == name, "{said}");
    ensure!(said["reading"].as_str().is_some_and(|id| id.len() == 26), "{said}");
    Ok(())
}

async fn reaches(host: &Host, name: &str, module: &str, port: u16) -> Result<()> {
    let own = format!("http://127.0.0.1:{port}");
    route(host, name, module, json!({ "http": [{ "url": format!("{own}/api"), "methods": ["GET"] }] }))
        .await?;
    ensure!(ask(host, name, &format!("GET {own}/api/hello")).await? == "200 hello");
    for forbidden in [
        format!("POST {own}/api/hello"),
        format!("GET {own}/secret"),
        format!("GET {own}/api/../secret"),
        format!("GET {own}/api/%2e%2e/secret"),
        format!("GET http://127.0.0.1:{}/api/hello", port.wrapping_add(1)),
        format!("GET http://localhost:{port}/api/hello"),
        format!("GET http://[::1]:{port}/api/hello"),
        "GET http://169.254.169.254/latest/meta-data".to_owned(),
        // The server sends its client elsewhere: what follows is one more request, and looked at like any.
        format!("follow {own}/api/away"),
    ] {
        let answer = ask(host, name, &forbidden).await?;
        ensure!(answer.contains("HttpRequestDenied"), "{forbidden}: {answer}");
    }
    let slow = ask(host, name, &format!("GET {own}/api/slow")).await?;
    ensure!(slow.contains("ConnectionReadTimeout"), "{slow}");

    // A permitted name that stands for this machine: the answer of the DNS does not make it one to reach.
    let named = json!({ "http": [{ "url": format!("http://localhost:{port}/") }] });
    route(host, name, module, named).await?;
    let answer = ask(host, name, &format!("GET http://localhost:{port}/api/hello")).await?;
    ensure!(answer.contains("DestinationIpProhibited"), "{answer}");
    let with_addresses = json!({ "http": [{ "url": format!("http://localhost:{port}/"), "addresses": ["127.0.0.0/8", "::1"] }] });
    route(host, name, module, with_addresses).await?;
    let answer = ask(host, name, &format!("GET http://localhost:{port}/api/hello")).await?;
    ensure!(answer == "200 hello", "{answer}");
    Ok(())
}
