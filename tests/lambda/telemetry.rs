//! Spans and metrics at a collector that OpenTelemetry's own messages make: whose parent is whose, from one host's
//! peers to the next one's, and what a collector that is away costs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::HeaderMap;
use reqwest::{Method, StatusCode};
use sandbar_tests::host::{Host, guest};
use sandbar_tests::sender::all_is_done;
use sandbar_tests::{eventually, tool};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{done, upload};

const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

struct Collector {
    child: tokio::process::Child,
    file: PathBuf,
    port: u16,
}

impl Collector {
    async fn start(folder: &Path, port: u16) -> Result<Self> {
        let file = folder.join("collected.jsonl");
        let script = sandbar_tests::checkout().join("tests/lambda/collector.py");
        let mut child = tokio::process::Command::new(tool::python_peer("python3"))
            .arg(script)
            .arg(port.to_string())
            .arg(&file)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut said = BufReader::new(child.stdout.take().context("no output")?).lines();
        let port = said.next_line().await?.context("the collector does not start")?.parse()?;
        Ok(Self { child, file, port })
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The one span of this name that `wanted` is true of; the collector has had none that it could not read.
    async fn span(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let is_it = |line: &Value| line["name"] == name && wanted(line);
        eventually(name, 30, || async { self.lines().iter().any(is_it) }).await;
        let lines = self.lines();
        ensure!(lines.iter().all(|line| line["error"].is_null()), "{lines:?}");
        let found: Vec<_> = lines.into_iter().filter(is_it).collect();
        ensure!(found.len() == 1, "{name}: {found:?}");
        Ok(found[0].clone())
    }
}

/// A far end that remembers which trace each request was part of, by path.
#[derive(Clone, Default)]
struct FarEnd(Arc<Mutex<Vec<(String, String)>>>);

impl FarEnd {
    async fn start(&self) -> Result<u16> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let far_end = self.clone();
        let take = move |uri: axum::http::Uri, headers: HeaderMap| async move {
            let said = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let trace = format!("{} {}", said("traceparent"), said("tracestate")).trim().to_owned();
            far_end.0.lock().expect("no panic").push((uri.path().to_owned(), trace));
            "taken"
        };
        let app = axum::Router::new().fallback(take);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(port)
    }

    fn trace(&self, path: &str) -> Option<String> {
        let taken = self.0.lock().expect("no panic");
        taken.iter().find(|(taken, _)| taken == path).map(|(_, trace)| trace.clone())
    }
}

/// `in/#` is counted, what that puts out passed on to the far end and to the broker's subscribers.
async fn start(folder: &Path, telemetry: &str, far_end: u16) -> Result<Host> {
    let more = format!(
        r#"
{telemetry}
[ingress.broker]
driver = "mqtt"
listen = "127.0.0.1:0"
[sink.far]
kind = "http"
url = "http://127.0.0.1:{far_end}/delivered"
[sink.subscribers]
kind = "local-mqtt"
ingress = "broker"
[route.passes-on]
topic = "counted/#"
sinks = ["far", "subscribers"]
"#
    );
    let host = crate::host(folder, &more).await?;
    upload(&host, "counter", &guest("counter"), true).await?;
    upload(&host, "permitted", &guest("permitted"), true).await?;
    let table = json!({ "module": "counter", "topic": ["in/#"] });
    done(&host, Method::PUT, "/v1/routes/counts", table).await?;
    let url = format!("http://127.0.0.1:{far_end}/");
    let table = json!({ "module": "permitted", "topic": ["asks"], "permissions": { "http": [{ "url": url }] },
        "limits": { "time_ms": 5000 } });
    done(&host, Method::PUT, "/v1/routes/asks", table).await?;
    Ok(host)
}

fn collected_by(collector: &Collector) -> String {
    format!(
        "[telemetry]\notlp = \"http://127.0.0.1:{}\"\nmetrics_every_s = 1\nheaders = {{ X-Tenant = \"hall-3\" }}\n\
         attributes = {{ \"deployment.environment.name\" = \"test\" }}\n",
        collector.port
    )
}

/// With a trace, if there is one.
async fn post(host: &Host, path: &str, body: &str, trace: Option<&str>) -> Result<String> {
    let mut request = host.http.post(format!("{}/{path}", host.ingress("web").await?)).body(body.to_owned());
    if let Some(trace) = trace {
        request = request.header("traceparent", trace).header("tracestate", "vendor=1");
    }
    let answer = request.send().await?;
    ensure!(answer.status() == StatusCode::ACCEPTED, "{}", answer.status());
    let body: Value = serde_json::from_str(&answer.text().await?)?;
    Ok(body["id"].as_str().context("no id")?.to_owned())
}

fn is_child(span: &Value, parent: &Value) -> Result<()> {
    ensure!(span["parent"] == parent["span"] && span["trace"] == parent["trace"], "{span} after {parent}");
    Ok(())
}

fn as_header(span: &Value) -> String {
    let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
    format!("00-{}-{}-01", text("trace"), text("span"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_through_the_host_with_a_span_for_each_step() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (collector, far_end) = (Collector::start(folder.path(), 0).await?, FarEnd::default());
    let host = start(folder.path(), &collected_by(&collector), far_end.start().await?).await?;
    let broker = host.ingress("broker").await?;
    let port = broker.rsplit(':').next().context("no port")?;
    // It is told line by line that it is subscribed.
    let mut subscriber = tokio::process::Command::new(tool::path("stdbuf"))
        .arg("-oL")
        .arg(tool::path("mosquitto_sub"))
        .args(["-V", "5", "-p", port, "-t", "#", "-F", "%P", "-C", "1", "-W", "60", "-d"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut heard = BufReader::new(subscriber.stdout.take().context("no output")?).lines();
    while !heard.next_line().await?.context("no subscription")?.contains("SUBACK") {}

    let reading = post(&host, "in/a", "{}", Some(GIVEN)).await?;
    let of = |span: &Value| span["attributes"]["sandbar.reading"] == reading;
    let accepted = collector.span("accept web", of).await?;
    ensure!(accepted["trace"] == TRACE && accepted["parent"] == "b7ad6b7169203331", "{accepted}");
    ensure!(accepted["kind"] == "SPAN_KIND_CONSUMER" && accepted["state"] == "vendor=1", "{accepted}");
    ensure!(accepted["host"]["service.name"] == "sandbar", "{accepted}");
    ensure!(accepted["host"]["deployment.environment.name"] == "test", "{accepted}");
    ensure!(accepted["attributes"]["sandbar.topic"] == "in/a", "{accepted}");
    let counted = collector.span("handle counts", of).await?;
    is_child(&counted, &accepted)?;
    ensure!(counted["attributes"]["sandbar.version"] == 1, "{counted}");
    let passed_on = collector.span("handle passes-on", |span| span["trace"] == TRACE).await?;
    is_child(&passed_on, &counted)?;
    for sink in ["deliver far", "deliver subscribers"] {
        let delivered = collector.span(sink, |span| span["trace"] == TRACE).await?;
        is_child(&delivered, &passed_on)?;
        ensure!(delivered["kind"] == "SPAN_KIND_PRODUCER" && delivered["status"] == "STATUS_CODE_UNSET");
        let header = as_header(&delivered);
        match sink {
            "deliver far" => {
                let said = far_end.trace("/delivered").context("nothing came")?;
                ensure!(said == format!("{header} vendor=1"), "{said}");
            }
            _ => loop {
                let line = heard.next_line().await?.context("the subscriber has heard nothing")?;
                if line.contains("traceparent") {
                    ensure!(line.contains(&header), "{line}");
                    break;
                }
            },
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_that_come_otherwise_or_fail_are_traced_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (collector, far_end) = (Collector::start(folder.path(), 0).await?, FarEnd::default());
    let port = far_end.start().await?;
    let host = start(folder.path(), &collected_by(&collector), port).await?;

    // From a publisher with MQTT 5.
    let broker = host.ingress("broker").await?;
    let mut publish = tokio::process::Command::new(tool::path("mosquitto_pub"));
    publish.args([
        "-V",
        "5",
        "-p",
        broker.rsplit(':').next().context("no port")?,
        "-q",
        "1",
        "-t",
        "by-mqtt",
    ]);
    publish.args(["-m", "x", "-D", "publish", "user-property", "traceparent", GIVEN]);
    tool::succeeds(publish, 30).await?;
    let accepted = collector.span("accept broker", |_| true).await?;
    ensure!(accepted["trace"] == TRACE && accepted["parent"] == "b7ad6b7169203331", "{accepted}");

    // One that comes without a trace begins one: its own id.
    let reading = post(&host, "asks", &format!("GET http://127.0.0.1:{port}/asked"), None).await?;
    let of = |span: &Value| span["attributes"]["sandbar.reading"] == reading;
    let accepted = collector.span("accept web", of).await?;
    ensure!(accepted["parent"] == "" && accepted["trace"] != TRACE, "{accepted}");
    // What its handler asks others over HTTP follows its attempt.
    let asked = collector.span("handle asks", of).await?;
    is_child(&asked, &accepted)?;
    ensure!(far_end.trace("/asked") == Some(as_header(&asked)), "{:?}", far_end.trace("/asked"));

    // Each attempt that fails is a span of its own.
    upload(&host, "counter", &guest("hostile"), true).await?;
    let table = json!({ "module": "counter", "topic": ["in/#"],
        "attempts": { "max": 2, "first_wait_ms": 10, "longest_wait_ms": 20 } });
    done(&host, Method::PUT, "/v1/routes/counts", table).await?;
    let reading = post(&host, "in/b", "retry", None).await?;
    for attempt in [1, 2] {
        let failed = collector
            .span("handle counts", |span| {
                span["attributes"]["sandbar.reading"] == reading
                    && span["attributes"]["sandbar.attempt"] == attempt
            })
            .await?;
        let said = failed["message"].as_str().unwrap_or_default();
        ensure!(failed["status"] == "STATUS_CODE_ERROR" && said.contains("not yet"), "{failed}");
    }

    // Who says that nobody records it is not recorded, and what follows is told the same.
    let unsampled = format!("{}00", &GIVEN[..GIVEN.len() - 2]);
    let asked = format!("GET http://127.0.0.1:{port}/unrecorded");
    let reading = post(&host, "asks", &asked, Some(&unsampled)).await?;
    eventually("it is asked", 30, || async { far_end.trace("/unrecorded").is_some() }).await;
    ensure!(far_end.trace("/unrecorded") == Some(format!("{unsampled} vendor=1")));
    post(&host, "asks", "clock", Some(GIVEN)).await?;
    collector.span("handle asks", |span| span["trace"] == TRACE).await?;
    ensure!(collector.lines().iter().all(|span| span["attributes"]["sandbar.reading"] != reading));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_those_of_prometheus_and_a_collector_that_is_away_keeps_nobody_waiting() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut collector, far_end) = (Collector::start(folder.path(), 0).await?, FarEnd::default());
    let telemetry = format!("{}spans_max = 20\n", collected_by(&collector));
    let host = start(folder.path(), &telemetry, far_end.start().await?).await?;
    post(&host, "in/a", "{}", None).await?;
    all_is_done(&host, 30).await;
    let handled = |line: &Value| {
        line["metric"] == "sandbar_route_handled"
            && line["attributes"]["route"] == "counts"
            && line["value"] == 1.0
    };
    eventually("a report", 30, || async { collector.lines().iter().any(handled) }).await;
    let prometheus = host.request(Method::GET, "/metrics").send().await?.text().await?;
    let is_missing = |lines: &[Value], (name, kind): (&str, &str)| {
        let kind = if kind == "counter" { "sum" } else { kind };
        // A family without members has no points.
        let has_members = prometheus.lines().any(|line| line.starts_with(name));
        has_members && !lines.iter().any(|line| line["metric"] == name && line["kind"] == kind)
    };
    let missing = || {
        let lines = collector.lines();
        let types = prometheus.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types.filter(|family| is_missing(&lines, *family)).collect::<Vec<_>>()
    };
    // The collector may be writing the report down.
    for _ in 0..100 {
        if missing().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(missing().is_empty(), "not at the collector: {:?}", missing());
    let lines = collector.lines();
    ensure!(lines.iter().all(|line| line["error"].is_null()), "{lines:?}");

    collector.child.kill().await?;
    let began = std::time::Instant::now();
    for n in 0..200 {
        post(&host, &format!("in/{n}"), "{}", None).await?;
        if n == 100 {
            // What is on its way by now waits there, and no longer makes room.
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    }
    all_is_done(&host, 30).await;
    println!("200 readings in {:?} while the collector is away, and 1.5 s of waiting", began.elapsed());
    let figure = |name: &str, text: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).map(|line| line.rsplit(' ').next());
        line.flatten().and_then(|value| value.parse::<f64>().ok()).unwrap_or(-1.0)
    };
    eventually("spans are dropped and counted", 30, || async {
        let text = host.request(Method::GET, "/metrics").send().await;
        let text = match text {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        figure("sandbar_spans_dropped_total", &text) > 0.0
    })
    .await;
    let again = Collector::start(folder.path(), collector.port).await?;
    let before = again.lines().len();
    eventually("the collector is found again", 60, || async {
        again.lines()[before..].iter().any(|line| line["name"] == "handle counts")
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    ensure!(again.lines().iter().all(|line| line["error"].is_null()));
    Ok(())
}
