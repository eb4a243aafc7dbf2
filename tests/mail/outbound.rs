//! The `email` sink, to a server made of aiosmtpd and to our own ingress.

use std::process::Stdio;

use anyhow::{Result, ensure};
use sandbar_tests::host::Host;
use sandbar_tests::sender::all_is_done;
use sandbar_tests::{eventually, tool};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{OUT, certificate, check_log, host, python_says, written};

/// A mail server as a child process, ended when dropped.
struct MailServer {
    _child: Child,
    folder: tempfile::TempDir,
    certificate: String,
    port: String,
}

impl MailServer {
    async fn start(mode: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (certificate, key) = certificate(folder.path())?;
        let script = folder.path().join("server.py");
        std::fs::write(&script, include_str!("mail_server.py"))?;
        let child = Command::new(tool::python_peer("python"))
            .arg(script)
            .args([folder.path(), &certificate, &key])
            .arg(mode)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let port = folder.path().join("port");
        eventually("the mail server listens", 30, || async { port.exists() }).await;
        let port = std::fs::read_to_string(port)?;
        Ok(Self { _child: child, folder, certificate: certificate.display().to_string(), port })
    }

    /// What Python's email package makes of the messages: one object each.
    async fn messages(&self) -> Result<Vec<Value>> {
        let said = python_says(self.folder.path(), READ, &[]).await?;
        said.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    fn settings(&self, mode: &str) -> String {
        format!(
            "kind = \"email\"\nhost = \"localhost\"\nport = {}\ntls = \"{mode}\"\nca_file = \"{}\"\n\
             from = \"Boiler room <alerts@box.example>\"\noffering = {{ first_wait_ms = 20, longest_wait_ms = 100 }}\n",
            self.port, self.certificate
        )
    }
}

const READ: &str = r#"
import base64, email, email.policy, glob, json
for path in sorted(glob.glob("*.eml")):
    message = email.message_from_binary_file(open(path, "rb"), policy=email.policy.default)
    parts = [part for part in message.walk() if not part.is_multipart()]
    print(json.dumps({
        "headers": {name: str(value) for name, value in message.items()},
        "defects": [str(defect) for defect in message.defects],
        "parts": [[p.get_content_type(), p.get_filename(), base64.b64encode(p.get_payload(decode=True)).decode()] for p in parts],
        "text": message.get_body(("plain",)).get_content(),
    }))
"#;

const WEBHOOK: &str =
    "[ingress.web]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\npaths = [{ path = \"/{device}\" }]\n";
const LOGIN: &str = "user = \"alerts\"\npassword = \"se cret\"\n";

async fn post(host: &Host, device: &str, body: impl Into<Vec<u8>>) -> Result<()> {
    let url = format!("{}/{device}", host.ingress("web").await?);
    let request = host.http.post(url).header("content-type", "application/json").body(body.into());
    ensure!(request.send().await?.status() == 202, "not taken");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_gets_every_message_over_tls_with_a_login() -> Result<()> {
    for mode in ["starttls", "implicit"] {
        let server = MailServer::start(mode).await?;
        let folder = tempfile::tempdir()?;
        let configuration = format!(
            "{WEBHOOK}[sink.mail]\n{}{LOGIN}to = [\"Operator <in@box.example>\", \"{{{{ device }}}}@box.example\"]\n\
             subject = \"{{{{ device }}}}: {{{{ payload.celsius }}}} °C\"\nbody = \"über {{{{ payload.celsius }}}}\\n.\\n..\\n\"\n\
             html = \"<b>{{{{ payload.note }}}}</b>\"\nattachment = \"März {{{{ device }}}}.json\"\n\
             [route.all]\nsinks = [\"mail\"]\n",
            server.settings(mode)
        );
        let host = host(folder.path(), &configuration).await?;
        let bodies: Vec<_> = (0..20).map(|n| format!(r#"{{"celsius":{n}.5,"note":"<i>ü{n}"}}"#)).collect();
        for body in &bodies {
            post(&host, "k1", body.as_str()).await?;
        }
        all_is_done(&host, 60).await;
        let messages = server.messages().await?;
        ensure!(messages.len() == bodies.len(), "{mode}: {} messages; {}", messages.len(), host.stderr());
        let connections: std::collections::BTreeSet<_> =
            messages.iter().map(|message| message["headers"]["X-Connection"].to_string()).collect();
        ensure!(connections.len() < messages.len(), "a connection a message");
        for (n, (message, body)) in messages.iter().zip(&bodies).enumerate() {
            ensure!(message["defects"] == serde_json::json!([]), "{message}");
            let headers = &message["headers"];
            ensure!(headers["Subject"] == format!("k1: {n}.5 °C"), "{headers}");
            ensure!(headers["From"] == "Boiler room <alerts@box.example>", "{headers}");
            ensure!(headers["X-To"] == "in@box.example,k1@box.example", "{headers}");
            ensure!(headers["X-From"] == "alerts@box.example", "{headers}");
            ensure!(
                message["text"].as_str().is_some_and(|t| t.trim_end() == format!("über {n}.5\n.\n..")),
                "{message}"
            );
            let parts = message["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
            ensure!(parts.len() == 3 && parts[1][0] == "text/html", "{message}");
            let encode =
                |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
            ensure!(parts[1][2] == encode(&format!("<b>&lt;i&gt;ü{n}</b>")), "{message}");
            ensure!(parts[2][0] == "application/json" && parts[2][1] == "März k1.json", "{message}");
            ensure!(parts[2][2] == encode(body), "the attachment is another one: {message}");
        }
        let ids: std::collections::BTreeSet<_> =
            messages.iter().map(|message| message["headers"]["Message-ID"].to_string()).collect();
        ensure!(ids.len() == messages.len(), "an id was there twice");
        check_log(&host)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_recipient_is_a_dead_letter_and_one_to_wait_for_is_not() -> Result<()> {
    let server = MailServer::start("none").await?;
    let folder = tempfile::tempdir()?;
    let configuration = format!(
        "{WEBHOOK}[sink.mail]\n{}to = [\"{{{{ device }}}}@box.example\"]\n[route.all]\nkey = \"none\"\nsinks = [\"mail\"]\n",
        server.settings("none")
    );
    let host = host(folder.path(), &configuration).await?;
    for device in ["first", "never", "later", "last"] {
        post(&host, device, "{}").await?;
    }
    all_is_done(&host, 60).await;
    let to: Vec<_> = server
        .messages()
        .await?
        .iter()
        .map(|message| message["headers"]["X-To"].as_str().unwrap_or_default().to_owned())
        .collect();
    ensure!(to == ["first@box.example", "later@box.example", "last@box.example"], "{to:?}");
    let dead = host.all("/v1/dead-letters").await?;
    ensure!(dead.len() == 1 && dead[0].to_string().contains("nobody of that name"), "{dead:?}");
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_or_certificate_delays_and_says_why() -> Result<()> {
    let server = MailServer::start("starttls").await?;
    let elsewhere = tempfile::tempdir()?;
    let stranger = certificate(elsewhere.path())?;
    let right = server.settings("starttls");
    let wrong = right.replace(&server.certificate, &stranger.0.display().to_string());
    for (settings, login, reason) in [
        (&right, "user = \"alerts\"\npassword = \"guess\"\n", "logging in"),
        (&wrong, LOGIN, "invalid peer certificate"),
    ] {
        let folder = tempfile::tempdir()?;
        let configuration = format!(
            "{WEBHOOK}[sink.mail]\n{settings}{login}to = [\"in@box.example\"]\n[route.all]\nsinks = [\"mail\"]\n"
        );
        let host = host(folder.path(), &configuration).await?;
        post(&host, "k1", "{}").await?;
        eventually("the sink's error is shown", 30, || async {
            host.get("/v1/sinks/mail").await.is_ok_and(|sink| sink["status"].to_string().contains(reason))
        })
        .await;
        let status = host.get("/v1/status").await?;
        ensure!(status["store"]["outbox"] == 1, "it does not wait: {status}");
        ensure!(!host.get("/v1/sinks/mail").await?.to_string().contains("guess"), "the password is shown");
    }
    ensure!(server.messages().await?.is_empty(), "something was sent all the same");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_ingress_takes_what_our_own_sink_sends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (certificate, key) = certificate(folder.path())?;
    let receiving = tempfile::tempdir()?;
    let configuration = format!(
        "[ingress.mail]\ndriver = \"email\"\nlisten = \"127.0.0.1:0\"\ntls_mode = \"implicit\"\ndevice = \"{{recipient_user}}\"\n\
         users = {{ alerts = \"se cret\" }}\ntls = {{ certificate_file = \"{}\", key_file = \"{}\" }}\n\
         {OUT}[route.all]\nsinks = [\"out\"]\n",
        certificate.display(),
        key.display()
    );
    let receiver = host(receiving.path(), &configuration).await?;
    let port = crate::port(&receiver, "mail").await?;
    let configuration = format!(
        "{WEBHOOK}[sink.mail]\nkind = \"email\"\nhost = \"localhost\"\nport = {port}\ntls = \"implicit\"\nca_file = \"{}\"\n\
         {LOGIN}from = \"alerts@box.example\"\nto = [\"{{{{ device }}}}@box.example\"]\nattachment = \"payload.json\"\n\
         [route.all]\nsinks = [\"mail\"]\n",
        certificate.display()
    );
    let sender = host(folder.path(), &configuration).await?;
    for device in ["a", "b", "c"] {
        post(&sender, device, format!("{{\"device\":\"{device}\"}}")).await?;
    }
    all_is_done(&sender, 30).await;
    let lines = written(&receiver).await?;
    ensure!(lines.len() == 3, "{lines:?}");
    for line in &lines {
        let device = line["device"].as_str().unwrap_or_default();
        ensure!(line["payload"]["subject"] == device, "{line}");
        ensure!(line["payload"]["attachments"][0]["name"] == "payload.json", "{line}");
    }
    check_log(&sender)?;
    check_log(&receiver)
}
