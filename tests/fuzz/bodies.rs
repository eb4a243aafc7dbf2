//! Bodies of requests to the API.

use sandbar_api::views::{Activate, Check, NewReading, NewTrial, PayloadView, RedriveFilter, Retry};
use sandbar_control::tables::{IngressTable, RouteTable, SinkTable};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fuzz;
use crate::scribble::scribble;

const READINGS: [&str; 4] = [
    r#"{"topic":"a/b","device":"c","content_type":"application/json","payload_json":{"d":[1,2.5e3,null,"x"]}}"#,
    r#"{"topic":"a","attributes":{"x":["1","2"],"y":"3"},"payload":"text"}"#,
    r#"{"topic":"a","payload_base64":"AAECAw=="}"#,
    r#"{"reading":{"topic":"a","payload_json":null},"version":1,"route":"r","config":{"a":1.5,"b":true}}"#,
];

const OTHERS: [&str; 6] = [
    r#"{"version":3}"#,
    r#"{"toml":"[route.a]\ntopic = \"x/#\"\n"}"#,
    r#"{"route":"celsius","sink":null}"#,
    r#"{"target":"sink/out"}"#,
    r#"{"topic":["a/#"],"key":"device","module":"m","limits":{"memory_mib":64},"attempts":{"max":5}}"#,
    r#"{"kind":"file","path":"x","offering":{"batch_max":1},"driver":"webhook"}"#,
];

/// What can be read can be written and read again, and is the same then.
fn round_trips<T: DeserializeOwned + Serialize>(text: &str) {
    if let Ok(first) = serde_json::from_str::<T>(text) {
        let written = serde_json::to_string(&first).expect("what was read can be written");
        let again: T = serde_json::from_str(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_string(&again).expect("as before"), written);
    }
}

#[test]
fn a_reading_is_taken_as_it_was_given_or_its_field_is_named() {
    let mut taken = 0;
    fuzz(
        |random| scribble(random, &READINGS),
        |text| {
            round_trips::<NewReading>(text);
            round_trips::<NewTrial>(text);
            let Ok(reading) = serde_json::from_str::<NewReading>(text) else { return };
            match reading.inbound() {
                Ok(inbound) => {
                    taken += 1;
                    let shown = PayloadView::of(&inbound.content_type, &inbound.payload);
                    assert_eq!(shown.bytes().as_deref(), Some(&inbound.payload[..]), "shown as it is");
                    assert!(inbound.attributes.iter().all(|(key, _)| !key.starts_with("sandbar.")));
                }
                Err(error) => assert!(!error.setting.is_empty() && !error.problem.is_empty()),
            }
        },
    );
    assert!(taken > 0, "every reading was refused");
}

/// It was read as the number beside it, and as the next one when it was read again.
#[test]
fn a_number_of_many_digits_stays_itself() {
    round_trips::<NewTrial>(r#"{"reading":{"topic":"a"},"config":{"a":118446744073709551616.5}}"#);
}

#[test]
fn other_bodies_are_read_or_refused() {
    fuzz(
        |random| scribble(random, &OTHERS),
        |text| {
            round_trips::<Activate>(text);
            round_trips::<Check>(text);
            round_trips::<RedriveFilter>(text);
            round_trips::<Retry>(text);
            round_trips::<RouteTable>(text);
            round_trips::<SinkTable>(text);
            round_trips::<IngressTable>(text);
        },
    );
}
