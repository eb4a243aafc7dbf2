//! Content formats (RFC 7252, section 12.3) and the content types they stand for. Pure.

use std::str::FromStr;

use sandbar_reading::ContentType;

const FORMATS: &[(u16, &str)] = &[
    (0, "text/plain"),
    (21, "image/gif"),
    (22, "image/jpeg"),
    (23, "image/png"),
    (40, "application/link-format"),
    (41, "application/xml"),
    (42, "application/octet-stream"),
    (47, "application/exi"),
    (50, "application/json"),
    (60, "application/cbor"),
    (63, "application/cbor-seq"),
    (110, "application/senml+json"),
    (111, "application/sensml+json"),
    (112, "application/senml+cbor"),
    (113, "application/sensml+cbor"),
    (310, "application/senml+xml"),
    (11542, "application/vnd.oma.lwm2m+tlv"),
    (11543, "application/vnd.oma.lwm2m+json"),
    (11544, "application/vnd.oma.lwm2m+cbor"),
];

/// A format that has no name here is `application/vnd.coap.<number>`, so that a handler can tell it.
pub(crate) fn content_type(format: u16) -> ContentType {
    let known = FORMATS.iter().find(|(number, _)| *number == format);
    let text = known.map_or_else(|| format!("application/vnd.coap.{format}"), |(_, text)| (*text).to_owned());
    ContentType::from_str(&text).unwrap_or(ContentType::OCTETS)
}

/// `None` for a type without a number: the option is left out.
pub(crate) fn format(content_type: &ContentType) -> Option<u16> {
    let essence = content_type.essence();
    if let Some(number) = essence.strip_prefix("application/vnd.coap.") {
        return number.parse().ok();
    }
    FORMATS.iter().find(|(_, text)| text.eq_ignore_ascii_case(essence)).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_types_stand_for_each_other() {
        for (number, text) in
            [(0, "text/plain"), (50, "application/json"), (9999, "application/vnd.coap.9999")]
        {
            assert_eq!(content_type(number).as_str(), text);
            assert_eq!(format(&text.parse().unwrap()), Some(number));
        }
        assert_eq!(format(&"text/plain; charset=utf-8".parse().unwrap()), Some(0));
        assert_eq!(format(&"video/mp4".parse().unwrap()), None);
    }
}
