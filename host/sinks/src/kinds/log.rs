//! Messages as lines of the host's own log.

use sandbar_reading::{ConfigError, Delivery, Message};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::{debug, error, info, trace, warn};

use crate::{DeliveryError, Progress, Sink};

/// Writes one line a message; always succeeds.
#[derive(Debug)]
pub(crate) struct Log {
    config: Config,
}

/// One line a message in the host's log: topic, device, content type, size and ids.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// How urgent the lines are; those below the host's own log level are not written.
    #[serde(default)]
    level: Level,
    /// So many bytes of the payload are shown, as text. None unless chosen here: logs travel far.
    #[serde(default)]
    show_payload: usize,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

impl Sink for Log {
    const NAME: &'static str = "log";
    const EXAMPLE: &'static str = "level = \"info\"\nshow_payload = 200\n";
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { config })
    }

    async fn deliver(&self, batch: &[Delivery], _: &Progress) -> Result<(), DeliveryError> {
        for delivery in batch {
            self.write(delivery);
        }
        Ok(())
    }
}

impl Log {
    fn write(&self, delivery: &Delivery) {
        let Delivery { id, reading, route, message, .. } = delivery;
        let (topic, content_type, size) =
            (message.topic.as_str(), &message.content_type, message.payload.len());
        let device = message.device.as_deref();
        let payload = shown(message, self.config.show_payload);
        macro_rules! line {
            ($level:ident) => {
                $level!(topic, device, %content_type, size, payload, %route, %reading, %id, "message")
            };
        }
        match self.config.level {
            Level::Trace => line!(trace),
            Level::Debug => line!(debug),
            Level::Info => line!(info),
            Level::Warn => line!(warn),
            Level::Error => line!(error),
        }
    }
}

/// The first `max` bytes as text; `None` if nothing is to be shown.
fn shown(message: &Message, max: usize) -> Option<String> {
    let payload = &message.payload;
    let start = &payload[..payload.len().min(max)];
    let more = if start.len() < payload.len() { "…" } else { "" };
    (max > 0).then(|| format!("{}{more}", String::from_utf8_lossy(start)))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use sandbar_reading::DeliveryId;
    use serde_json::{Value, json};

    use super::*;
    use crate::contract::{self, Behaviour, FarEnd};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn capture(&self) -> tracing::subscriber::DefaultGuard {
            let lines = self.clone();
            let subscriber = tracing_subscriber::fmt().json().with_writer(move || lines.clone()).finish();
            tracing::subscriber::set_default(subscriber)
        }

        fn read(&self) -> Vec<Value> {
            let bytes = self.0.lock().clone();
            bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
        }
    }

    impl FarEnd for Lines {
        type Sink = Log;
        const FAILS: bool = false;
        const REFUSES: bool = false;

        fn settings(&self) -> Value {
            json!({})
        }

        fn behave(&self, _: Behaviour) {}

        fn taken(&self) -> Vec<DeliveryId> {
            self.read().iter().map(|line| line["fields"]["id"].as_str().unwrap().parse().unwrap()).collect()
        }
    }

    #[tokio::test]
    async fn keeps_the_contract_of_sinks() {
        let lines = Lines::default();
        let _capture = lines.capture();
        contract::check(&lines).await;
    }

    #[tokio::test]
    async fn shows_of_the_payload_what_was_chosen() {
        let lines = Lines::default();
        let _capture = lines.capture();
        for show_payload in [0, 5, 5000] {
            let log = Log::new(Config { level: Level::Warn, show_payload }).unwrap();
            log.deliver(&[contract::delivery(3)], &Progress::default()).await.unwrap();
        }
        let shown: Vec<_> = lines.read().into_iter().map(|line| line["fields"]["payload"].clone()).collect();
        assert_eq!(shown, [Value::Null, json!("{\"cou…"), json!("{\"count\":3}")]);
        assert_eq!(lines.read()[0]["level"], "WARN");
    }
}
