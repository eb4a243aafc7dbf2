//! SMTP: the `email` driver.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::protocol::{Client, Protocol, Told};

struct Smtp;

/// Past the greeting and EHLO.
struct Sender(BufReader<TcpStream>);

const ENVELOPE: &str = "EHLO lab\r\nMAIL FROM:<a@lab.example>\r\nRCPT TO:<b@box.example>\r\nDATA\r\n";

const MIME: &str = "From: \"Doe, J\" <a@lab.example>\r\nTo: b@box.example\r\nSubject: =?utf-8?q?M=C3=A4rz?=\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n--y\r\n\r\n21.5\r\n--y\r\nContent-Type: text/html\r\n\r\n<b>21.5</b>\r\n--y--\r\n--x\r\nContent-Type: image/png; name*=utf-8''%C3%A4.png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--x--\r\n";

impl Protocol for Smtp {
    const DRIVER: &'static str = "email";
    type Client = Sender;

    async fn start() -> Result<Self> {
        Ok(Self)
    }

    fn settings(&self) -> String {
        "listen = \"127.0.0.1:0\"\nmessage_max = 100000\nconnections_max = 200\ntopic = \"email/{recipient_user}\"\n\
         device = \"{sender}\"\nusers = { a = \"b\" }\nauth_required = false\nauth_without_tls = true\n"
            .to_owned()
    }

    async fn connect(&self, address: &str) -> Result<Sender> {
        let mut sender = Sender(BufReader::new(TcpStream::connect(address).await?));
        sender.reply().await?;
        sender.says("EHLO lab\r\n").await?;
        Ok(sender)
    }

    fn conversations(&self) -> Vec<Vec<u8>> {
        [
            format!("{ENVELOPE}{MIME}.\r\nQUIT\r\n"),
            format!("{ENVELOPE}21.5\r\n..\r\n.\r\nRSET\r\nNOOP\r\nVRFY b\r\nMAIL FROM:<> SIZE=10 BODY=8BITMIME SMTPUTF8\r\nQUIT\r\n"),
            "EHLO lab\r\nAUTH PLAIN AGEAYg==\r\nMAIL FROM:<\"a, b\"@c>\r\nRCPT TO:<b@box.example>\r\nDATA\r\nx\r\n.\r\n".to_owned(),
            "HELO lab\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\nHELP\r\nQUIT\r\n".to_owned(),
        ]
        .map(String::into_bytes)
        .into()
    }

    fn wrong(&self) -> Vec<Vec<u8>> {
        vec![
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            b"EHLO lab\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\nx\n.\n".to_vec(),
            [b"EHLO ", &[b'x'; 200_000][..], b"\r\nQUIT\r\n"].concat(),
            [ENVELOPE.as_bytes(), &[b'x'; 200_000][..], b"\r\n.\r\nQUIT\r\n"].concat(),
            format!("{ENVELOPE}x\n.\nMAIL FROM:<evil@x>\r\n").into_bytes(),
            format!("{ENVELOPE}x\r\n.\rRSET\r\n").into_bytes(),
            [ENVELOPE.as_bytes(), b"Subject: \xff\xfe\xc3\x28\r\n\r\n\xff\0\xc3\r\n.\r\nQUIT\r\n"].concat(),
            b"EHLO lab\r\nMAIL FROM:<\xff\xfe@\xc3\x28>\r\nQUIT\r\n".to_vec(),
            b"EHLO lab\r\nAUTH PLAIN \xff\r\nAUTH PLAIN ====\r\nAUTH LOGIN\r\n*\r\nQUIT\r\n".to_vec(),
            format!(
                "EHLO lab\r\nMAIL FROM:<a@b>\r\n{}DATA\r\nx\r\n.\r\nQUIT\r\n",
                "RCPT TO:<c@d>\r\n".repeat(500)
            )
            .into_bytes(),
            b"STARTTLS\r\nSTARTTLS\r\nEHLO x\r\nSTARTTLS\r\n".to_vec(),
            b"NOOP\r\n".repeat(5000),
        ]
    }

    fn pieces(&self) -> &'static [&'static [u8]] {
        &[
            b"\r\n",
            b"\n",
            b"\r",
            b"\0",
            b"\r\n.\r\n",
            b"\n.\n",
            b"..",
            b".",
            b"<",
            b">",
            b"@",
            b"\"",
            b"\\",
            b"=?utf-8?q?",
            b"?=",
            b"--x\r\n",
            b"--y--",
            b"boundary=",
            b"\xff",
            b"\xc3\x28",
            b"DATA\r\n",
            b"RSET\r\n",
            b"AUTH PLAIN ",
            b"*",
            b"SIZE=99999999999999999999",
            b"BDAT 99999999999 LAST\r\n",
        ]
    }

    /// Three digits, and a space or a dash.
    fn check_answer(&self, answer: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(answer)?;
        ensure!(text.is_empty() || text.ends_with("\r\n"), "half a reply: {text}");
        let is_reply = |line: &str| {
            let bytes = line.as_bytes();
            bytes.len() > 3
                && bytes[..3].iter().all(u8::is_ascii_digit)
                && matches!(bytes[3], b' ' | b'-')
                && line.len() < 512
        };
        let strange = text.split_terminator("\r\n").find(|line| !is_reply(line));
        ensure!(strange.is_none(), "{strange:?}");
        Ok(())
    }

    fn half(&self, marker: &str) -> Option<Vec<u8>> {
        Some(format!("{ENVELOPE}Subject: {marker}\r\n\r\n{marker}\r\n").into_bytes())
    }
}

impl Sender {
    /// The last line of the next reply.
    async fn reply(&mut self) -> Result<String> {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await?;
            ensure!(line.ends_with('\n'), "the connection was lost");
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.trim_end().to_owned());
            }
        }
    }

    async fn says(&mut self, bytes: &str) -> Result<String> {
        self.0.get_mut().write_all(bytes.as_bytes()).await?;
        self.reply().await
    }
}

impl Client for Sender {
    async fn send(&mut self, text: &str) -> Result<Told> {
        for (command, code) in
            [("MAIL FROM:<a@lab.example>", "250"), ("RCPT TO:<b@box.example>", "250"), ("DATA", "354")]
        {
            let said = self.says(&format!("{command}\r\n")).await?;
            if !said.starts_with(code) {
                return Ok(Told::Refused(said));
            }
        }
        let said = self.says(&format!("Subject: {text}\r\n\r\n{text}\r\n.\r\n")).await?;
        match said.get(..3).context("no code")? {
            "250" => Ok(Told::Acknowledged),
            _ => Ok(Told::Refused(said)),
        }
    }
}

crate::scenarios!(Smtp);
