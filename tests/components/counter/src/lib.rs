//! Counts the readings of each key in `state` and tells the count on `counted/<device or topic>`. The crash
//! tests compare the two: each reading must count once, whatever was killed in between.

use sandbar_guest::prelude::*;
use sandbar_guest::serde_json::json;

static N: StateCell<u64> = StateCell::new("n");

struct Counter;

impl Handler for Counter {
    fn configure() -> Result<Self, String> {
        Ok(Self)
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let n = N.get()?.unwrap_or(0) + 1;
        N.set(&n)?;
        let topic = format!("counted/{}", reading.subject());
        Ok(vec![Message::json(topic, &json!({"id": reading.id, "n": n}))?.into()])
    }
}

sandbar_guest::handler!(Counter);
