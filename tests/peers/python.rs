//! Python's own HTTP client.

use anyhow::{Context, Result, ensure};
use sandbar_tests::sender::check_journal;
use sandbar_tests::tool;
use serde_json::Value;

/// Prints one JSON object: the ids that were given, and what was answered otherwise.
const PROGRAM: &str = r#"
import http.client, json, sys, urllib.parse
web = urllib.parse.urlparse(sys.argv[1]).netloc
ids, others = [], []
connection = http.client.HTTPConnection(web, timeout=20)

def ask(method, path, body=None, headers={}, **options):
    connection.request(method, path, body, headers, **options)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status == 202:
        ids.append(json.loads(text)["id"])
    else:
        others.append([method, answer.status, json.loads(text)["code"] if text else None])

connection.connect()
socket = connection.sock
for n in range(20):
    ask("POST", "/hooks/python", json.dumps({"n": n}), {"Content-Type": "application/json"})
ask("POST", "/hooks/python", (b"x" * 1000 for _ in range(50)), encode_chunked=True)
ask("PUT", "/hooks/python", b"\x00\xff")
ask("POST", "/hooks/%C3%BC", b"{}")
ask("GET", "/hooks/python")
ask("HEAD", "/hooks/python")
ask("POST", "/nowhere", b"{}")
ask("POST", "/hooks/a%2Fb", b"{}")
kept = connection.sock is socket
print(json.dumps({"ids": ids, "others": others, "kept": kept}))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_is_understood_over_one_connection() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let configuration = r#"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{ path = "/hooks/{device}", topic = "hooks/{device}" }]
"#;
    let host = crate::host(folder.path(), configuration).await?;
    let mut python = tokio::process::Command::new(tool::path("python3"));
    python.args(["-c", PROGRAM, &host.ingress("web").await?]);
    let said = tool::succeeds(python, 60).await?;
    let seen: Value = serde_json::from_str(&said)?;
    let ids: Vec<String> = serde_json::from_value(seen["ids"].clone())?;
    ensure!(ids.len() == 23, "{seen}");
    let others = serde_json::json!([
        ["GET", 405, "method_not_allowed"],
        ["HEAD", 405, null],
        ["POST", 404, "no_such_path"],
        ["POST", 400, "bad_path"],
    ]);
    ensure!(seen["others"] == others, "{seen}");
    ensure!(seen["kept"] == true, "the connection was not kept: {seen}");
    check_journal(&host, &ids).await?;
    let umlaut = host.get(&format!("/v1/readings/{}", ids.last().context("no ids")?)).await?;
    ensure!(umlaut["topic"] == "hooks/ü" && umlaut["device"] == "ü", "{umlaut}");
    Ok(())
}
