//! A message as a document. Pure.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, RawDocumentBuf, doc};
use sandbar_reading::{Delivery, Message};
use serde_json::Value as Json;

use crate::Cause;

/// MongoDB's limit of a document.
const SIZE_MAX: usize = 16 << 20;

/// MongoDB's limit, less what the rest of the document takes.
const DEPTH_MAX: usize = 100 - 8;

/// As it is sent.
pub(super) fn of(delivery: &Delivery, id: &str) -> Result<RawDocumentBuf, Cause> {
    let message = &delivery.message;
    let attribute = |(name, value): (&str, &str)| Bson::Document(doc! { "k": name, "v": value });
    let document = doc! {
        "_id": id,
        "time": DateTime::from_millis(i64::try_from(delivery.time.millis()).unwrap_or(i64::MAX)),
        "topic": message.topic.as_str(),
        "device": message.device.as_deref(),
        "content_type": message.content_type.as_str(),
        "attributes": message.attributes.iter().map(attribute).collect::<Vec<_>>(),
        "payload": payload(message)?,
        "route": delivery.route.as_str(),
        "reading": delivery.reading.to_string(),
    };
    let document = RawDocumentBuf::try_from(&document).map_err(|error| Cause::of("the document", &error))?;
    match document.as_bytes().len() {
        size if size > SIZE_MAX => {
            Err(Cause::new(format!("a document of {size} bytes, and MongoDB takes {SIZE_MAX}")))
        }
        _ => Ok(document),
    }
}

/// What only claims to be JSON or text is binary.
fn payload(message: &Message) -> Result<Bson, Cause> {
    let bytes = &message.payload;
    let readable = if message.content_type.is_json() {
        serde_json::from_slice::<Json>(bytes).ok().map(|json| bson(json, 0)).transpose()?
    } else if message.content_type.is_in("text/*") {
        std::str::from_utf8(bytes).ok().map(Bson::from)
    } else {
        None
    };
    let binary = || Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() });
    Ok(readable.unwrap_or_else(binary))
}

/// Integers that fit are integers; other numbers are doubles.
fn bson(json: Json, depth: usize) -> Result<Bson, Cause> {
    if depth > DEPTH_MAX {
        return Err(Cause::new(format!("the payload is nested deeper than {DEPTH_MAX} levels")));
    }
    Ok(match json {
        Json::Null => Bson::Null,
        Json::Bool(truth) => Bson::Boolean(truth),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => i32::try_from(number).map_or(Bson::Int64(number), Bson::Int32),
            (None, number) => Bson::Double(number.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Bson::String(text),
        Json::Array(items) => {
            let items: Result<Vec<_>, _> = items.into_iter().map(|item| bson(item, depth + 1)).collect();
            Bson::Array(items?)
        }
        Json::Object(fields) => {
            let mut document = Document::new();
            for (name, value) in fields {
                if name.contains('\0') {
                    return Err(Cause::new(format!(
                        "the payload has a field {name:?}, which no document can"
                    )));
                }
                document.insert(name, bson(value, depth + 1)?);
            }
            Bson::Document(document)
        }
    })
}
