//! Reads Sparkplug B (version 3.0.0 of its specification): metrics as JSON, with the names that a node told at its
//! birth. What it does is told in README.md.

use std::collections::BTreeMap;

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

    /// The name and the type that the birth gave to an alias. Aliases are a node's own, for all of its devices.
    fn alias(&self, alias: u64) -> StateCell<(String, u64)> {
        StateCell::named(format!("{}/{}/alias/{alias}", self.group, self.node))
    }

    /// The types that the birth gave to signed numbers without an alias.
    fn types(&self) -> StateCell<BTreeMap<String, u64>> {
        StateCell::named(format!("{}/{}/types", self.group, self.name_of_device()))
    }

    fn remember(&self, metrics: &[Metric<'_>]) -> Result<(), Failure> {
        let mut types = BTreeMap::new();
        for metric in metrics {
            let Some(name) = metric.name.clone() else { continue };
            let datatype = metric.datatype.unwrap_or_default();
            match metric.alias {
                Some(alias) => self.alias(alias).set(&(name, datatype))?,
                None if payload::is_signed(datatype) => drop(types.insert(name, datatype)),
                None => {}
            }
        }
        self.types().set(&types)
    }

    /// Puts the names and the types that the birth gave; false if an alias is unknown.
    fn name(&self, metrics: &mut [Metric<'_>]) -> Result<bool, Failure> {
        let types = self.types().get()?.unwrap_or_default();
        for metric in metrics.iter_mut().filter(|metric| metric.name.is_none() || metric.datatype.is_none()) {
            if let Some(alias) = metric.alias {
                match self.alias(alias).get()? {
                    Some((name, datatype)) => {
                        metric.name = metric.name.take().or(Some(name));
                        metric.datatype = metric.datatype.or(Some(datatype));
                    }
                    None if metric.name.is_none() => return Ok(false),
                    None => {}
                }
            } else if let Some(name) = &metric.name {
                metric.datatype = types.get(name).copied();
            } else {
                return Err(Failure::reject("a metric has neither a name nor an alias"));
            }
        }
        Ok(true)
    }

    fn tell(&self, payload: &Payload<'_>, reading: &Reading) -> Result<Vec<Output>, Failure> {
        let named = payload.metrics.iter().filter_map(|metric| Some((metric.name.clone()?, metric.shown())));
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
    use sandbar_guest::testing::recorded_keyed;

    use super::*;

    #[test]
    fn handles_the_recorded_readings() {
        recorded_keyed::<Sparkplug>(env!("CARGO_MANIFEST_DIR"), &[], |_| String::new());
    }

    #[test]
    fn topics_are_read() {
        let source = Source::of("spBv1.0/plant/DDATA/edge-1/pump").unwrap();
        assert_eq!((source.topic().as_str(), source.kind), ("sparkplug/plant/edge-1/pump", "DDATA"));
        for topic in ["spBv1.0/plant/NDATA", "sensors/a/b/c", "spBv1.0/a/b/c/d/e"] {
            assert!(Source::of(topic).is_none(), "{topic}");
        }
    }
}
