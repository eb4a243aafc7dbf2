//! A host that is started by Kraken's environment variables alone.

use anyhow::{Result, ensure};
use sandbar_tests::free_port;
use sandbar_tests::host::{Host, binary};
use sandbar_tests::tool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::python::Program;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collectors_start_and_feed_the_broker_without_a_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (port, web, tcp) = (free_port()?, free_port()?, free_port()?);
    let mut broker = Program::Broker.command();
    broker.arg(port.to_string()).arg(folder.path().join("calls")).arg("take");
    let _broker = Server::start(broker, port, &folder.path().join("broker.log")).await?;
    let variables = [
        ("KRKNC_BROKER_HOST", format!("127.0.0.1:{port}")),
        ("KRKNC_WEBHOOK_PATH", "/in".to_owned()),
        ("KRKNC_WEBHOOK_PORT", web.to_string()),
        ("KRKNC_TCP_HOST", "127.0.0.1".to_owned()),
        ("KRKNC_TCP_PORT", tcp.to_string()),
    ];
    let host = Host::start_without_file(folder.path(), &variables).await?;
    let client = host.http.clone();
    let answer = client.post(format!("http://127.0.0.1:{web}/in")).body("{\"n\":1}");
    let answer = answer.header("content-type", "application/json").send().await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    ensure!(answer.text().await? == r#"{"status": "POST_OK"}"#);

    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", tcp)).await?;
    stream.write_all(b"21.5").await?;
    let mut reply = vec![0; "seen 21.5".len()];
    tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_exact(&mut reply)).await??;
    ensure!(reply == b"seen 21.5", "{}", String::from_utf8_lossy(&reply));
    sandbar_tests::sender::all_is_done(&host, 30).await;
    let calls = std::fs::read_to_string(folder.path().join("calls"))?;
    ensure!(calls.contains(r#""webhook", "application/json", "{}", "{\"n\":1}""#), "{calls}");
    ensure!(calls.contains(r#""tcp", "application/octet-stream", "{\"peer_addr\":\"127.0.0.1:"#), "{calls}");

    // The same as a file.
    let mut check = tokio::process::Command::new(binary());
    check.args(["check", "--from-kraken"]).envs(variables.iter().map(|(name, value)| (name, value)));
    let text = tool::succeeds(check, 60).await?;
    std::fs::write(folder.path().join("printed.toml"), &text)?;
    let mut check = tokio::process::Command::new(binary());
    check.arg("check").arg(folder.path().join("printed.toml"));
    ensure!(tool::succeeds(check, 60).await?.contains("is sound: "));
    ensure!(text.contains("[ingress.webhook]") && text.contains("[sink.broker-tcp]"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variable_that_cannot_be_understood_stops_the_start_by_its_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, value) in [("KRKNC_TCP_PORT", "no port"), ("KRKNC_TPC_PORT", "9000")] {
        let mut command = tokio::process::Command::new(binary());
        command.arg("run").env(name, value).current_dir(folder.path());
        let said = tool::run(command, 30).await?;
        ensure!(said.code == Some(1) && said.stderr.contains(name), "{said:?}");
    }
    Ok(())
}
