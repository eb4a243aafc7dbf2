//! Passes the payload on under the setting `topic`: routes of it make chains and, with a topic that the route
//! itself listens to, loops.

use sandbar_guest::prelude::*;

struct Chain {
    topic: String,
}

impl Handler for Chain {
    fn configure() -> Result<Self, String> {
        Ok(Self { topic: config::required("topic")? })
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let topic = reading.fill_in(&self.topic);
        Ok(vec![Message::new(topic, reading.content_type, reading.payload).into()])
    }
}

sandbar_guest::handler!(Chain);
