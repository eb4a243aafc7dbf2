//! `sandbar:handler/http`, and what the SDKs make of it, in every language: what the route permits is answered by a
//! server on loopback, all else is refused.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::HeaderMap;
use axum::response::Redirect;
use axum::routing::{any, get};
use reqwest::Method;
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, guest};
use sandbar_tests::tool::succeeds;
use serde_json::{Value, json};

use crate::{delivered, done, send};

/// A server, and the most requests that it had at one time.
struct Server {
    port: u16,
    at_once: Arc<AtomicUsize>,
}

async fn server() -> Result<Server> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let (now, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most = Arc::clone(&at_once);
    let slowly = move || {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        async move {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(200)).await;
            now.fetch_sub(1, SeqCst);
            "slow"
        }
    };
    let hello = |method: Method, headers: HeaderMap, body: String| async move {
        let asks = headers.get("x-asks").and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        format!("{method} {asks} {body}.")
    };
    let app = Router::new()
        .route("/api/hello", any(hello))
        .route("/api/slow", get(slowly))
        .route("/api/big", get(|| async { "x".repeat(70_000) }))
        .route("/api/away", get(|| async { Redirect::temporary("/secret") }))
        .route("/api/never", get(std::future::pending::<&str>))
        .route("/secret", get(|| async { "nobody should see this" }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(Server { port, at_once })
}

const SCRIPT: &str = r#"
async function ask(method, url, ...body) {
  try {
    const answer = await fetch(url, { method, headers: { "X-Asks": "script" }, body: body.join(" ") });
    return `${answer.status} ${await answer.text()}`;
  } catch (error) {
    return error.code ?? String(error);
  }
}
async function handle(reading) {
  const [verb, ...words] = text(reading).split(" ");
  const said = verb === "both" ? await Promise.all(words.map((url) => ask("GET", url))) : [await ask(...words)];
  return [message(`did/${verb}`, said.join(" | "))];
}
"#;

async fn start(folder: &Path) -> Result<Host> {
    let host = crate::host(folder, "").await?;
    let script = folder.join("asks.js");
    std::fs::write(&script, SCRIPT)?;
    let files = [
        ("rust", guest("permitted")),
        ("js", guest("permitted-js")),
        ("python", guest("asks-python")),
        // A core module, which the command line makes a component of.
        ("c", guest("asks-c")),
    ];
    for (module, file) in files {
        // Python's takes its time to compile.
        succeeds(host.cli(&["deploy", module, &file.display().to_string()]), 300).await?;
    }
    succeeds(host.cli(&["deploy", "script", "--script", &script.display().to_string()]), 60).await?;
    Ok(host)
}

async fn route(host: &Host, module: &str, permissions: Value) -> Result<()> {
    let limits = json!({ "http_timeout_ms": 500, "http_answer_bytes": 65_536, "time_ms": 10_000 });
    let table = json!({ "module": module, "topic": [format!("{module}/#")], "sinks": ["out"], "key": "topic",
        "permissions": permissions, "limits": limits, "attempts": { "max": 1 } });
    done(host, Method::PUT, &format!("/v1/routes/{module}"), table).await?;
    Ok(())
}

/// What the handler makes of `asked`: its answer, or why the reading is a dead letter.
async fn ask(host: &Host, module: &str, asked: &str) -> Result<String> {
    let id = send(host, &format!("{module}/x"), asked).await?;
    eventually(asked, 30, async || outcome(host, &id).await.is_some()).await;
    outcome(host, &id).await.context("nothing came of it")
}

async fn outcome(host: &Host, id: &str) -> Option<String> {
    let lines = delivered(host);
    if let Some(line) = lines.iter().find(|line| line["reading"] == id) {
        return Some(line["payload"].as_str()?.to_owned());
    }
    let dead = host.get("/v1/dead-letters?limit=1000").await.ok()?;
    let letter = dead["items"].as_array()?.iter().find(|letter| letter.to_string().contains(id))?;
    Some(format!("dead: {}", letter["cause"].as_str()?))
}

const MODULES: [&str; 5] = ["rust", "js", "python", "script", "c"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_permitted_is_answered_in_every_language() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    let server = server().await?;
    let own = format!("http://127.0.0.1:{}", server.port);
    for module in MODULES {
        route(&host, module, json!({ "http": [{ "url": format!("{own}/api") }] })).await?;
        let name = if module == "c" { "-" } else { module };
        let answer = ask(&host, module, &format!("ask GET {own}/api/hello")).await?;
        ensure!(answer == format!("200 GET {name} ."), "{module}: {answer}");
        let answer = ask(&host, module, &format!("ask POST {own}/api/hello a ß")).await?;
        ensure!(answer == format!("200 POST {name} a ß."), "{module}: {answer}");
        // A redirect is an answer.
        let answer = ask(&host, module, &format!("ask GET {own}/api/away")).await?;
        ensure!(answer.starts_with("307 "), "{module}: {answer}");
    }
    for module in ["rust", "js", "python", "script"] {
        server.at_once.store(0, SeqCst);
        let answer = ask(&host, module, &format!("both {own}/api/slow {own}/api/slow")).await?;
        ensure!(answer == "200 slow | 200 slow", "{module}: {answer}");
        ensure!(server.at_once.load(SeqCst) == 2, "{module}: one after the other");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_permitted_is_refused_in_every_language() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = start(folder.path()).await?;
    let server = server().await?;
    let own = format!("http://127.0.0.1:{}", server.port);
    let named = format!("http://localhost:{}", server.port);
    for module in MODULES {
        let says = |code: &str, dead: &str| if module == "c" { dead.to_owned() } else { code.to_owned() };
        route(&host, module, json!({})).await?;
        let denied = ask(&host, module, &format!("ask GET {own}/api/hello")).await?;
        ensure!(denied.contains(&says("denied", "is not in the route's permissions")), "{module}: {denied}");
        let permissions = [
            json!({ "url": format!("{own}/api"), "methods": ["GET"] }),
            // A name for this machine, without its address.
            json!({ "url": format!("{named}/api") }),
        ];
        route(&host, module, json!({ "http": permissions })).await?;
        for forbidden in [
            format!("ask POST {own}/api/hello x"),
            format!("ask GET {own}/secret"),
            format!("ask GET {own}/api/../secret"),
            format!("ask GET {named}/api/hello"),
            "ask GET http://169.254.169.254/latest/meta-data".to_owned(),
        ] {
            let denied = ask(&host, module, &forbidden).await?;
            ensure!(denied.contains(&says("denied", "permission")), "{module}: {forbidden}: {denied}");
        }
        for (asked, code, dead) in [
            (format!("ask GET {own}/api/big"), "too-large", "more than 65536 bytes"),
            (format!("ask GET {own}/api/never"), "failed", "timeout"),
            ("ask GET /api/hello".to_owned(), "invalid", "does not begin with"),
        ] {
            let said = ask(&host, module, &asked).await?;
            ensure!(said.contains(&says(code, dead)), "{module}: {asked}: {said}");
        }
    }
    let logs = host.get("/v1/routes/js/logs?level=warn").await?;
    ensure!(logs.to_string().contains("is not in the route's permissions"), "{logs}");
    let uncaught = ask(&host, "python", &format!("uncaught {own}/secret")).await?;
    ensure!(uncaught.starts_with("dead: ") && uncaught.contains("permissions"), "{uncaught}");
    Ok(())
}
