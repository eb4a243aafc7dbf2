//! Both roles of Kraken, played by gRPC's Python implementation: a collector that calls the `kraken` driver, and a
//! broker that the `kraken` sink calls.

use std::path::Path;

use anyhow::{Result, ensure};
use sandbar_tests::free_port;
use sandbar_tests::host::{Host, guest};
use sandbar_tests::sender::all_is_done;
use serde_json::Value;

use crate::certificates::Certificate;
use crate::python::{Program, collect};
use crate::server::Server;
use crate::stage::Stage;

async fn host(folder: &Path, configuration: &str) -> Result<(Host, String)> {
    let text = format!("[api]\nlisten = \"127.0.0.1:0\"\n{configuration}");
    std::fs::write(folder.join("sandbar.toml"), text)?;
    let host = Host::start(folder).await?;
    let address = host.ingress("kraken").await?.replace("http://", "");
    Ok((host, address))
}

const INGRESS: &str = "[ingress.kraken]\ndriver = \"kraken\"\nlisten = \"127.0.0.1:0\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_calls_and_is_answered_once_its_reading_is_stored() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let configuration = format!(
        "{INGRESS}[module.fahrenheit]\nfile = \"{}\"\n[route.all]\ntopic = \"kraken/#\"\nmodule = \"fahrenheit\"\n",
        guest("fahrenheit-to-celsius").display()
    );
    let (host, address) = host(folder.path(), &configuration).await?;
    let serial = ["serial", r#"{"device_name":"press"}"#, r#"{"temperature":%n,"unit":"F"}"#];
    let answers = collect(&address, None, 100, serial).await?;
    ensure!(
        answers.len() == 100 && answers.iter().all(|answer| answer[..] == ["OK", "", "", "{}", ""]),
        "{answers:?}"
    );
    let readings = host.all("/v1/readings?ingress=kraken").await?;
    ensure!(readings.len() == 100, "{}", readings.len());
    let reading =
        host.get(&format!("/v1/readings/{}", readings[0]["id"].as_str().unwrap_or_default())).await?;
    ensure!(reading["topic"] == "kraken/serial" && reading["device"] == "press", "{reading}");
    ensure!(reading["attributes"]["kraken.metadata.device_name"] == "press", "{reading}");

    // What is too large, and what makes no topic, is told in gRPC's terms, and the host goes on.
    let large = collect(&address, None, 1, ["camera", "{}", "16 MB"]).await?;
    ensure!(large[0][0] == "OUT_OF_RANGE", "{large:?}");
    let strange = collect(&address, None, 1, ["a/#", "{}", "x"]).await?;
    ensure!(strange[0][0] == "INVALID_ARGUMENT" && strange[0][1].contains("collector_name"), "{strange:?}");
    ensure!(collect(&address, None, 1, serial).await?[0][0] == "OK");

    // What was acknowledged is there after a kill.
    host.kill();
    let again = Host::start(folder.path()).await?;
    ensure!(again.all("/v1/readings?ingress=kraken").await?.len() == 101);
    all_is_done(&again, 30).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_may_speak_tls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certificate = Certificate::make(folder.path(), "server")?;
    let tls = format!(
        "{INGRESS}[ingress.kraken.tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n",
        certificate.file.display(),
        certificate.key.display()
    );
    let (_host, address) = host(folder.path(), &tls).await?;
    let tcp = ["tcp", "{}", "21.5"];
    ensure!(collect(&address, Some(&certificate.file), 3, tcp).await?.iter().all(|answer| answer[0] == "OK"));
    ensure!(collect(&address, None, 1, tcp).await?[0][0] == "UNAVAILABLE");
    let other = Certificate::make(folder.path(), "other")?;
    ensure!(collect(&address, Some(&other.file), 1, tcp).await?[0][0] == "UNAVAILABLE");
    Ok(())
}

async fn broker(folder: &Path, port: u16, how: &str) -> Result<Server> {
    let mut command = Program::Broker.command();
    command.arg(port.to_string()).arg(folder.join("calls")).arg(how);
    Server::start(command, port, &folder.join("broker.log")).await
}

/// What the broker's handler saw: idempotency key, collector, content type, metadata, payload.
fn calls(folder: &Path) -> Result<Vec<Vec<String>>> {
    let text = std::fs::read_to_string(folder.join("calls")).unwrap_or_default();
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_gets_every_message_also_when_it_was_down() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let sink = format!("kind = \"kraken\"\nurl = \"http://127.0.0.1:{port}\"\ncollector = \"webhook\"");
    let stage = Stage::set(&sink).await?;
    stage.send_numbers(0..20).await?;
    ensure!(stage.complaint().await?.contains("refused"));
    let first = broker(folder.path(), port, "none").await?;
    stage.send_numbers(20..30).await?;
    first.kill();
    let stage = stage.again().await?;
    let second = broker(folder.path(), port, "take").await?;
    stage.send_numbers(30..60).await?;
    second.kill();
    stage.send_numbers(60..80).await?;
    let _third = broker(folder.path(), port, "take").await?;
    ensure!(stage.settle().await?.is_empty());
    let calls = calls(folder.path())?;
    let keys: std::collections::BTreeSet<_> = calls.iter().map(|call| &call[0]).collect();
    ensure!(keys.len() == 80, "{} of 80", keys.len());
    ensure!(
        calls[0][1..] == ["webhook", "application/json", "{}", r#"{"n":0,"celsius":0.5}"#],
        "{:?}",
        calls[0]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_brokers_answer_goes_back_to_the_sender() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let _broker = broker(folder.path(), port, "take").await?;
    let configuration = format!(
        "{INGRESS}[sink.broker]\nkind = \"kraken\"\nurl = \"http://127.0.0.1:{port}\"\nreply = \"response_type\"\n\
         collector = \"{{{{ attributes['kraken.collector'] }}}}\"\n\
         [route.all]\ntopic = \"kraken/#\"\nsinks = [\"broker\"]\nreply = \"broker\"\n"
    );
    let (host, address) = host(folder.path(), &configuration).await?;
    // Collector → Sandbar → broker, and all the way back.
    let answers = collect(&address, None, 5, ["tcp", r#"{"peer_addr":"10.0.0.7:5"}"#, "21.%n"]).await?;
    for (n, answer) in answers.iter().enumerate() {
        ensure!(
            answer[..3] == ["OK", "python", "text/plain"] && answer[4] == format!("seen 21.{n}"),
            "{answer:?}"
        );
        let metadata: Value = serde_json::from_str(&answer[3])?;
        ensure!(metadata["response_type"] == "tcp", "{metadata}");
    }
    ensure!(calls(folder.path())?[0][3] == r#"{"peer_addr":"10.0.0.7:5"}"#);
    all_is_done(&host, 30).await;
    Ok(())
}
