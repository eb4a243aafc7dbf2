//! What a request consists of.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use sandbar_reading::{ConfigError, ContentType, Delivery, Secret};

use super::read_secret;
use crate::encode;

pub(super) struct Request {
    pub headers: HeaderMap,
    pub body: Bytes,
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(super) fn of_payload(delivery: &Delivery) -> Request {
    let message = &delivery.message;
    Request { headers: headers(delivery, &message.content_type), body: message.payload.clone() }
}

pub(super) fn of_json(delivery: &Delivery) -> Request {
    let mut body = Vec::new();
    encode::json(delivery, &mut body);
    Request { headers: headers(delivery, &ContentType::JSON), body: body.into() }
}

/// `part` is not empty. Its key names the same messages at every attempt; each has its own id within.
pub(super) fn of_batch(part: &[Delivery]) -> Request {
    let mut body = vec![b'['];
    for (index, delivery) in part.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        encode::json(delivery, &mut body);
    }
    body.push(b']');
    let key = match part {
        [one] => one.id.to_string(),
        [first, .., last] => format!("{}-{}-{}", first.id, last.id, part.len()),
        [] => String::new(),
    };
    let headers = [(CONTENT_TYPE, value(ContentType::JSON.as_str())), (IDEMPOTENCY_KEY, value(&key))];
    Request { headers: headers.into_iter().collect(), body: body.into() }
}

fn headers(delivery: &Delivery, content_type: &ContentType) -> HeaderMap {
    let message = &delivery.message;
    let mut headers = HeaderMap::from_iter([
        (CONTENT_TYPE, value(content_type.as_str())),
        (IDEMPOTENCY_KEY, value(&delivery.id.to_string())),
        (HeaderName::from_static("sandbar-topic"), value(message.topic.as_str())),
        (HeaderName::from_static("sandbar-time"), value(&delivery.time.to_string())),
        (HeaderName::from_static("sandbar-reading"), value(&delivery.reading.to_string())),
    ]);
    if let Some(device) = &message.device {
        headers.insert(HeaderName::from_static("sandbar-device"), value(device));
    }
    headers
}

/// What a header cannot carry as it is, and `%`, becomes `%XX`, byte by byte in UTF-8.
fn value(text: &str) -> HeaderValue {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..b' ' | 0x7f.. => write!(escaped, "%{byte:02X}").expect("written to memory"),
            plain => escaped.push(char::from(plain)),
        }
    }
    HeaderValue::try_from(escaped).expect("visible ASCII")
}

/// The configured headers, marked so that they are never printed.
pub(super) fn configured(headers: &BTreeMap<String, Secret>) -> Result<HeaderMap, ConfigError> {
    let mut map = HeaderMap::new();
    for (name, secret) in headers {
        let setting = format!("headers.{name}");
        let problem = |text: &str| ConfigError::at(setting.as_str(), text);
        let header = HeaderName::try_from(name.as_str()).map_err(|_| problem("is not a header name"))?;
        if [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, IDEMPOTENCY_KEY].contains(&header) {
            return Err(problem("is set by the host itself"));
        }
        let text = read_secret(secret, &setting)?;
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| problem("has a character that no header may have, such as a line break"))?;
        value.set_sensitive(true);
        map.insert(header, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{deliveries, delivery};

    #[test]
    fn any_topic_fits_into_a_header() {
        assert_eq!(value("küche/50%\n/a b"), "k%C3%BCche/50%25%0A/a b");
        let mut strange = delivery(1);
        strange.message.topic = "a\r\nEvil: yes/🦀".parse().unwrap();
        assert_eq!(of_payload(&strange).headers["sandbar-topic"], "a%0D%0AEvil: yes/%F0%9F%A6%80");
    }

    #[test]
    fn a_batch_has_the_same_key_only_for_the_same_messages() {
        let batch = deliveries(0..4);
        let key = |part: &[Delivery]| of_batch(part).headers[IDEMPOTENCY_KEY].clone();
        assert_eq!(key(&batch), key(&batch));
        assert_ne!(key(&batch), key(&batch[..3]));
        assert_eq!(key(&batch[..1]), batch[0].id.to_string());
    }

    #[test]
    fn a_header_that_cannot_work_is_named() {
        for (name, text, setting) in
            [("a b", "x", "headers.a b"), ("X-A", "a\nb", "headers.X-A"), ("host", "x", "headers.host")]
        {
            let headers = BTreeMap::from([(name.to_owned(), Secret::inline(text))]);
            assert_eq!(configured(&headers).unwrap_err().setting, setting);
        }
    }
}
