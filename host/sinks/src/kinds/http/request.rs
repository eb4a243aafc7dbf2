//! What a request consists of.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use sandbar_reading::{ConfigError, ContentType, Delivery, Secret, TRACEPARENT, TRACESTATE};

use super::read_secret;
use crate::template::Template;
use crate::{Cause, encode};

pub(super) struct Request {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A configured header, which may depend on the delivery.
#[derive(Debug)]
pub(super) struct Header {
    name: HeaderName,
    value: HeaderText,
}

#[derive(Debug)]
enum HeaderText {
    Is(HeaderValue),
    Made(Box<Template>),
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

/// With a body that a template or preset made.
pub(super) fn of_made(delivery: &Delivery, content_type: &ContentType, body: impl Into<Bytes>) -> Request {
    Request { headers: headers(delivery, content_type), body: body.into() }
}

pub(super) fn of_nothing(delivery: &Delivery) -> Request {
    let mut request = of_made(delivery, &delivery.message.content_type, Bytes::new());
    request.headers.remove(CONTENT_TYPE);
    request
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
    of_lines(part, &ContentType::JSON, body)
}

/// With a body made of all of `part`, which is not empty.
pub(super) fn of_lines(part: &[Delivery], content_type: &ContentType, body: impl Into<Bytes>) -> Request {
    let key = match part {
        [one] => one.id.to_string(),
        [first, .., last] => format!("{}-{}-{}", first.id, last.id, part.len()),
        [] => String::new(),
    };
    let headers = [(CONTENT_TYPE, value(content_type.as_str())), (IDEMPOTENCY_KEY, value(&key))];
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
    for key in [TRACEPARENT, TRACESTATE] {
        let value = message.attributes.get(key).and_then(|value| HeaderValue::from_str(value).ok());
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(key), value);
        }
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
pub(super) fn configured(headers: &BTreeMap<String, Secret>) -> Result<Vec<Header>, ConfigError> {
    let mut all = Vec::with_capacity(headers.len());
    for (name, secret) in headers {
        let setting = format!("headers.{name}");
        let problem = |text: &str| ConfigError::at(setting.as_str(), text);
        let name = HeaderName::try_from(name.as_str()).map_err(|_| problem("is not a header name"))?;
        if [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, IDEMPOTENCY_KEY].contains(&name) {
            return Err(problem("is set by the host itself"));
        }
        let text = read_secret(secret, &setting)?;
        let value = match Template::is_one(&text) {
            true => HeaderText::Made(Box::new(Template::new(&setting, &text)?)),
            false => HeaderText::Is(sensitive(&text).ok_or_else(|| problem(NO_HEADER))?),
        };
        all.push(Header { name, value });
    }
    Ok(all)
}

const NO_HEADER: &str = "has a character that no header may have, such as a line break";

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Header {
    pub(super) fn is_made(&self) -> bool {
        matches!(self.value, HeaderText::Made(_))
    }

    /// Sets it in `headers`.
    pub(super) fn add(&self, delivery: &Delivery, headers: &mut HeaderMap) -> Result<(), Cause> {
        let value = match &self.value {
            HeaderText::Is(value) => value.clone(),
            HeaderText::Made(template) => {
                let text = template.render(delivery)?;
                sensitive(&text).ok_or_else(|| Cause::new(format!("headers.{}: {NO_HEADER}", self.name)))?
            }
        };
        headers.insert(&self.name, value);
        Ok(())
    }
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
    fn a_trace_goes_on_and_what_is_no_header_does_not() {
        let mut traced = delivery(1);
        traced.message.attributes.add("traceparent", "00-1-2-01");
        traced.message.attributes.add("tracestate", "a=b\n");
        let headers = of_payload(&traced).headers;
        assert_eq!((&headers["traceparent"], headers.get("tracestate")), (&value("00-1-2-01"), None));
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
