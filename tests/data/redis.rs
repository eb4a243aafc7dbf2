//! Redis, asked with redis-cli.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sandbar_tests::free_port;
use sandbar_tests::{eventually, tool};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::certificates::Certificate;
use crate::server::{Server, folder, program, unprivileged};
use crate::stage::Stage;

struct Redis {
    folder: tempfile::TempDir,
    certificate: Certificate,
    port: u16,
    tls_port: u16,
}

impl Redis {
    fn make() -> Result<Self> {
        let folder = folder()?;
        let certificate = Certificate::make(folder.path(), "server")?;
        Ok(Self { folder, certificate, port: free_port()?, tls_port: free_port()? })
    }

    async fn start(&self) -> Result<Server> {
        let mut command: Command = unprivileged(&program("redis-server"));
        command.current_dir(self.folder.path());
        command.args(["--bind", "127.0.0.1", "--requirepass", "hunter2", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--save", "", "--dir"]).arg(self.folder.path());
        command.args(["--port", &self.port.to_string(), "--tls-port", &self.tls_port.to_string()]);
        command.arg("--tls-cert-file").arg(&self.certificate.file);
        command.arg("--tls-key-file").arg(&self.certificate.key).args(["--tls-auth-clients", "no"]);
        Server::start(command, self.port, &self.folder.path().join("log")).await
    }

    fn cli(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut cli = tokio::process::Command::new(tool::path("redis-cli"));
        cli.args(["-p", &self.port.to_string(), "--no-auth-warning", "-a", "hunter2"]).args(arguments);
        cli
    }

    async fn ask(&self, arguments: &[&str]) -> Result<String> {
        Ok(tool::succeeds(self.cli(arguments), 20).await?.trim().to_owned())
    }

    fn sink(&self, more: &str) -> String {
        format!("kind = \"redis\"\nurl = \"redis://:hunter2@127.0.0.1:{}/0\"\n{more}", self.port)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_every_message_also_after_the_server_was_gone() -> Result<()> {
    let redis = Redis::make()?;
    let server = redis.start().await?;
    let stage = Stage::set(&redis.sink("key = \"readings:{{ topic }}\"\nmax_length = 100000")).await?;
    stage.send_numbers(0..100).await?;
    stage.settle().await?;
    ensure!(redis.ask(&["XLEN", "readings:plant/boiler"]).await? == "100");
    let first = redis.ask(&["XRANGE", "readings:plant/boiler", "-", "+", "COUNT", "1"]).await?;
    let fields: Vec<&str> = first.lines().skip(1).collect();
    let at = |name: &str| {
        fields.iter().position(|field| *field == name).and_then(|at| fields.get(at + 1)).copied()
    };
    ensure!(at("payload") == Some(r#"{"n":0,"celsius":0.5}"#) && at("device") == Some("boiler"), "{first}");
    ensure!(at("topic") == Some("plant/boiler") && at("id").is_some_and(|id| id.len() == 26), "{first}");

    server.kill();
    stage.send_numbers(100..130).await?;
    let complaint = stage.complaint().await?;
    ensure!(complaint.contains("refused") && !complaint.contains("hunter2"), "{complaint}");
    let stage = stage.again().await?;
    let _server = redis.start().await?;
    stage.send_numbers(130..150).await?;
    ensure!(stage.settle().await?.is_empty());
    let all = redis.ask(&["XRANGE", "readings:plant/boiler", "-", "+"]).await?;
    let ids: Vec<&str> = all.lines().collect();
    let ids: std::collections::BTreeSet<_> =
        ids.windows(2).filter(|pair| pair[0] == "id").map(|pair| pair[1]).collect();
    ensure!(ids.len() == 150, "{} of 150", ids.len());

    // A key that holds something else buries only what goes there.
    redis.ask(&["SET", "readings:plant/lathe", "x"]).await?;
    stage.send("lathe", "{}").await?;
    stage.send("press", "{}").await?;
    let causes = stage.settle().await?;
    ensure!(causes.len() == 1 && causes[0].contains("WRONGTYPE"), "{causes:?}");
    ensure!(redis.ask(&["XLEN", "readings:plant/press"]).await? == "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_keys_and_channels_are_written() -> Result<()> {
    let redis = Redis::make()?;
    let _server = redis.start().await?;
    let stage = Stage::set(&redis.sink("as = \"list\"\nkey = \"latest\"\nmax_length = 7")).await?;
    stage.send_numbers(0..30).await?;
    stage.settle().await?;
    let list = redis.ask(&["LRANGE", "latest", "0", "-1"]).await?;
    ensure!(list.lines().count() == 7 && list.ends_with(r#"{"n":29,"celsius":29.5}"#), "{list}");

    let stage = Stage::set(
        &redis.sink("as = \"set\"\nkey = \"last:{{ device }}\"\nexpire_s = 600\nvalue = \"json\""),
    )
    .await?;
    stage.send_numbers(0..10).await?;
    stage.settle().await?;
    let last: serde_json::Value = serde_json::from_str(&redis.ask(&["GET", "last:boiler"]).await?)?;
    ensure!(last["payload"]["n"] == 9 && last["topic"] == "plant/boiler", "{last}");
    let seconds: u64 = redis.ask(&["TTL", "last:boiler"]).await?.parse()?;
    ensure!((500..=600).contains(&seconds), "{seconds}");

    let mut subscriber = redis.cli(&["SUBSCRIBE", "live"]);
    let mut subscriber = subscriber.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut heard = BufReader::new(subscriber.stdout.take().context("no output")?).lines();
    let stage = Stage::set(&redis.sink("as = \"publish\"\nkey = \"live\"")).await?;
    eventually("somebody subscribes", 20, || async {
        redis.ask(&["PUBSUB", "NUMSUB", "live"]).await.is_ok_and(|said| said.ends_with('1'))
    })
    .await;
    stage.send_numbers(0..3).await?;
    let mut messages = Vec::new();
    while messages.len() < 3 {
        let line = tokio::time::timeout(std::time::Duration::from_secs(20), heard.next_line()).await??;
        let line = line.context("redis-cli ended")?;
        messages.extend(line.starts_with('{').then_some(line));
    }
    ensure!(messages[2] == r#"{"n":2,"celsius":2.5}"#, "{messages:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_certificate_and_name_are_verified() -> Result<()> {
    let redis = Redis::make()?;
    let _server = redis.start().await?;
    let other = Certificate::make(redis.folder.path(), "other")?;
    let sink = |host: &str, ca: &Certificate| {
        let url = format!("rediss://:hunter2@{host}:{}", redis.tls_port);
        format!("kind = \"redis\"\nurl = \"{url}\"\nkey = \"safe\"\nca_file = \"{}\"", ca.file.display())
    };
    for (host, ca) in [("localhost", &other), ("127.0.0.1", &redis.certificate)] {
        let stage = Stage::set(&sink(host, ca)).await?;
        stage.send_numbers(0..1).await?;
        let complaint = stage.complaint().await?;
        ensure!(complaint.contains("certificate") && !complaint.contains("hunter2"), "{complaint}");
    }
    let stage = Stage::set(&sink("localhost", &redis.certificate)).await?;
    stage.send_numbers(0..5).await?;
    ensure!(stage.settle().await?.is_empty());
    ensure!(redis.ask(&["XLEN", "safe"]).await? == "5");
    Ok(())
}
