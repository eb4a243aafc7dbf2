//! What the `http` sink's presets and the `file` sink's CSV consist of, read by others' parsers.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use sandbar_tests::host::Host;
use sandbar_tests::sender::all_is_done;
use serde_json::{Value, json};

use crate::{check_log, host, python_says};

/// Headers, path and body of each request, in order.
type Requests = Arc<std::sync::Mutex<Vec<(HeaderMap, String, String)>>>;

async fn receiver() -> Result<(String, Requests)> {
    async fn take(
        State(requests): State<Requests>,
        uri: Uri,
        headers: HeaderMap,
        body: String,
    ) -> StatusCode {
        requests.lock().expect("nobody panics while holding it").push((headers, uri.to_string(), body));
        StatusCode::NO_CONTENT
    }
    let requests = Requests::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let app = axum::Router::new().fallback(take).with_state(Arc::clone(&requests));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok((url, requests))
}

/// What a device might say, with all that needs escaping.
const PAYLOADS: [&str; 4] = [
    r#"{"celsius":21.5,"on":true,"unit":"°C","note":"say \"hi\" <!channel> & \\o/"}"#,
    r#"{"celsius":-3,"deep":{"a b":[1,2.25e-3]},"note":"two\nlines, and = signs"}"#,
    r#"{"celsius":1e21,"none":null}"#,
    r#"{"celsius":0,"note":""}"#,
];

async fn post_all(host: &Host) -> Result<()> {
    let web = host.ingress("web").await?;
    for payload in PAYLOADS {
        let request =
            host.http.post(format!("{web}/hall%202,%20a=b")).header("content-type", "application/json");
        ensure!(request.body(payload).send().await?.status() == 202, "not taken");
    }
    all_is_done(host, 30).await;
    Ok(())
}

const WEBHOOK: &str = "[ingress.web]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\n\
    paths = [{ path = \"/{device}\", topic = \"halls/{device}\" }]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_services_get_what_they_expect() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (url, requests) = receiver().await?;
    let sinks: String = ["slack", "teams", "discord"]
        .iter()
        .map(|preset| {
            format!(
                "[sink.{preset}]\nkind = \"http\"\npreset = \"{preset}\"\nsecret_url = \"{url}/{preset}\"\n\
                 text = \"*{{{{ device }}}}*: {{{{ payload.note | default('nothing') }}}}\"\n"
            )
        })
        .collect();
    let configuration =
        format!("{WEBHOOK}{sinks}[route.all]\nkey = \"none\"\nsinks = [\"slack\", \"teams\", \"discord\"]\n");
    let host = host(folder.path(), &configuration).await?;
    post_all(&host).await?;
    let requests = requests.lock().expect("nobody panics while holding it").clone();
    let of = |service: &str| -> Result<Vec<Value>> {
        let bodies = requests.iter().filter(|(_, path, _)| path == &format!("/{service}"));
        bodies.map(|(_, _, body)| Ok(serde_json::from_str(body)?)).collect()
    };
    ensure!(
        of("slack")?[0] == json!({ "text": "*hall 2, a=b*: say \"hi\" &lt;!channel&gt; &amp; \\o/" }),
        "{:?}",
        of("slack")
    );
    let discord =
        json!({ "content": "*hall 2, a=b*: two\nlines, and = signs", "allowed_mentions": { "parse": [] } });
    ensure!(of("discord")?[1] == discord, "{:?}", of("discord"));
    let card = &of("teams")?[2]["attachments"][0]["content"];
    ensure!(card["type"] == "AdaptiveCard" && card["body"][0]["text"] == "*hall 2, a=b*: nothing", "{card}");
    let keys: std::collections::BTreeSet<_> =
        requests.iter().map(|(headers, ..)| headers["idempotency-key"].clone()).collect();
    ensure!(keys.len() == 3 * PAYLOADS.len(), "each request has a key of its own");
    check_log(&host)
}

/// Prints what an independent parser makes of each line.
const PARSE: &str = r#"
import json
from line_protocol_parser import parse_line
for line in open("lines", newline="\n").read().splitlines():
    print(json.dumps(parse_line(line)))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn influxdb_lines_are_read_by_an_independent_parser() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (url, requests) = receiver().await?;
    let configuration = format!(
        "{WEBHOOK}[sink.influx]\nkind = \"http\"\npreset = \"influxdb\"\nurl = \"{url}/api/v2/write?bucket=b&precision=ns\"\n\
         headers = {{ Authorization = \"Token abc\" }}\n\
         [sink.influx.influxdb]\nmeasurement = \"room climate, {{{{ route }}}}\"\n\
         tags = {{ \"the device\" = \"{{{{ device }}}}\", empty = \"\" }}\n\
         [route.all]\nkey = \"none\"\nsinks = [\"influx\"]\n"
    );
    let host = host(folder.path(), &configuration).await?;
    post_all(&host).await?;
    let requests = requests.lock().expect("nobody panics while holding it").clone();
    ensure!(requests.iter().all(|(headers, ..)| headers["authorization"] == "Token abc"), "{requests:?}");
    let lines: String = requests.iter().map(|(_, _, body)| body.replace("two\nlines", "two lines")).collect();
    std::fs::write(folder.path().join("lines"), &lines)?;
    let said = python_says(folder.path(), PARSE, &[]).await?;
    let parsed: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(parsed.len() == PAYLOADS.len(), "{lines}");
    let fields = [
        json!({ "celsius": 21.5, "on": true, "unit": "°C", "note": "say \"hi\" <!channel> & \\o/" }),
        json!({ "celsius": -3.0, "deep_a b_0": 1.0, "deep_a b_1": 2.25e-3, "note": "two lines, and = signs" }),
        json!({ "celsius": 1e21 }),
        json!({ "celsius": 0.0, "note": "" }),
    ];
    for (line, fields) in parsed.iter().zip(fields) {
        ensure!(line["measurement"] == "room climate, all", "{line}");
        ensure!(line["tags"] == json!({ "the device": "hall 2, a=b" }), "{line}");
        ensure!(line["fields"] == fields, "{line} is not {fields}");
        ensure!(line["time"].as_u64().is_some_and(|time| time > 1_700_000_000_000_000_000), "{line}");
    }
    check_log(&host)
}

const READ: &str = r#"
import csv, glob, json
names = sorted(glob.glob("sandbar-data/out.csv*"), key=lambda name: -int(name.split("csv.")[1]) if "csv." in name else 0)
for name in names:
    print(json.dumps(list(csv.reader(open(name, newline="", encoding="utf-8"), strict=True))))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_reads_the_csv_of_every_rotated_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let configuration = format!(
        "{WEBHOOK}[sink.out]\nkind = \"file\"\npath = \"sandbar-data/out.csv\"\nformat = \"csv\"\nrotate_bytes = 250\nkeep = 9\n\
         columns = [\"topic\", \"device\", \"/celsius\", {{ name = \"a, \\\"note\\\"\", from = \"/note\" }}, \"/deep\", \"attribute:http.method\"]\n\
         [route.all]\nkey = \"none\"\nsinks = [\"out\"]\n"
    );
    let host = host(folder.path(), &configuration).await?;
    post_all(&host).await?;
    let said = python_says(folder.path(), READ, &[]).await?;
    let files: Vec<Vec<Vec<String>>> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(files.len() > 1, "it was not rotated: {said}");
    let header = ["topic", "device", "celsius", "a, \"note\"", "deep", "http.method", "id"];
    ensure!(files.iter().all(|file| file.first().is_some_and(|first| first == &header)), "{said}");
    let records: Vec<_> = files.iter().flat_map(|file| &file[1..]).collect();
    ensure!(records.len() == PAYLOADS.len(), "{said}");
    let second = records.get(1).context("there are four")?;
    let expected = [
        "halls/hall 2, a=b",
        "hall 2, a=b",
        "-3",
        "two\nlines, and = signs",
        r#"{"a b":[1,0.00225]}"#,
        "POST",
    ];
    ensure!(second[..6] == expected, "{second:?}");
    ensure!(records[0][3] == "say \"hi\" <!channel> & \\o/" && records[2][3].is_empty(), "{records:?}");
    check_log(&host)
}
