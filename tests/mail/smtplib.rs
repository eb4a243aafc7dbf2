//! Python's smtplib and email packages.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{OUT, certificate, check_log, host, port, python_says, written};

/// Sends what others get wrong, over one connection; the answers are printed.
const TALK: &str = r#"
import smtplib, ssl, sys
from email.message import EmailMessage
port, ca = int(sys.argv[1]), sys.argv[2]
client = smtplib.SMTP("localhost", port, timeout=20)
client.ehlo("lab")
assert client.has_extn("starttls") and not client.has_extn("auth"), client.esmtp_features
client.starttls(context=ssl.create_default_context(cafile=ca))
client.login("scanner", "p:ss %")
for extension in ["size", "8bitmime", "smtputf8", "pipelining", "enhancedstatuscodes", "auth"]:
    assert client.has_extn(extension), extension
assert not client.has_extn("starttls")

message = EmailMessage()
message["From"] = '"Doe, Jörg" <joerg@lab.example>'
message["To"] = '"Lab, second floor" <in@box.example>, plain@box.example'
message["Cc"] = "Küche <cc@box.example>"
message["Subject"] = "Füllstand — Tank 7 " + "lang " * 30
message["Message-ID"] = "<abc@lab.example>"
message["Date"] = "Mon, 1 Jan 2024 13:00:00 +0100"
message.set_content("Grüße\n.\n..dots\n")
message.add_alternative("<p>Grüße</p>", subtype="html")
message.add_attachment(b"\x00\xff" * 500, maintype="application", subtype="x-scan", filename="März 2024, Tank.bin")
message.add_attachment("a;b\n", subtype="csv", filename="plain.csv")
inner = EmailMessage()
inner["Subject"] = "within"
inner.set_content("inner")
message.add_attachment(inner)
client.send_message(message, to_addrs=["in@box.example", "plain@box.example", "cc@box.example", "hidden@box.example"])

# What was said before RSET is forgotten.
assert client.mail("a@lab.example")[0] == 250
assert client.rcpt("stale@box.example")[0] == 250
assert client.rset()[0] == 250
assert client.rcpt("stale@box.example")[0] == 503
assert client.verify("in")[0] == 252
assert client.noop()[0] == 250

try:
    client.sendmail("a@lab.example", ["in@box.example"], b"x" * 100_001)
    assert False, "too large, and taken"
except smtplib.SMTPSenderRefused as refused:
    assert refused.smtp_code == 552, refused
# The size of this one is not told before.
assert client.mail("a@lab.example")[0] == 250 and client.rcpt("in@box.example")[0] == 250
code, text = client.data(b"x\r\n" * 40_000)
assert code == 552, (code, text)

try:
    client.sendmail("a@lab.example", ["in@elsewhere.example"], b"x")
    assert False, "not for us, and taken"
except smtplib.SMTPRecipientsRefused as refused:
    assert refused.recipients["in@elsewhere.example"][0] == 550, refused

utf8 = EmailMessage()
utf8["From"] = "jörg@lab.example"
utf8["To"] = "küche@box.example"
utf8["Subject"] = "utf8"
utf8.set_content("x")
client.send_message(utf8)
client.sendmail("raw@lab.example", ["in@box.example"], "Subject: raw\r\n\r\n8 bit: \u00e4".encode(), ["BODY=8BITMIME"])
client.quit()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_python_composes_is_read_as_it_was_meant() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (certificate, key) = certificate(folder.path())?;
    let configuration = format!(
        "[ingress.mail]\ndriver = \"email\"\nlisten = \"127.0.0.1:0\"\nmessage_max = 100000\n\
         recipients = [\"box.example\"]\nusers = {{ scanner = \"p:ss %\" }}\n\
         tls = {{ certificate_file = \"{}\", key_file = \"{}\" }}\n{OUT}[route.all]\nsinks = [\"out\"]\n",
        certificate.display(),
        key.display()
    );
    let host = host(folder.path(), &configuration).await?;
    let port = port(&host, "mail").await?;
    python_says(folder.path(), TALK, &[&port, &certificate.display().to_string()]).await?;
    let lines = written(&host).await?;
    ensure!(lines.len() == 3, "{} readings", lines.len());
    let payload = &lines[0]["payload"];
    for (key, value) in [
        ("from", json!("joerg@lab.example")),
        ("to", json!(["in@box.example", "plain@box.example"])),
        ("cc", json!(["cc@box.example"])),
        ("bcc", json!(["hidden@box.example"])),
        ("subject", json!(format!("Füllstand — Tank 7 {}", "lang ".repeat(30)).trim_end())),
        ("body", json!("Grüße\r\n.\r\n..dots\r\n")),
        ("html_body", json!("<p>Grüße</p>\r\n")),
        ("timestamp", json!("2024-01-01T12:00:00+00:00")),
        ("message_id", json!("<abc@lab.example>")),
    ] {
        ensure!(payload[key] == value, "{key} is {}, not {value}", payload[key]);
    }
    let attachments: Vec<_> = payload["attachments"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| format!("{} {} {}", one["name"], one["mime_type"], one["size"]))
        .collect();
    ensure!(attachments.len() == 3, "{attachments:?}");
    ensure!(attachments[0] == r#""März 2024, Tank.bin" "application/x-scan" 1000"#, "{attachments:?}");
    ensure!(attachments[1].starts_with(r#""plain.csv" "text/csv""#), "{attachments:?}");
    ensure!(attachments[2].contains("message/rfc822"), "{attachments:?}");
    ensure!(lines[1]["payload"]["from"] == "jörg@lab.example", "{}", lines[1]);
    ensure!(lines[1]["payload"]["to"] == json!(["küche@box.example"]), "{}", lines[1]);
    ensure!(lines[2]["payload"]["body"] == "8 bit: ä\r\n", "{}", lines[2]);
    check_log(&host)
}
