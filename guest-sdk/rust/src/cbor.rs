//! CBOR (RFC 8949) payloads, as small devices send them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Command, Failure, Message, Reading};

const CBOR: &str = "application/cbor";

impl Reading {
    /// The payload as CBOR. What is not the CBOR that `T` says is rejected.
    ///
    /// ```
    /// # use sandbar_guest::testing::reading;
    /// let reading = reading("t", [0xa1, 0x61, b't', 0x18, 21]);
    /// assert_eq!(reading.cbor::<std::collections::BTreeMap<String, u8>>().unwrap()["t"], 21);
    /// ```
    pub fn cbor<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        ciborium::from_reader(self.payload.as_slice())
            .map_err(|error| Failure::reject(format!("the payload is not the CBOR expected: {error}")))
    }
}

impl Message {
    /// A message whose body is `value` as CBOR.
    ///
    /// ```
    /// # use sandbar_guest::Message;
    /// assert_eq!(Message::cbor("n", &[1, 2]).unwrap().payload, [0x82, 1, 2]);
    /// ```
    pub fn cbor(topic: impl Into<String>, value: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self::new(topic, CBOR, encode(value)?))
    }
}

impl Command {
    /// A command whose parameters are `value` as CBOR.
    ///
    /// ```
    /// # use sandbar_guest::Command;
    /// assert_eq!(Command::cbor("lamp", "set", &20).unwrap().payload, [20]);
    /// ```
    pub fn cbor(
        device: impl Into<String>,
        name: impl Into<String>,
        value: &impl Serialize,
    ) -> Result<Self, Failure> {
        Ok(Self::new(device, name, CBOR, encode(value)?))
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes)
        .map_err(|error| Failure::reject(format!("not to be said in CBOR: {error}")))?;
    Ok(bytes)
}
