//! Takes what tells who somebody is out of a JSON payload. What it does is told in README.md.

use sandbar_guest::prelude::*;
use sandbar_guest::serde_json::{self, Value};
use sha2::{Digest, Sha256};

mod mask;

struct Scrub {
    /// Fields that are removed, at any depth.
    drop: Vec<String>,
    /// Fields whose value is replaced by a pseudonym, at any depth.
    hash: Vec<String>,
    /// Makes pseudonyms that nobody can make again who does not know it.
    salt: String,
    /// Whether texts are searched for addresses and numbers.
    mask: bool,
    topic: String,
}

impl Handler for Scrub {
    fn configure() -> Result<Self, String> {
        let list = |setting| {
            let text = config::get(setting).unwrap_or_default();
            text.split(',')
                .map(str::trim)
                .filter(|field| !field.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (drop, hash) = (list("drop"), list("hash"));
        let salt = config::get("salt").unwrap_or_default();
        if !hash.is_empty() && salt.len() < 8 {
            return Err(
                "setting `salt` must have 8 characters or more: without it, pseudonyms can be guessed"
                    .to_owned(),
            );
        }
        let topic = config::get("topic").unwrap_or_else(|| "scrubbed/{topic}".to_owned());
        Ok(Self { drop, hash, salt, mask: config::parse_or("mask", true)?, topic })
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let mut payload: Value = reading.json()?;
        self.scrub(&mut payload);
        Ok(vec![Message::json(reading.fill_in(&self.topic), &payload)?.into()])
    }
}

impl Scrub {
    fn scrub(&self, value: &mut Value) {
        match value {
            Value::String(text) if self.mask => *text = mask::masked(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.scrub(value)),
            Value::Object(fields) => {
                fields.retain(|name, _| !named(&self.drop, name));
                for (name, value) in fields {
                    match named(&self.hash, name) && !value.is_null() {
                        true => *value = self.pseudonym(value).into(),
                        false => self.scrub(value),
                    }
                }
            }
            _ => {}
        }
    }

    /// The same for the same value, and only for it: 16 hexadecimal digits.
    fn pseudonym(&self, value: &Value) -> String {
        let text = match value {
            Value::String(text) => text.clone(),
            other => serde_json::to_string(other).unwrap_or_default(),
        };
        let digest = Sha256::new().chain_update(&self.salt).chain_update([0]).chain_update(text).finalize();
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn named(fields: &[String], name: &str) -> bool {
    fields.iter().any(|field| field.eq_ignore_ascii_case(name))
}

sandbar_guest::handler!(Scrub);

#[cfg(test)]
mod tests {
    use sandbar_guest::testing::{Harness, recorded};

    use super::*;

    #[test]
    fn handles_the_recorded_readings() {
        let settings = [("drop", "name,address"), ("hash", "user_id"), ("salt", "a secret of yours")];
        recorded::<Scrub>(env!("CARGO_MANIFEST_DIR"), &settings);
    }

    #[test]
    fn pseudonyms_need_a_secret() {
        assert!(Harness::<Scrub>::new(&[("hash", "id"), ("salt", "short")]).is_err());
        assert!(Harness::<Scrub>::new(&[("drop", "id")]).is_ok());
    }
}
