//! swaks, msmtp and openssl.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbar_tests::host::Host;
use sandbar_tests::tool::{self, Said};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::{OUT, certificate, check_log, host, port, written};

/// One ingress with STARTTLS and one with TLS from the beginning, for the user `scanner`.
async fn servers(folder: &Path) -> Result<(Host, String)> {
    let (certificate, key) = certificate(folder)?;
    let tls = format!(
        "tls = {{ certificate_file = \"{}\", key_file = \"{}\" }}",
        certificate.display(),
        key.display()
    );
    let users = "users = { scanner = \"se cret\" }";
    let configuration = format!(
        "[ingress.mail]\ndriver = \"email\"\nlisten = \"127.0.0.1:0\"\ntls_required = true\n{tls}\n{users}\n\
         allowed_senders = [\"lab.example\"]\ndevice = \"{{sender_user}}\"\n\
         [ingress.mails]\ndriver = \"email\"\nlisten = \"127.0.0.1:0\"\ntls_mode = \"implicit\"\n{tls}\n{users}\n\
         {OUT}[route.all]\nsinks = [\"out\"]\n"
    );
    Ok((host(folder, &configuration).await?, certificate.display().to_string()))
}

async fn swaks(port: &str, arguments: &[&str]) -> Result<Said> {
    let mut command = Command::new(tool::path("swaks"));
    let server = format!("localhost:{port}");
    command.args([
        "--server",
        &server,
        "--from",
        "scanner@lab.example",
        "--to",
        "in@box.example",
        "--helo",
        "lab",
    ]);
    command.args(arguments);
    tool::run(command, 60).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaks_delivers_over_tls_with_a_login_and_an_attachment() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, ca) = servers(folder.path()).await?;
    let attachment = folder.path().join("scan 1.bin");
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    std::fs::write(&attachment, &bytes)?;
    let attach = format!("@{}", attachment.display());
    let verify = [
        "--tls-verify",
        "--tls-ca-path",
        ca.as_str(),
        "--auth-user",
        "scanner",
        "--auth-password",
        "se cret",
    ];
    let content = ["--header", "Subject: scan", "--body", "..a dot\n.\n", "--attach", attach.as_str()];
    let ways: [(&str, &[&str]); 3] = [
        ("mail", &["--tls", "--auth", "PLAIN"]),
        ("mail", &["--tls", "--auth", "LOGIN", "--pipeline"]),
        ("mails", &["--tls-on-connect", "--auth", "PLAIN"]),
    ];
    for (ingress, way) in ways {
        let said = swaks(&port(&host, ingress).await?, &[way, &verify, &content].concat()).await?;
        ensure!(said.code == Some(0), "{way:?}: {}", said.stdout);
        ensure!(said.stdout.contains("<~  250 2.0.0 taken as 0"), "{}", said.stdout);
    }
    let lines = written(&host).await?;
    ensure!(lines.len() == ways.len(), "{lines:?}");
    for line in &lines {
        let payload = &line["payload"];
        ensure!(payload["ipaddr"] == "127.0.0.1" && payload["from"] == "scanner@lab.example", "{line}");
        ensure!(payload["to"] == json!(["in@box.example"]) && payload["subject"] == "scan", "{line}");
        ensure!(payload["body"].as_str().is_some_and(|body| body.starts_with("..a dot")), "{line}");
        let attached = &payload["attachments"][0];
        ensure!(attached["name"] == "scan 1.bin" && attached["size"] == 5000, "{attached}");
        ensure!(attached["data"] == STANDARD.encode(&bytes), "the attachment is another one");
        ensure!(
            line["attributes"]["email.tls"] == "true" && line["attributes"]["email.user"] == "scanner",
            "{line}"
        );
    }
    ensure!(lines[0]["device"] == "scanner", "{}", lines[0]);
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaks_is_refused_without_tls_without_a_password_and_as_somebody_else() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, ca) = servers(folder.path()).await?;
    let port = port(&host, "mail").await?;
    let login =
        ["--tls", "--tls-ca-path", &ca, "--auth", "PLAIN", "--auth-user", "scanner", "--auth-password"];
    let other = ["--from", "scanner@elsewhere.example"];
    for (arguments, answer) in [
        (vec![], "530 5.7.0 say STARTTLS first"),
        (vec!["--tls", "--tls-ca-path", ca.as_str()], "530 5.7.0 log in first"),
        ([&login[..], &["guess"]].concat(), "535 5.7.8"),
        ([&login[..], &["se cret"], &other].concat(), "550 5.7.1"),
    ] {
        let said = swaks(&port, &arguments).await?;
        ensure!(said.code != Some(0) && said.stdout.contains(answer), "{arguments:?}: {}", said.stdout);
    }
    ensure!(written(&host).await?.is_empty(), "something was taken all the same");
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn msmtp_verifies_the_certificate_and_delivers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, ca) = servers(folder.path()).await?;
    for (ingress, starttls) in [("mail", "--tls-starttls=on"), ("mails", "--tls-starttls=off")] {
        let port = port(&host, ingress).await?;
        let mut command = Command::new(tool::path("msmtp"));
        command
            .args(["--host=localhost", &format!("--port={port}"), "--tls=on", starttls])
            .args([&format!("--tls-trust-file={ca}"), "--auth=plain", "--user=scanner"])
            .args([
                "--passwordeval=echo 'se cret'",
                "--from=scanner@lab.example",
                "--timeout=20",
                "in@box.example",
            ])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let text = "From: \"Scanner, second floor\" <scanner@lab.example>\nTo: in@box.example\nSubject: =?utf-8?q?M=C3=A4rz?=\n\n.dots\n..\n";
        type_in(&mut command, text).await?;
    }
    let lines = written(&host).await?;
    ensure!(lines.len() == 2, "{lines:?}");
    for line in lines {
        ensure!(line["payload"]["subject"] == "März", "{line}");
        ensure!(line["payload"]["body"] == ".dots\r\n..\r\n", "{line}");
        ensure!(line["attributes"]["email.from_name"] == "Scanner, second floor", "{line}");
    }
    check_log(&host)
}

/// Writes `text` to a program's input; it must succeed. Returns what it wrote to standard error.
async fn type_in(command: &mut Command, text: &str) -> Result<String> {
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().context("its input is a pipe")?;
    input.write_all(text.as_bytes()).await?;
    drop(input);
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await;
    let output = ended.context("still runs after 30 s")??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{:?}: {said}", output.status);
    Ok(said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_finds_nothing_wrong_with_the_handshake() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, ca) = servers(folder.path()).await?;
    // "\0scanner\0se cret"
    let talk = "EHLO lab\nAUTH PLAIN AHNjYW5uZXIAc2UgY3JldA==\nMAIL FROM:<a@lab.example>\nRCPT TO:<in@box.example>\nDATA\n\nby hand\n.\nQUIT\n";
    for (ingress, starttls) in [("mail", &["-starttls", "smtp"][..]), ("mails", &[])] {
        for version in ["-tls1_2", "-tls1_3"] {
            let address = format!("127.0.0.1:{}", port(&host, ingress).await?);
            let mut command = Command::new(tool::path("openssl"));
            command
                .args(["s_client", "-connect", &address, "-CAfile", &ca, "-verify_return_error"])
                .args(["-verify_hostname", "localhost", "-quiet", "-crlf", version])
                .args(starttls)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true);
            type_in(&mut command, talk).await?;
        }
    }
    let lines = written(&host).await?;
    ensure!(
        lines.len() == 4 && lines.iter().all(|line| line["payload"]["body"] == "by hand\r\n"),
        "{lines:?}"
    );
    check_log(&host)
}
