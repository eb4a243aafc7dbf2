//! Content types (RFC 9110, section 8.3).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A media type, with parameters as they came: `application/json`, `text/plain; charset=utf-8`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ContentType(Cow<'static, str>);

#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a content type, such as application/json")]
pub struct ContentTypeError {
    text: String,
}

impl ContentType {
    pub const JSON: Self = Self(Cow::Borrowed("application/json"));
    pub const TEXT: Self = Self(Cow::Borrowed("text/plain"));
    pub const OCTETS: Self = Self(Cow::Borrowed("application/octet-stream"));
    pub const JPEG: Self = Self(Cow::Borrowed("image/jpeg"));

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without parameters: `text/plain`.
    pub fn essence(&self) -> &str {
        self.0.split(';').next().unwrap_or_default().trim_end()
    }

    pub fn is_json(&self) -> bool {
        let essence = self.essence();
        essence.eq_ignore_ascii_case("application/json")
            || essence.len() > 5 && essence.as_bytes()[essence.len() - 5..].eq_ignore_ascii_case(b"+json")
    }

    /// Whether `range` (`*/*`, `image/*`, `application/json`) includes this type.
    pub fn is_in(&self, range: &str) -> bool {
        let (kind, subtype) = range.split_once('/').unwrap_or((range, "*"));
        let (own_kind, own_subtype) = self.essence().split_once('/').unwrap_or_default();
        (kind == "*" || kind.eq_ignore_ascii_case(own_kind))
            && (subtype == "*" || subtype.eq_ignore_ascii_case(own_subtype))
    }
}

impl FromStr for ContentType {
    type Err = ContentTypeError;

    fn from_str(text: &str) -> Result<Self, ContentTypeError> {
        // The common ones cost no allocation.
        for known in [Self::JSON, Self::TEXT, Self::OCTETS] {
            if known.as_str() == text {
                return Ok(known);
            }
        }
        let token = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        let essence = text.split(';').next().unwrap_or_default().trim_end();
        let printable = text.len() <= 255 && text.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b));
        match essence.split_once('/') {
            Some((kind, subtype)) if printable && token(kind) && token(subtype) => {
                Ok(Self(Cow::Owned(text.to_owned())))
            }
            _ => Err(ContentTypeError { text: text.chars().take(80).collect() }),
        }
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_do_not_hide_the_type() {
        let text: ContentType = "text/plain; charset=utf-8".parse().unwrap();
        assert_eq!(text.essence(), "text/plain");
        assert!(
            text.is_in("text/*") && text.is_in("*/*") && text.is_in("TEXT/Plain") && !text.is_in("image/*")
        );
        assert!("application/geo+json".parse::<ContentType>().unwrap().is_json());
        assert!(!text.is_json());
    }

    #[test]
    fn refuses_what_is_no_type() {
        for bad in ["", "json", "/json", "a/", "a b/c", "text/plain\r\nX: y", "text/pläin"] {
            assert!(bad.parse::<ContentType>().is_err(), "{bad:?}");
        }
    }
}
