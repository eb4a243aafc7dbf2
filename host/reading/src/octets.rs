//! Bytes as a configuration spells them.

use schemars::JsonSchema;
use serde::Deserialize;

/// A text, or bytes in hexadecimal: `"OK\n"` or `{ hex = "06" }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct Octets(Box<[u8]>);

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "must be a text, or bytes such as { hex = \"0d0a\" }")]
enum Written {
    Text(String),
    Hex(Hex),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Hex {
    hex: String,
}

impl Octets {
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Octets {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl TryFrom<Written> for Octets {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Text(text) => Ok(text.into_bytes().into()),
            Written::Hex(Hex { hex }) => match from_hex(&hex) {
                Some(bytes) => Ok(bytes.into()),
                None => Err(format!("`{hex}` is not pairs of hexadecimal digits")),
            },
        }
    }
}

/// Spaces between the pairs do not count.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> =
        text.chars().filter(|c| !c.is_ascii_whitespace()).map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn is_text_or_hexadecimal() {
        let read = |value| crate::settings::<Octets>(value).map(|octets| octets.as_slice().to_vec());
        assert_eq!(read(json!("OK\n")).unwrap(), b"OK\n");
        assert_eq!(read(json!({ "hex": "0D 0a ff" })).unwrap(), b"\r\n\xff");
        for bad in [json!({ "hex": "0" }), json!({ "hex": "zz" }), json!({ "hex": "+1" })] {
            assert!(read(bad).unwrap_err().problem.contains("hexadecimal"));
        }
        assert!(read(json!(7)).unwrap_err().problem.contains("must be a text"));
    }
}
