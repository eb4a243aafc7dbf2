//! TCP and UDP, with netcat, socat and openssl.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::guest;
use sandbar_tests::tool;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::certificates::self_signed;
use crate::{address, check_log, host, payloads, port};

/// A program that is written to and read from.
struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    fn start(program: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(tool::path(program));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no stdout")?;
        Ok(Self { child, stdin, lines: BufReader::new(stdout).lines() })
    }

    async fn say(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("it was told all")?;
        stdin.write_all(text.as_bytes()).await?;
        Ok(stdin.flush().await?)
    }

    async fn line(&mut self) -> Result<String> {
        let line = tokio::time::timeout(Duration::from_secs(20), self.lines.next_line()).await;
        line.context("no line in time")??.context("it ended")
    }

    async fn end(mut self) -> Result<()> {
        drop(self.stdin.take());
        let ended = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        ensure!(ended.context("it does not end")??.success(), "it failed");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn netcat_is_acknowledged_answered_and_commanded() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let configuration = format!(
        r#"
[ingress.lines]
driver = "tcp"
listen = "127.0.0.1:0"
device = "boiler"
topic = "sensors/{{device}}"
content_type = "application/json"
acknowledge = "OK {{id}}\n"
[ingress.hook]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{{ path = "/set" }}]
[sink.boiler]
kind = "device"
device = "boiler"
[route.set]
ingress = ["hook"]
sinks = ["boiler"]
[module.celsius]
file = "{}"
[route.celsius]
ingress = ["lines"]
module = "celsius"
reply = true
"#,
        guest("fahrenheit-to-celsius").display()
    );
    let host = host(folder.path(), &configuration).await?;
    let lines = address(&host, "lines").await?;
    let mut netcat = Talk::start("nc", &["-N", "127.0.0.1", port(&lines)?])?;
    netcat.say("{\"temperature\":71.6,\"unit\":\"F\"}\n").await?;
    let acknowledged = netcat.line().await?;
    let id = acknowledged.strip_prefix("OK ").with_context(|| acknowledged.clone())?;
    let answer: serde_json::Value = serde_json::from_str(&netcat.line().await?)?;
    ensure!(answer == json!({ "temperature": 22.0, "unit": "C" }), "{answer}");
    let reading = host.get(&format!("/v1/readings/{id}")).await?;
    ensure!(reading["topic"] == "sensors/boiler" && reading["device"] == "boiler", "{reading}");
    let hook = format!("{}/set", host.ingress("hook").await?);
    let sent = host.http.post(hook).header("content-type", "text/plain").body("on").send().await?;
    ensure!(sent.status().is_success(), "{sent:?}");
    ensure!(netcat.line().await? == "on");
    netcat.end().await?;
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn socat_speaks_udp() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let configuration = r#"
[ingress.datagrams]
driver = "udp"
listen = "127.0.0.1:0"
allow = ["127.0.0.0/8"]
content_type = "text/plain"
acknowledge = "OK\n"
"#;
    let host = host(folder.path(), configuration).await?;
    let to = address(&host, "datagrams").await?;
    let mut socat = Talk::start("socat", &["-", &format!("UDP4:{to}")])?;
    socat.say("21.5").await?;
    ensure!(socat.line().await? == "OK");
    let mut netcat = Talk::start("nc", &["-u", "127.0.0.1", port(&to)?])?;
    netcat.say("22.5").await?;
    ensure!(netcat.line().await? == "OK");
    ensure!(payloads(&host, "datagrams").await? == ["21.5", "22.5"]);
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_is_talked_to_over_tls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = self_signed(folder.path()).await?;
    let configuration = format!(
        "[ingress.secure]\ndriver = \"tcp\"\nlisten = \"127.0.0.1:0\"\nacknowledge = \"OK\\n\"\n\
         tls = {{ certificate_file = \"{}\", key_file = \"{}\" }}\n",
        made.certificate.display(),
        made.key.display()
    );
    let host = host(folder.path(), &configuration).await?;
    let to = address(&host, "secure").await?;
    let trusted = made.certificate.to_str().context("a path")?;
    let arguments = ["s_client", "-quiet", "-verify_return_error", "-verify_hostname", "localhost"];
    for version in ["-tls1_2", "-tls1_3"] {
        let mut all = arguments.to_vec();
        all.extend([version, "-CAfile", trusted, "-connect", &to]);
        let mut openssl = Talk::start("openssl", &all)?;
        openssl.say("21.5\n").await?;
        ensure!(openssl.line().await? == "OK");
    }
    // What is not TLS gets no reading in.
    let mut netcat = Talk::start("nc", &["-N", "127.0.0.1", port(&to)?])?;
    netcat.say("22.5\n").await?;
    drop(netcat.stdin.take());
    while let Ok(Some(_)) = netcat.lines.next_line().await {}
    ensure!(payloads(&host, "secure").await? == ["21.5", "21.5"]);
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_names_the_device() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = self_signed(folder.path()).await?;
    let certificate = made.certificate.to_str().context("a path")?;
    let key = made.key.to_str().context("a path")?;
    let configuration = format!(
        "[ingress.secure]\ndriver = \"tcp\"\nlisten = \"127.0.0.1:0\"\nacknowledge = \"OK\\n\"\n\
         topic = \"machines/{{device}}\"\ndevice = \"{{certificate}}\"\n\
         tls = {{ certificate_file = \"{certificate}\", key_file = \"{key}\", client_ca_file = \"{certificate}\" }}\n"
    );
    let host = host(folder.path(), &configuration).await?;
    let to = address(&host, "secure").await?;
    let arguments = ["s_client", "-quiet", "-CAfile", certificate, "-connect", &to];
    let mut openssl =
        Talk::start("openssl", &[&arguments[..], &["-cert", certificate, "-key", key]].concat())?;
    openssl.say("21.5\n").await?;
    ensure!(openssl.line().await? == "OK");
    // Without one nothing is taken.
    let mut stranger = Talk::start("openssl", &arguments)?;
    drop(stranger.say("22.5\n").await);
    while let Ok(Some(_)) = stranger.lines.next_line().await {}
    let readings = host.all("/v1/readings?ingress=secure").await?;
    ensure!(readings.len() == 1 && readings[0]["device"] == "localhost", "{readings:?}");
    ensure!(readings[0]["topic"] == "machines/localhost", "{readings:?}");
    ensure!(readings[0]["attributes"]["tls.certificate"] == "localhost", "{readings:?}");
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_connects_to_socat_and_its_sink_to_openssl() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = self_signed(folder.path()).await?;
    // Free ones: nothing else of this machine takes them that soon.
    let mut ports = Vec::new();
    for _ in 0..2 {
        ports.push(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port().to_string());
    }
    let listen = format!("TCP4-LISTEN:{},bind=127.0.0.1,reuseaddr", ports[0]);
    let mut socat = Talk::start("socat", &["-", &listen])?;
    let (certificate, key) = (made.certificate.to_string_lossy(), made.key.to_string_lossy());
    let at = format!("127.0.0.1:{}", ports[1]);
    let mut openssl =
        Talk::start("openssl", &["s_server", "-quiet", "-accept", &at, "-cert", &certificate, "-key", &key])?;
    let configuration = format!(
        "[ingress.plc]\ndriver = \"tcp\"\nconnect = \"127.0.0.1:{}\"\nacknowledge = \"OK\\n\"\n\
         [sink.out]\nkind = \"tcp\"\naddress = \"localhost:{}\"\ntls = {{ ca_file = \"{certificate}\" }}\n\
         [sink.out.offering]\nfirst_wait_ms = 20\nlongest_wait_ms = 200\n\
         [route.all]\nsinks = [\"out\"]\n",
        ports[0], ports[1],
    );
    let host = host(folder.path(), &configuration).await?;
    for reading in ["21.5", "22.5"] {
        socat.say(&format!("{reading}\n")).await?;
        ensure!(socat.line().await? == "OK");
        ensure!(openssl.line().await? == reading);
    }
    eventually("all is delivered", 10, || async {
        host.get("/v1/status").await.is_ok_and(|status| status["store"]["outbox"] == 0)
    })
    .await;
    check_log(&host)
}
