//! What a collector is answered. Pure.

use sandbar_reading::{Attributes, Message, ReadingId, Refused};
use serde_json::{Map, Value};
use tonic::metadata::MetadataValue;
use tonic::{Code, Response, Status};

use super::proto::KrakenResponse;

/// Beside an answer: which reading it is about.
const READING: &str = "sandbar-reading";

/// The reading is taken, and nobody has anything to say. No collector takes an answer without a name for a
/// reply to its peer.
pub(super) fn taken(id: ReadingId) -> Response<KrakenResponse> {
    about(id, KrakenResponse { metadata: "{}".to_owned(), ..KrakenResponse::default() })
}

/// The handler's reply. `kraken.collector` says for which collector, which is the one that called unless it says
/// so; `kraken.metadata` (JSON) and `kraken.metadata.<key>` are its metadata. A TCP collector writes back what
/// names it as `response_type`.
pub(super) fn of_handler(id: ReadingId, collector: &str, message: Message) -> Response<KrakenResponse> {
    let collector = message.attributes.get("kraken.collector").unwrap_or(collector).to_owned();
    let response = KrakenResponse {
        metadata: metadata(&message.attributes, &collector),
        collector_name: collector,
        content_type: message.content_type.to_string(),
        payload: message.payload,
    };
    about(id, response)
}

fn metadata(attributes: &Attributes, collector: &str) -> String {
    let whole = attributes.get("kraken.metadata").and_then(|text| serde_json::from_str(text).ok());
    let mut fields: Map<String, Value> = whole.unwrap_or_default();
    for (name, value) in attributes.iter() {
        if let Some(key) = name.strip_prefix("kraken.metadata.") {
            fields.entry(key).or_insert_with(|| value.into());
        }
    }
    fields.entry("response_type").or_insert_with(|| collector.into());
    Value::Object(fields).to_string()
}

fn about(id: ReadingId, response: KrakenResponse) -> Response<KrakenResponse> {
    let mut response = Response::new(response);
    if let Ok(id) = MetadataValue::try_from(id.to_string()) {
        response.metadata_mut().insert(READING, id);
    }
    response
}

/// <https://grpc.io/docs/guides/status-codes/>
pub(super) fn refused(refused: &Refused) -> Status {
    let code = match refused {
        Refused::Busy { .. } | Refused::Storage { .. } | Refused::Stopping => Code::Unavailable,
        Refused::DiskFull => Code::ResourceExhausted,
        // A client that tries again would be refused again.
        Refused::TooLarge { .. } => Code::InvalidArgument,
    };
    let text = match refused {
        // The cause is for the operator, who finds it in the log.
        Refused::Storage { .. } => "the storage fails".to_owned(),
        refused => refused.to_string(),
    };
    let mut status = Status::new(code, text);
    if let Refused::Busy { retry_after } = refused
        && let Ok(millis) = MetadataValue::try_from(retry_after.as_millis().to_string())
    {
        status.metadata_mut().insert("grpc-retry-pushback-ms", millis);
    }
    status
}

pub(super) fn rejected(why: String) -> Status {
    Status::failed_precondition(why)
}

pub(super) fn no_reply() -> Status {
    Status::deadline_exceeded("the reading was taken, but its handler has not replied in time")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use expect_test::expect;
    use sandbar_reading::ContentType;

    use super::*;

    fn reply(attributes: Attributes) -> KrakenResponse {
        let message = Message {
            topic: "reply".parse().unwrap(),
            device: None,
            content_type: ContentType::TEXT,
            attributes,
            payload: Bytes::from_static(b"hello"),
        };
        of_handler(ReadingId::from_u128(1), "tcp", message).into_inner()
    }

    #[test]
    fn a_reply_names_the_collector_that_called() {
        let seen = reply(Attributes::new().with("other", "x"));
        expect![[r#"KrakenResponse { collector_name: "tcp", content_type: "text/plain", metadata: "{\"response_type\":\"tcp\"}", payload: b"hello" }"#]].assert_eq(&format!("{seen:?}"));
    }

    #[test]
    fn a_handler_may_name_another_and_say_more() {
        let seen = reply(
            Attributes::new()
                .with("kraken.collector", "bjig")
                .with("kraken.metadata", r#"{"bjig":"action","n":1}"#)
                .with("kraken.metadata.n", "2")
                .with("kraken.metadata.response_type", "none"),
        );
        expect![[r#"KrakenResponse { collector_name: "bjig", content_type: "text/plain", metadata: "{\"bjig\":\"action\",\"n\":1,\"response_type\":\"none\"}", payload: b"hello" }"#]].assert_eq(&format!("{seen:?}"));
        assert_eq!(
            reply(Attributes::new().with("kraken.metadata", "no JSON")).metadata,
            r#"{"response_type":"tcp"}"#
        );
    }
}
