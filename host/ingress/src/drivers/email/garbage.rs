//! For those who throw garbage at the server: `tests/fuzz`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sandbar_reading::Timestamp;

use super::config::Config;
use super::decode::Envelope;
use super::dialogue::{Dialogue, Mail, Sender, Step};
use super::rules::Rules;
use super::wire::{Data, Line, Lines, Unstuffer};

/// What is decoded.
pub(crate) const MESSAGES: &[&[u8]] = &[
    b"From: \"Doe, J\" <j@x>\r\nTo: a@b, =?utf-8?q?c=C3=A9?= <c@d>\r\nSubject: t\r\n\r\n21.5\r\n",
    b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n\
      --b\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n--b--\r\n--a\r\nContent-Type: message/rfc822\r\n\r\n\
      Subject: in\r\n\r\ny\r\n--a\r\nContent-Disposition: attachment; filename*0*=utf-8''%C3%A4; filename*1=b\r\n\
      Content-Transfer-Encoding: base64\r\n\r\niVBORw==\r\n--a--\r\n",
];

/// What is answered.
pub(crate) const COMMANDS: &[&[u8]] = &[
    b"EHLO a\r\nMAIL FROM:<a@b> SIZE=10 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<\"q, d\"@c>\r\nDATA\r\n..x\r\n.\r\nRSET\r\nQUIT\r\n",
    b"HELO a\r\nAUTH PLAIN AGEAYg==\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\nVRFY <a@b>\r\nSTARTTLS\r\nNOOP x\r\n",
];

fn rules(form: &str) -> Rules {
    let settings = format!(
        r#"{{"payload":"{form}","topic":"m/{{device}}","device":"{{header}}","device_header":"Subject","headers":["Subject","To"],
            "users":{{"a":"b"}},"auth_required":false,"auth_without_tls":true}}"#
    );
    let config: Config = serde_json::from_str(&settings).expect("settings that can be read");
    Rules::new(&config).expect("settings that work")
}

/// Whether it is taken, in all three forms.
pub(crate) fn decodes(bytes: &[u8]) -> bool {
    let envelope = Envelope {
        peer: [127, 0, 0, 1].into(),
        sender: Sender::default(),
        mail: Mail::of("a@x", &["b@y"]),
        time: Timestamp::from_millis(1_700_000_000_000),
    };
    let taken = |form| rules(form).form.decode(&envelope, &Bytes::copy_from_slice(bytes)).is_ok();
    ["json", "raw", "body"].into_iter().filter(|form| taken(form)).count() == 3
}

/// Whether a message is taken at the end of a conversation.
pub(crate) fn answers(bytes: &[u8]) -> bool {
    let (mut lines, mut buffer) = (Lines::default(), BytesMut::from(bytes));
    let mut dialogue = Dialogue::new(Arc::new(rules("raw")), 1000, false);
    while let Some(line) = lines.next(&mut buffer, dialogue.is_logging_in()) {
        let Line::Whole(line) = line else { continue };
        match dialogue.command(&line) {
            Step::TakeMessage => {
                let mut message = Vec::new();
                let is_whole = Unstuffer::default().push(&buffer, &mut message) != Data::Bare;
                return is_whole && dialogue.take_mail().is_some();
            }
            Step::End(_) => return false,
            _ => {}
        }
    }
    false
}
