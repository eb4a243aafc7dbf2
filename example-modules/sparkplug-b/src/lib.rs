//! Reads Sparkplug B (version 3.0.0 of its specification): metrics as JSON, with the names that a node told at its
//! birth. What it does is told in README.md.

use sandbar_guest::prelude::*;
use sandbar_guest::serde_json::{Map, Value, json};
use sandbar_guest::time::rfc3339;

mod payload;
mod protobuf;

use payload::{Metric, Payload};

struct Sparkplug;

/// `spBv1.0/GROUP/KIND/NODE[/DEVICE]` (section 4.1 there).
struct Source<'a> {
    group: &'a str,
    kind: &'a str,
    node: &'a str,
    device: Option<&'a str>,
}

impl Handler for Sparkplug {
    fn configure() -> Result<Self, String> {
        Ok(Self)
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let Some(source) = Source::of(&reading.topic) else {
            return Err(Failure::reject(format!("`{}` is no topic of Sparkplug B", reading.topic)));
        };
        let decode = || {
            Payload::decode(&reading.payload)
                .map_err(|error| Failure::reject(format!("no Sparkplug B payload: {error}")))
        };
        match source.kind {
            "NBIRTH" | "DBIRTH" => {
                let payload = decode()?;
                source.remember(&payload.metrics)?;
                source.tell(&payload, &reading)
            }
            "NDATA" | "DDATA" => {
                let mut payload = decode()?;
                match source.name(&mut payload.metrics)? {
                    true => source.tell(&payload, &reading),
                    // Its birth was missed: let it be born again (section 6.4.19).
                    false => Ok(vec![source.rebirth()]),
                }
            }
            "NDEATH" | "DDEATH" => {
                let gone = json!({ "online": false });
                Ok(vec![Message::json(source.topic(), &gone)?.with_device(source.name_of_device()).into()])
            }
            // Commands are for nodes, and what hosts say of themselves is for nobody here.
            _ => Ok(vec![]),
        }
    }
}

impl<'a> Source<'a> {
    fn of(topic: &'a str) -> Option<Self> {
        let mut levels = topic.strip_prefix("spBv1.0/")?.split('/');
        let (group, kind, node, device) = (levels.next()?, levels.next()?, levels.next()?, levels.next());
        levels.next().is_none().then_some(Self { group, kind, node, device })
    }

    fn name_of_device(&self) -> String {
        self.device.map_or_else(|| self.node.to_owned(), |device| format!("{}/{device}", self.node))
    }

    fn topic(&self) -> String {
        format!("sparkplug/{}/{}", self.group, self.name_of_device())
    }

    /// Aliases are a node's own, for all of its devices.
    fn alias(&self, alias: u64) -> StateCell<String> {
        StateCell::named(format!("{}/{}/{alias}", self.group, self.node))
    }

    fn remember(&self, metrics: &[Metric]) -> Result<(), Failure> {
        for metric in metrics {
            if let (Some(alias), Some(name)) = (metric.alias, &metric.name) {
                self.alias(alias).set(name)?;
            }
        }
        Ok(())
    }

    /// Puts the names that the birth gave to the aliases; false if one is unknown.
    fn name(&self, metrics: &mut [Metric]) -> Result<bool, Failure> {
        for metric in metrics.iter_mut().filter(|metric| metric.name.is_none()) {
            let Some(alias) = metric.alias else {
                return Err(Failure::reject("a metric has neither a name nor an alias"));
            };
            let Some(name) = self.alias(alias).get()? else { return Ok(false) };
            metric.name = Some(name);
        }
        Ok(true)
    }

    fn tell(&self, payload: &Payload, reading: &Reading) -> Result<Vec<Output>, Failure> {
        let named =
            payload.metrics.iter().filter_map(|metric| Some((metric.name.clone()?, metric.value.clone())));
        // What the node says about itself is not measured.
        let metrics: Map<String, Value> =
            named.filter(|(name, _)| name != "bdSeq" && !name.starts_with("Node Control/")).collect();
        let time =
            payload.timestamp.map_or(reading.time, |milliseconds| milliseconds.saturating_mul(1_000_000));
        let told = json!({ "online": true, "time": rfc3339(time), "metrics": metrics });
        Ok(vec![Message::json(self.topic(), &told)?.with_device(self.name_of_device()).into()])
    }

    fn rebirth(&self) -> Output {
        let topic = format!("spBv1.0/{}/NCMD/{}", self.group, self.node);
        Message::new(topic, "application/octet-stream", payload::REBIRTH).into()
    }
}

sandbar_guest::handler!(Sparkplug);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read() {
        let source = Source::of("spBv1.0/plant/DDATA/edge-1/pump").unwrap();
        assert_eq!((source.topic().as_str(), source.kind), ("sparkplug/plant/edge-1/pump", "DDATA"));
        for topic in ["spBv1.0/plant/NDATA", "sensors/a/b/c", "spBv1.0/a/b/c/d/e"] {
            assert!(Source::of(topic).is_none(), "{topic}");
        }
    }
}
