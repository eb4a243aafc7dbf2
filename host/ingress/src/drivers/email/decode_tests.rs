use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(in super::super) fn envelope() -> Envelope {
    let mail = Mail::of("scanner@lab.example", &["in@box.example", "hidden@box.example"]);
    Envelope {
        peer: "192.0.2.7".parse().unwrap(),
        sender: Sender { hello: "scanner".into(), user: None, is_secured: false },
        mail,
        time: Timestamp::from_millis(1_700_000_000_000),
    }
}

fn form(settings: Value) -> Form {
    Form::new(&sandbar_reading::settings(settings).unwrap()).unwrap()
}

fn decoded(settings: Value, message: &str) -> Inbound {
    form(settings).decode(&envelope(), &message.replace('\n', "\r\n").into()).unwrap()
}

fn payload(message: &str) -> Value {
    serde_json::from_slice(&decoded(json!({}), message).payload).unwrap()
}

fn check(message: &str, expected: &Expect) {
    expected.assert_eq(&serde_json::to_string_pretty(&payload(message)).unwrap());
}

#[test]
fn a_plain_message_has_the_documented_keys_and_no_empty_ones() {
    check(
        "From: sender@example.com\nTo: in@box.example\nBcc: hidden@box.example\nSubject: Test Email\nDate: Mon, 1 Jan 2024 13:00:00 +0100\nMessage-ID: <abc123@example.com>\n\nThis is a test email.\n",
        &expect![[r#"
            {
              "bcc": [
                "hidden@box.example"
              ],
              "body": "This is a test email.\r\n",
              "from": "sender@example.com",
              "ipaddr": "192.0.2.7",
              "message_id": "<abc123@example.com>",
              "subject": "Test Email",
              "timestamp": "2024-01-01T12:00:00+00:00",
              "to": [
                "in@box.example"
              ]
            }"#]],
    );
}

#[test]
fn what_is_no_mime_is_a_text_from_the_envelope() {
    check(
        "21.5\n",
        &expect![[r#"
            {
              "body": "21.5\r\n",
              "from": "scanner@lab.example",
              "ipaddr": "192.0.2.7",
              "message_id": "",
              "subject": "",
              "timestamp": "2023-11-14T22:13:20+00:00",
              "to": [
                "in@box.example",
                "hidden@box.example"
              ]
            }"#]],
    );
}

#[test]
fn a_quoted_comma_does_not_split_an_address() {
    let payload = payload(
        "From: \"Doe, John\" <john@example.com>\nTo: \"Lab, second floor\" <in@box.example>, \"a, b\"@y.example,\n =?utf-8?q?J=C3=B6rg=2C_A?= <j@y.example>\nCc: team: one@y.example, \"Two, 2\" <two@y.example>;\n\nx\n",
    );
    assert_eq!(payload["from"], "john@example.com");
    assert_eq!(payload["to"][0], "in@box.example");
    assert_eq!(payload["to"][2], "j@y.example");
    assert_eq!(payload["to"].as_array().unwrap().len(), 3);
    assert_eq!(payload["cc"], json!(["one@y.example", "two@y.example"]));
    assert_eq!(payload["bcc"], json!(["hidden@box.example"]));
}

const NESTED: &str = "From: a@x\nSubject: =?iso-8859-1?Q?K=FCche?=\n =?utf-8?B?IOKAlCAyMcKwQw==?=\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=outer\n\n--outer\nContent-Type: multipart/related; boundary=middle\n\n--middle\nContent-Type: multipart/alternative; boundary=inner\n\n--inner\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n21=B0C\n--inner\nContent-Type: text/html; charset=utf-8\n\n<b>21</b>\n--inner--\n--middle\nContent-Type: image/png\nContent-ID: <pic>\nContent-Transfer-Encoding: base64\n\niVBORw==\n--middle--\n--outer\nContent-Type: text/csv\nContent-Disposition: attachment; filename*0*=utf-8''m%C3%A4rz; filename*1=\" 2024.csv\"\n\na,b\n--outer\nContent-Type: application/pdf; name=\"=?utf-8?Q?Pr=C3=BCfung=2Epdf?=\"\nContent-Transfer-Encoding: base64\n\nJVBERg==\n--outer\nContent-Type: message/rfc822\n\nSubject: within\n\ninner text\n--outer--\n";

#[test]
fn nested_parts_are_found_and_named() {
    let payload = payload(NESTED);
    assert_eq!(payload["subject"], "Küche — 21°C");
    assert_eq!(payload["body"], "21°C");
    assert_eq!(payload["html_body"], "<b>21</b>");
    let attachments: Vec<_> = payload["attachments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {} {} {}", one["name"], one["mime_type"], one["size"], one["data"]))
        .collect();
    expect![[r#"
        "attachment-1" "image/png" 4 "iVBORw=="
        "märz 2024.csv" "text/csv" 3 "YSxi"
        "Prüfung.pdf" "application/pdf" 4 "JVBERg=="
        "attachment-4" "message/rfc822" 29 "U3ViamVjdDogd2l0aGluDQoNCmlubmVyIHRleHQ=""#]]
    .assert_eq(&attachments.join("\n"));
}

#[test]
fn large_attachments_are_left_out_and_counted() {
    let inbound = decoded(json!({ "attachment_max": 3 }), NESTED);
    let payload: Value = serde_json::from_slice(&inbound.payload).unwrap();
    assert_eq!(payload["attachments"].as_array().unwrap().len(), 1);
    assert_eq!(inbound.attributes.get("email.attachments_skipped"), Some("3"));
}

/// Latin-1 that nobody declared: it was replaced by question marks.
#[test]
fn a_text_file_of_another_encoding_is_attached_as_it_is() {
    let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment\r\n";
    for (encoding, sent) in [("8bit", &b"21\xb0"[..]), ("base64", b"MjGw"), ("quoted-printable", b"21=B0")] {
        let head = format!("{head}Content-Transfer-Encoding: {encoding}\r\n\r\n");
        let message = [head.as_bytes(), sent, b"\r\n--b--\r\n"].concat();
        let inbound = form(json!({})).decode(&envelope(), &message.into()).unwrap();
        let payload: Value = serde_json::from_slice(&inbound.payload).unwrap();
        assert_eq!(payload["attachments"][0]["data"], "MjGw", "{encoding}");
    }
}

#[test]
fn an_attachment_cannot_name_a_path() {
    for (name, expected) in [
        ("../../etc/passwd", "passwd"),
        ("C:\\\\x\\\\y.txt", "y.txt"),
        ("..", "attachment-1"),
        ("a/", "attachment-1"),
    ] {
        let message = format!(
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: attachment; filename=\"{name}\"\nContent-Type: text/csv\n\nx\n--b--\n"
        );
        assert_eq!(payload(&message)["attachments"][0]["name"], expected, "{name}");
    }
}

#[test]
fn a_message_stays_as_it_came_or_is_its_body() {
    let raw = decoded(json!({ "payload": "raw" }), NESTED);
    assert_eq!(
        (raw.content_type.as_str(), raw.payload.len()),
        ("message/rfc822", NESTED.replace('\n', "\r\n").len())
    );
    let body = |message: &str| {
        let inbound = decoded(json!({ "payload": "body" }), message);
        format!("{} {:?}", inbound.content_type, inbound.payload)
    };
    assert_eq!(
        body("Content-Type: application/json\n\n{\"t\":1}\n"),
        "application/json b\"{\\\"t\\\":1}\\r\\n\""
    );
    assert_eq!(
        body("Content-Type: image/png\nContent-Transfer-Encoding: base64\n\n/9gA\n"),
        "image/png b\"\\xff\\xd8\\0\""
    );
    assert_eq!(body("Subject: t\n\n21.5\n"), "text/plain b\"21.5\"");
    for nothing in ["", "\n", "\n\n", "Subject: nothing\n", "Subject: nothing\n\n"] {
        assert_eq!(body(nothing), "text/plain b\"\"", "{nothing:?}");
    }
    assert!(body(NESTED).starts_with("text/plain b\"21\\xc2\\xb0C\""));
}

#[test]
fn devices_and_topics_are_named_after_addresses_or_a_header() {
    let name = |settings: Value, message: &str| match form(settings)
        .decode(&envelope(), &message.to_owned().into())
    {
        Ok(inbound) => format!("{} {:?}", inbound.topic, inbound.device),
        Err(error) => error.to_string(),
    };
    assert_eq!(name(json!({}), "\r\nx"), "email None");
    let by_recipient = json!({ "topic": "mail/{recipient_user}/{device}", "device": "{sender_user}" });
    assert_eq!(name(by_recipient, "\r\nx"), r#"mail/in/scanner Some("scanner")"#);
    let by_header = json!({ "topic": "mail/{device}", "device": "{header}", "device_header": "X-Device" });
    assert_eq!(name(by_header.clone(), "x-device: a/b+#\r\n\r\nx"), r##"mail/a_b__ Some("a/b+#")"##);
    assert_eq!(name(by_header, "\r\nx"), "the message has no header X-Device, which names the device");
}

#[test]
fn a_bounce_is_of_no_device() {
    let bounce = Envelope { mail: Mail::of("", &["in@box.example"]), ..envelope() };
    let form = form(json!({ "device": "{sender}" }));
    assert_eq!(form.decode(&bounce, &"\r\nx".into()).unwrap().device, None);
}

#[test]
fn attributes_say_who_sent_it_and_the_headers_asked_for() {
    let settings = json!({ "headers": ["Subject", "To", "X-None", "List-Id"] });
    let inbound = decoded(
        settings,
        "From: =?utf-8?q?J=C3=B6rg?= <j@x>\nTo: A <a@x>,\n b@x\nSubject: =?utf-8?q?caf=C3=A9?=\n\nx\n",
    );
    let attributes: Vec<_> =
        inbound.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    expect![[r#"
        peer=192.0.2.7
        email.helo=scanner
        email.sender=scanner@lab.example
        email.recipient=in@box.example
        email.recipient=hidden@box.example
        email.tls=false
        email.from_name=Jörg
        email.header.subject=café
        email.header.to=A <a@x>, b@x"#]]
    .assert_eq(&attributes.join("\n"));
}

/// A message with mistakes, made from one that has everything.
fn mistaken() -> impl Strategy<Value = Vec<u8>> {
    let mistake = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        prop::collection::vec(any::<u8>(), 0..8),
    );
    prop::collection::vec(mistake, 1..6).prop_map(|mistakes| {
        let mut bytes = NESTED.replace('\n', "\r\n").into_bytes();
        for (at, len, with) in mistakes {
            let start = at.index(bytes.len());
            let end = (start + len.index(40)).min(bytes.len());
            bytes.splice(start..end, with);
            bytes.push(b'\n');
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    /// Whatever comes is decoded or refused, in all three forms, and stays whole as `raw`.
    #[test]
    fn a_thousand_mutations_are_decoded_or_refused(bytes in mistaken()) {
        for settings in [
            json!({ "device": "{header}", "device_header": "Subject", "topic": "m/{device}" }),
            json!({ "payload": "raw", "headers": ["To", "Content-Type"] }),
            json!({ "payload": "body" }),
        ] {
            let is_raw = settings["payload"] == "raw";
            if let Ok(inbound) = form(settings).decode(&envelope(), &bytes.clone().into()) {
                prop_assert!(!is_raw || inbound.payload == bytes);
            }
        }
    }
}
