//! Who may send: a bearer token (RFC 6750), or a signature of the body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName};
use sandbar_reading::ConfigError;
use sha2::Sha256;

use super::config::{Algorithm, Config, Encoding, SignatureConfig};
use super::problem::Problem;
use crate::bearer::Bearer;
use crate::pattern::hex_digit;

/// What a request must prove; with neither token nor signature, nothing.
pub(super) struct Guard {
    token: Option<Bearer>,
    signature: Option<Signature>,
}

struct Signature {
    header: HeaderName,
    prefix: String,
    encoding: Encoding,
    keyed: Hmac<Sha256>,
}

impl Guard {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let signature = config.signature.as_ref().map(Signature::new).transpose();
        Ok(Self {
            token: config.token.as_ref().map(Bearer::new).transpose()?,
            signature: signature.map_err(|error| error.within("signature"))?,
        })
    }

    /// Before the body is read.
    pub(super) fn check_head(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match &self.token {
            Some(token) if !token.is_in(headers) => Err(Problem::unauthorized()),
            _ => Ok(()),
        }
    }

    /// Over the body as it came.
    pub(super) fn check_body(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
        let Some(signature) = &self.signature else { return Ok(()) };
        match signature.is_right(headers, body) {
            true => Ok(()),
            false => Err(Problem::bad_signature()),
        }
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

impl Signature {
    fn new(config: &SignatureConfig) -> Result<Self, ConfigError> {
        let header =
            config.header.parse().map_err(|_| ConfigError::at("header", "is not a header's name"))?;
        let secret = config.secret.resolve("secret", |path| std::fs::read_to_string(path))?;
        let keyed = match config.algorithm {
            Algorithm::HmacSha256 => keyed(secret.as_bytes()),
        };
        Ok(Self { header, prefix: config.prefix.clone(), encoding: config.encoding, keyed })
    }

    fn is_right(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let given = headers
            .get(&self.header)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.strip_prefix(self.prefix.as_str()))
            .and_then(|text| match self.encoding {
                Encoding::Hex => from_hex(text),
                Encoding::Base64 => STANDARD.decode(text).ok(),
            });
        given.is_some_and(|code| self.keyed.clone().chain_update(body).verify_slice(&code).is_ok())
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| Some(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn guard(settings: serde_json::Value) -> Guard {
        let serde_json::Value::Object(mut table) = settings else { panic!("a table") };
        table.insert("paths".to_owned(), json!([]));
        let table = table.into();
        Guard::new(&sandbar_reading::settings(table).unwrap()).unwrap()
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn takes_the_right_token_only() {
        let guard = guard(json!({ "token": "s3cret" }));
        for right in ["Bearer s3cret", "bearer s3cret"] {
            assert!(guard.check_head(&headers("authorization", right)).is_ok(), "{right}");
        }
        for wrong in ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret ", "Basic s3cret", "s3cret"] {
            assert!(guard.check_head(&headers("authorization", wrong)).is_err(), "{wrong}");
        }
        assert!(guard.check_head(&HeaderMap::new()).is_err());
    }

    /// The example of GitHub's documentation on validating webhook deliveries.
    #[test]
    fn takes_githubs_signature() {
        let guard = guard(json!({ "signature": {
            "header": "X-Hub-Signature-256", "prefix": "sha256=", "secret": "It's a Secret to Everybody",
        } }));
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signed = |value| headers("x-hub-signature-256", value);
        assert!(guard.check_body(&signed(right), b"Hello, World!").is_ok());
        assert!(guard.check_body(&signed(right), b"Hello, World?").is_err());
        for wrong in [&right[7..], &right[..70], "sha256=", "sha256=é", "sha256=zz"] {
            assert!(guard.check_body(&signed(wrong), b"Hello, World!").is_err(), "{wrong}");
        }
        assert!(guard.check_body(&HeaderMap::new(), b"Hello, World!").is_err());
    }

    #[test]
    fn takes_base64() {
        let guard =
            guard(json!({ "signature": { "header": "x-sign", "encoding": "base64", "secret": "key" } }));
        let right = "97yD9DBThCSxMpjmqm+xQ+9NWaFJRhdZl0edvC0aPNg=";
        let body = b"The quick brown fox jumps over the lazy dog";
        assert!(guard.check_body(&headers("x-sign", right), body).is_ok());
    }

    proptest! {
        #[test]
        fn garbage_is_refused(value in "[ -~]{0,80}", body: Vec<u8>) {
            let guard = guard(json!({ "token": "s3cret", "signature": {
                "header": "x-sign", "secret": "key" } }));
            let mut both = headers("authorization", &value);
            both.extend(headers("x-sign", &value));
            prop_assert!(guard.check_head(&both).is_err());
            prop_assert!(guard.check_body(&both, &body).is_err());
        }
    }
}
