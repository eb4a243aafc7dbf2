//! Requests that somebody has scribbled in.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::host::{Host, guest};
use sandbar_tests::mutate::mutate;
use sandbar_tests::seed::{Random, seed};
use sandbar_tests::sender::{Sender, all_is_done, check_journal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const REQUESTS: usize = 1000;

/// Pieces that parsers trip over.
const PIECES: [&[u8]; 22] = [
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b":",
    b"Content-Length: 0\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity, chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: h2c\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"HTTP/1.0",
    b"HTTP/9.9",
    b"%00%2f..%c0",
    b"ffffffffffffffff\r\n",
    b"{\"a\":[[[[[[[[",
    b"\xff\xfe\xc3\x28",
    b"POST /d/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
];

/// Sends it, and returns the ids of what was taken.
async fn talk(address: String, request: Vec<u8>) -> Result<Vec<String>> {
    let mut stream = TcpStream::connect(&address).await.context("the host does not listen any more")?;
    // The host may end the connection as soon as it has seen enough.
    drop(stream.write_all(&request).await);
    let mut answer = Vec::new();
    // Who is owed no answer gets none, and who sent half a request hears so when it has ended.
    if tokio::time::timeout(Duration::from_millis(300), stream.read_to_end(&mut answer)).await.is_err() {
        drop(stream.shutdown().await);
        drop(tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await);
    }
    let text = String::from_utf8_lossy(&answer);
    let ids =
        text.split("HTTP/1.1 202").skip(1).filter_map(|answer| answer.split("{\"id\":\"").nth(1)?.get(..26));
    Ok(ids.map(str::to_owned).collect())
}

/// Returns the ids of what was taken all the same.
async fn scribble(random: &mut Random, url: &str, requests: &[String]) -> Result<Vec<String>> {
    let address = url.trim_start_matches("http://");
    let (mut talks, mut ids) = (JoinSet::new(), Vec::new());
    for _ in 0..REQUESTS {
        let request = &requests[random.below(requests.len() as u64) as usize];
        talks.spawn(talk(address.to_owned(), mutate(random, request.as_bytes(), &PIECES)));
        if talks.len() >= 32 {
            ids.extend(talks.join_next().await.context("no talk")???);
        }
    }
    while let Some(taken) = talks.join_next().await {
        ids.extend(taken??);
    }
    Ok(ids)
}

fn request(head: &str, body: &str) -> String {
    format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn check(mut host: Host, mut sender: Sender, ids: &[String]) -> Result<()> {
    ensure!(!ids.is_empty(), "no mutation was harmless: that is no test of those that are");
    ensure!(host.is_running(), "{}", host.stderr());
    sender.send_many("/d/after", 10).await?;
    all_is_done(&host, 60).await;
    check_journal(&host, ids).await?;
    sender.check_journal(&host).await?;
    crate::check_log(&host)
}

async fn host(folder: &std::path::Path) -> Result<Host> {
    let configuration = format!(
        r#"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
idempotency_header = "Idempotency-Key"
paths = [{{ path = "/d/{{device}}", topic = "d/{{device}}", headers = ["User-Agent"], query = ["q"] }}]
[module.counter]
file = "{}"
[route.all]
module = "counter"
"#,
        guest("counter").display()
    );
    crate::host(folder, &configuration).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_scribbled_requests_leave_the_webhook_as_it_was() -> Result<()> {
    let mut random = Random::new(seed());
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let chunked = "POST /d/b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
    let keyed = "PUT /d/c%20d?q=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: test\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n";
    let plain = request("POST /d/a", r#"{"temperature":71.5}"#);
    let requests = [
        plain.clone(),
        chunked.to_owned(),
        keyed.to_owned(),
        plain.replace("Connection: close\r\n", "").repeat(2) + &plain,
    ];
    let sender = Sender::new(&host).await?;
    let ids = scribble(&mut random, &host.ingress("web").await?, &requests).await?;
    check(host, sender, &ids).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_scribbled_requests_leave_the_api_as_it_was() -> Result<()> {
    let mut random = Random::new(seed());
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let head = |what: &str| {
        format!("{what} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}", host.token())
    };
    let with_body = |what: &str, body: &str| {
        let head = head(what);
        format!("{head}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let requests = [
        with_body("POST /v1/readings", r#"{"topic":"a/b","device":"c","payload_json":{"d":[1,2.5e3,null]}}"#),
        with_body(
            "POST /v1/readings",
            r#"{"topic":"a","payload_base64":"AAECAw==","attributes":{"x":["1","2"]}}"#,
        ),
        with_body("PUT /v1/routes/made", r#"{"topic":["x/#"],"module":"counter","key":"pointer:/a"}"#),
        with_body("POST /v1/config/check", r##"{"toml":"[route.a]\ntopic = \"#\"\n"}"##),
        with_body("POST /v1/modules/counter/invoke", r#"{"reading":{"topic":"a","payload":"x"}}"#),
        format!("{}\r\n\r\n", head("GET /v1/readings?limit=3&topic=d/%23&since=2026-01-31T12:00:00Z")),
        format!("{}\r\n\r\n", head("GET /v1/status")),
    ];
    let sender = Sender::new(&host).await?;
    let ids = scribble(&mut random, &host.api, &requests).await?;
    check(host, sender, &ids).await
}
