//! Running a handler natively: `cargo test` needs no WebAssembly and no host.
//!
//! ```
//! use sandbar_guest::prelude::*;
//! use sandbar_guest::testing::{Harness, reading};
//!
//! struct Counter;
//!
//! static COUNT: StateCell<u64> = StateCell::new("count");
//!
//! impl Handler for Counter {
//!     fn configure() -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn handle(&self, _: Reading) -> Result<Vec<Output>, Failure> {
//!         let count = COUNT.get()?.unwrap_or(0) + 1;
//!         COUNT.set(&count)?;
//!         Ok(vec![Message::text("count", count.to_string()).into()])
//!     }
//! }
//!
//! let mut counter = Harness::<Counter>::new(&[]).unwrap();
//! counter.handle(reading("a", "{}")).unwrap();
//! let outputs = counter.handle(reading("a", "{}")).unwrap();
//! assert_eq!(outputs, [Message::text("count", "2").into()]);
//! ```
//!
//! What a sandbox would refuse (time, memory) is not refused here: `sandbar test` runs the component itself, in the
//! host's own runtime.

use std::collections::BTreeMap;

use crate::http::{HttpError, Request, Response};
use crate::log::Level;
use crate::{Failure, Handler, Output, Reading};

mod recorded;
pub(crate) mod stand_in;

pub use recorded::{recorded, recorded_keyed};

/// A handler, its settings, and the state of every key.
pub struct Harness<H> {
    handler: H,
    settings: Vec<(String, String)>,
    key: fn(&Reading) -> String,
    states: BTreeMap<String, stand_in::Values>,
    logs: Vec<(Level, String)>,
    answers: Option<stand_in::Answers>,
}

impl<H: Handler> Harness<H> {
    /// Calls `configure` with these settings; the text is what it refuses them with.
    pub fn new(settings: &[(&str, &str)]) -> Result<Self, String> {
        let settings: Vec<(String, String)> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        stand_in::with(|host| host.settings.clone_from(&settings));
        let handler = H::configure()?;
        let logs = stand_in::with(|host| std::mem::take(&mut host.logs));
        Ok(Self {
            handler,
            settings,
            key: |reading| reading.subject().to_owned(),
            states: BTreeMap::new(),
            logs,
            answers: None,
        })
    }

    /// Permits requests over HTTP, and answers them. Without it every request is denied.
    #[must_use]
    pub fn answering(self, answers: fn(&Request) -> Result<Response, HttpError>) -> Self {
        Self { answers: Some(answers), ..self }
    }

    /// Takes another key than the device: what a route says with `key`.
    #[must_use]
    pub fn keyed_by(self, key: fn(&Reading) -> String) -> Self {
        Self { key, ..self }
    }

    /// One attempt at one reading, with its key's state; what it wrote is undone if it fails. The time is the
    /// reading's.
    pub fn handle(&mut self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let key = (self.key)(&reading);
        let before = self.states.remove(&key).unwrap_or_default();
        stand_in::with(|host| {
            host.settings.clone_from(&self.settings);
            host.values.clone_from(&before);
            host.now = reading.time;
            host.answers = self.answers;
        });
        let result = self.handler.handle(reading);
        let (after, logs) =
            stand_in::with(|host| (std::mem::take(&mut host.values), std::mem::take(&mut host.logs)));
        self.logs.extend(logs);
        self.states.insert(key, if result.is_ok() { after } else { before });
        result
    }

    /// What was logged so far.
    pub fn logs(&self) -> &[(Level, String)] {
        &self.logs
    }

    /// A value of a key's state.
    pub fn state(&self, key: &str, name: &str) -> Option<&[u8]> {
        self.states.get(key)?.get(name).map(|(value, _)| value.as_slice())
    }
}

/// A reading with that payload: JSON, of no device, at the beginning of 1970. Other fields are set as usual:
/// `Reading { device: Some("d".into()), ..reading("t", "{}") }`.
pub fn reading(topic: &str, payload: impl Into<Vec<u8>>) -> Reading {
    Reading {
        id: "01J00000000000000000000000".to_owned(),
        ingress: "test".to_owned(),
        topic: topic.to_owned(),
        device: None,
        time: 0,
        content_type: "application/json".to_owned(),
        attributes: vec![],
        payload: payload.into(),
    }
}

/// Seconds as readings have their time: nanoseconds.
pub const fn seconds(count: u64) -> u64 {
    count * 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    struct Sum;

    static SUM: StateCell<f64> = StateCell::new("sum");

    impl Handler for Sum {
        fn configure() -> Result<Self, String> {
            config::required::<f64>("limit").map(|_| Self)
        }

        fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
            let sum = SUM.get()?.unwrap_or(0.0) + reading.json::<f64>()?;
            SUM.set(&sum)?;
            log::info!("{sum}");
            if sum > config::required::<f64>("limit").unwrap() {
                return Err(Failure::retry("too much"));
            }
            Ok(vec![])
        }
    }

    #[test]
    fn state_belongs_to_the_key_and_is_undone_by_a_failure() {
        assert!(Harness::<Sum>::new(&[]).is_err());
        let mut sum = Harness::<Sum>::new(&[("limit", "10")]).unwrap();
        sum.handle(reading("a", "6")).unwrap();
        sum.handle(reading("b", "6")).unwrap();
        sum.handle(reading("a", "6")).unwrap_err();
        assert_eq!(sum.state("a", "sum").unwrap(), b"6.0");
        assert_eq!(sum.logs().len(), 3);
        let mut whole = Harness::<Sum>::new(&[("limit", "10")]).unwrap().keyed_by(|_| String::new());
        whole.handle(reading("a", "6")).unwrap();
        assert!(whole.handle(reading("b", "6")).is_err());
    }

    #[test]
    fn requests_are_denied_unless_somebody_answers() {
        struct Asks;
        impl Handler for Asks {
            fn configure() -> Result<Self, String> {
                Ok(Self)
            }
            fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
                let answer = Request::get(format!("http://a/{}", reading.topic)).send()?;
                Ok(vec![Message::text("said", answer.text()?).into()])
            }
        }
        let mut nobody = Harness::<Asks>::new(&[]).unwrap();
        assert!(matches!(nobody.handle(reading("x", "")), Err(Failure::Reject(_))));
        let mut asks = Harness::<Asks>::new(&[]).unwrap().answering(|request| match request.url.as_str() {
            "http://a/x" => Ok(Response::new(200, "yes")),
            _ => Err(HttpError::Failed("no one is there".to_owned())),
        });
        assert_eq!(asks.handle(reading("x", "")).unwrap(), [Message::text("said", "yes").into()]);
        assert_eq!(asks.handle(reading("y", "")), Err(Failure::retry("no one is there")));
    }

    #[test]
    fn values_end_with_their_time() {
        struct Once;
        impl Handler for Once {
            fn configure() -> Result<Self, String> {
                Ok(Self)
            }
            fn handle(&self, _: Reading) -> Result<Vec<Output>, Failure> {
                if state::get("seen").is_some() {
                    return Err(Failure::reject("again"));
                }
                state::set_for("seen", b"", std::time::Duration::from_secs(10))?;
                Ok(vec![])
            }
        }
        let mut once = Harness::<Once>::new(&[]).unwrap();
        let at = |time| Reading { time: seconds(time), ..reading("a", "") };
        assert!(once.handle(at(0)).is_ok());
        assert!(once.handle(at(9)).is_err());
        assert!(once.handle(at(10)).is_ok());
    }
}
