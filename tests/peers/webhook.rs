//! Readings from curl.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbar_tests::host::Host;
use sandbar_tests::seed::{Random, seed};
use sandbar_tests::sender::all_is_done;
use sandbar_tests::tool;
use serde_json::Value;

use crate::curl::curl;

const CONFIGURATION: &str = r#"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
body_max = 50000
paths = [
  { path = "/hooks/{device}", topic = "hooks/{device}", content_types = ["application/json", "application/octet-stream"] },
]
[ingress.guarded]
driver = "webhook"
listen = "127.0.0.1:0"
token = "open sesame"
paths = [{ path = "/guarded" }]
[ingress.signed]
driver = "webhook"
listen = "127.0.0.1:0"
signature = { header = "X-Hub-Signature-256", prefix = "sha256=", secret = "it is a secret" }
paths = [{ path = "/signed" }]
[sink.out]
kind = "file"
path = "sandbar-data/out.jsonl"
[route.all]
topic = "hooks/#"
sinks = ["out"]
"#;

const OCTETS: &str = "Content-Type: application/octet-stream";

async fn host(folder: &Path) -> Result<(Host, String)> {
    let host = crate::host(folder, CONFIGURATION).await?;
    let url = format!("{}/hooks/boiler", host.ingress("web").await?);
    Ok((host, url))
}

/// A file with bytes of all kinds, and curl's way of naming it.
fn body(folder: &Path, bytes: &[u8]) -> Result<String> {
    let path = folder.join("body");
    std::fs::write(&path, bytes)?;
    Ok(format!("@{}", path.display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_curl_sends_arrives_byte_for_byte_however_it_is_sent() -> Result<()> {
    let mut random = Random::new(seed());
    let folder = tempfile::tempdir()?;
    let (host, url) = host(folder.path()).await?;
    let mut sent = Vec::new();
    let ways: [(&[&str], &str); 5] = [
        (&["--http1.1"], "1.1"),
        (&["--http1.1", "-X", "PUT"], "1.1"),
        (&["--http1.1", "-H", "Transfer-Encoding: chunked"], "1.1"),
        (&["--http1.0"], "1.1"),
        (&["--http2-prior-knowledge"], "2"),
    ];
    for (options, version) in ways {
        for size in [0, 1, 300, 50_000] {
            let bytes = random.bytes(size);
            let body = body(folder.path(), &bytes)?;
            let mut arguments = vec!["-H", OCTETS, "--data-binary", body.as_str(), url.as_str()];
            arguments.extend(options);
            let answer = curl(&arguments).await?;
            ensure!(answer.version == version || answer.version == "1", "{answer:?}");
            sent.push((answer.id().with_context(|| format!("{options:?}, {size} bytes"))?, bytes));
        }
    }
    all_is_done(&host, 30).await;
    let text = std::fs::read_to_string(folder.path().join("sandbar-data/out.jsonl"))?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(lines.len() == sent.len(), "{} lines, {} sent", lines.len(), sent.len());
    for (id, bytes) in sent {
        let line = lines.iter().find(|line| line["reading"] == *id).context("a reading is missing")?;
        let payload = STANDARD.decode(line["payload_base64"].as_str().context("no payload")?)?;
        ensure!(payload == bytes, "{} bytes became {}", bytes.len(), payload.len());
        ensure!(line["topic"] == "hooks/boiler" && line["device"] == "boiler", "{line}");
        ensure!(line["content_type"] == "application/octet-stream", "{line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_is_refused_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, url) = host(folder.path()).await?;
    let web = host.ingress("web").await?;
    let large = body(folder.path(), &vec![b'x'; 50_001])?;
    curl(&["-d", "{}", &format!("{web}/elsewhere")]).await?.is_problem(404, "no_such_path")?;
    curl(&["-d", "{}", &format!("{web}/hooks/a/b")]).await?.is_problem(404, "no_such_path")?;
    let answer = curl(&["-X", "DELETE", &url]).await?;
    answer.is_problem(405, "method_not_allowed")?;
    ensure!(answer.header("allow") == Some("POST, PUT"), "{answer:?}");
    curl(&["-H", "Content-Type: text/xml", "-d", "<a/>", &url]).await?.is_problem(415, "content_type")?;
    for way in [&["--http1.1"][..], &["-H", "Transfer-Encoding: chunked"], &["--http2-prior-knowledge"]] {
        let arguments = [&["-H", OCTETS, "--data-binary", &large, &url], way].concat();
        curl(&arguments).await?.is_problem(413, "too_large")?;
    }
    let status = host.get("/v1/status").await?;
    ensure!(status["store"]["journal_readings"] == 0, "something was taken all the same: {status}");
    crate::check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_token_opens() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, _) = host(folder.path()).await?;
    let url = format!("{}/guarded", host.ingress("guarded").await?);
    for wrong in ["Authorization: Bearer open sesam", "Authorization: Basic b3BlbiBzZXNhbWU=", "X-Nothing: 1"]
    {
        let answer = curl(&["-H", wrong, "-d", "{}", &url]).await?;
        answer.is_problem(401, "unauthorized")?;
        ensure!(
            answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")),
            "{answer:?}"
        );
    }
    curl(&["-H", "Authorization: Bearer open sesame", "-d", "{}", &url]).await?.id()?;
    let api = format!("{}/v1/status", host.api);
    curl(&[&api]).await?.is_problem(401, "unauthorized")?;
    curl(&["-H", "Authorization: Bearer wrong", &api]).await?.is_problem(401, "unauthorized")?;
    ensure!(curl(&["-H", &format!("Authorization: Bearer {}", host.token()), &api]).await?.status == 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_that_openssl_makes_is_accepted_and_no_other() -> Result<()> {
    let mut random = Random::new(seed());
    let folder = tempfile::tempdir()?;
    let (host, _) = host(folder.path()).await?;
    let url = format!("{}/signed", host.ingress("signed").await?);
    for size in [0, 1, 5000] {
        let body = body(folder.path(), &random.bytes(size))?;
        let sign = async |secret: &str| {
            let mut openssl = tokio::process::Command::new(tool::path("openssl"));
            openssl.args(["dgst", "-sha256", "-hmac", secret, "-r"]).arg(&body[1..]);
            let said = tool::succeeds(openssl, 10).await?;
            let code = said.split(' ').next().context("openssl says nothing")?.to_owned();
            anyhow::Ok(format!("X-Hub-Signature-256: sha256={code}"))
        };
        let (right, wrong) = (sign("it is a secret").await?, sign("it is no secret").await?);
        curl(&["-H", &right, "-H", OCTETS, "--data-binary", &body, &url]).await?.id()?;
        let answer = curl(&["-H", &wrong, "-H", OCTETS, "--data-binary", &body, &url]).await?;
        answer.is_problem(401, "bad_signature")?;
        curl(&["-H", OCTETS, "--data-binary", &body, &url]).await?.is_problem(401, "bad_signature")?;
        let changed = curl(&["-H", &right, "-H", OCTETS, "--data-binary", "other", &url]).await?;
        changed.is_problem(401, "bad_signature")?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_kept_also_after_a_refusal() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_host, url) = host(folder.path()).await?;
    let wrong = url.replace("/hooks", "/elsewhere");
    let requests = ["-H", OCTETS, "-d", "{}", &url, &wrong, &url];
    let last = curl(&[&["--http1.1"], &requests[..]].concat()).await?;
    last.id()?;
    ensure!(last.connects == 0, "the third request needed a connection of its own: {last:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_before_sending_a_body_is_told_to_go_on_or_why_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_host, url) = host(folder.path()).await?;
    let small = body(folder.path(), &vec![b'x'; 50_000])?;
    let ask = ["--http1.1", "-H", "Expect: 100-continue", "--expect100-timeout", "20", "-H", OCTETS];
    let send = ["--data-binary", small.as_str()];
    let answer = curl(&[&ask[..], &send, &[&url]].concat()).await?;
    answer.id()?;
    ensure!(answer.head.starts_with("HTTP/1.1 100 Continue"), "{answer:?}");
    ensure!(answer.seconds < 15.0, "curl was not told to go on: {answer:?}");
    let answer = curl(&[&ask[..], &send, &[&url.replace("/hooks", "/elsewhere")]].concat()).await?;
    answer.is_problem(404, "no_such_path")?;
    ensure!(!answer.head.contains("100 Continue"), "told to send what is refused: {answer:?}");
    Ok(())
}
