//! Bodies of requests to the API.

use sandbar_api::views::{
    Activate, Check, NewCandidate, NewCommandView, NewReading, NewReplay, NewTrial, PayloadView, PutDesired,
    PutDevice, RedriveFilter, Retry,
};
use sandbar_control::tables::{IngressTable, RouteTable, SinkTable};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub const READINGS: [&str; 4] = [
    r#"{"topic":"a/b","device":"c","content_type":"application/json","payload_json":{"d":[1,2.5e3,null,"x"]}}"#,
    r#"{"topic":"a","attributes":{"x":["1","2"],"y":"3"},"payload":"text"}"#,
    r#"{"topic":"a","payload_base64":"AAECAw=="}"#,
    r#"{"reading":{"topic":"a","payload_json":null},"version":1,"route":"r","config":{"a":1.5,"b":true}}"#,
];

pub const OTHERS: [&str; 11] = [
    r#"{"version":3}"#,
    r#"{"toml":"[route.a]\ntopic = \"x/#\"\n"}"#,
    r#"{"route":"celsius","sink":null}"#,
    r#"{"target":"sink/out"}"#,
    r#"{"topic":["a/#"],"key":"device","module":"m","limits":{"memory_mib":64},"attempts":{"max":5}}"#,
    r#"{"kind":"file","path":"x","offering":{"batch_max":1},"driver":"webhook"}"#,
    r#"{"version":2,"mode":"canary","percent":12.5,"errors_percent":5,"errors_after":20}"#,
    r#"{"route":"a","version":1,"since":"2026-01-01T00:00:00Z","topic":"a/#","dead_letters":true,"commands":false}"#,
    r#"{"name":"boiler","type":"heater","labels":{"room":"cellar"}}"#,
    r#"{"value":{"on":[true,null,1e3]}}"#,
    r#"{"name":"set","payload":{"on":true},"timeout":2.5,"mode":"query","when_offline":"refuse","answer":"id"}"#,
];

/// Whether it was taken: as it was given. What is not has its field named.
pub fn reading(text: &str) -> bool {
    let is_trial = round_trips::<NewTrial>(text);
    if !round_trips::<NewReading>(text) {
        return is_trial;
    }
    let reading: NewReading = serde_json::from_str(text).expect("it was read before");
    match reading.inbound() {
        Ok(inbound) => {
            let shown = PayloadView::of(&inbound.content_type, &inbound.payload);
            assert_eq!(shown.bytes().as_deref(), Some(&inbound.payload[..]), "shown as it is");
            assert!(inbound.attributes.iter().all(|(key, _)| !key.starts_with("sandbar.")));
            true
        }
        Err(error) => {
            assert!(!error.setting.is_empty() && !error.problem.is_empty());
            false
        }
    }
}

/// Whether it is any other body.
pub fn other(text: &str) -> bool {
    let read = [
        round_trips::<Activate>(text),
        round_trips::<Check>(text),
        round_trips::<RedriveFilter>(text),
        round_trips::<Retry>(text),
        round_trips::<NewCandidate>(text),
        round_trips::<NewReplay>(text),
        round_trips::<PutDevice>(text),
        round_trips::<PutDesired>(text),
        round_trips::<NewCommandView>(text),
        round_trips::<RouteTable>(text),
        round_trips::<SinkTable>(text),
        round_trips::<IngressTable>(text),
    ];
    read.contains(&true)
}

/// Whether it can be read. Then it can be written and read again, and is the same.
pub fn round_trips<T: DeserializeOwned + Serialize>(text: &str) -> bool {
    let Ok(first) = serde_json::from_str::<T>(text) else { return false };
    let written = serde_json::to_string(&first).expect("what was read can be written");
    let again: T = serde_json::from_str(&written).expect("what was written can be read");
    assert_eq!(serde_json::to_string(&again).expect("as before"), written);
    true
}
