//! Tells when a device has been silent for too long, and when it is heard again. What it does is told in README.md.

use std::time::Duration;

use sandbar_guest::prelude::*;
use sandbar_guest::serde_json::json;
use sandbar_guest::time::{rfc3339, was_set_back};

/// Silences that one tick tells: a route's handler may put out 1000 messages at once unless its limits say otherwise.
const TOLD_MAX: usize = 500;

/// Before a device's name in state.
const SEEN: &str = "seen/";

#[derive(serde::Serialize, serde::Deserialize)]
struct Seen {
    /// When it was heard last, or when a tick told that the clock was set back since.
    time: u64,
    silent: bool,
}

struct MissingData {
    after: Duration,
    /// The topic of what only tells the time.
    tick: String,
    /// After so long a silent device is forgotten.
    forget: Duration,
}

impl Handler for MissingData {
    fn configure() -> Result<Self, String> {
        Ok(Self {
            after: Duration::from_secs(config::parse_or("after_s", 900)?),
            tick: config::get("tick").unwrap_or_else(|| "tick".to_owned()),
            forget: Duration::from_secs(config::parse_or("forget_s", 30 * 86_400)?),
        })
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        match reading.topic == self.tick {
            true => self.look(reading.time),
            false => self.hear(&reading),
        }
    }
}

impl MissingData {
    fn hear(&self, reading: &Reading) -> Result<Vec<Output>, Failure> {
        let device = reading.subject();
        let cell = self.cell(device);
        let before = cell.get()?;
        // Of readings that come out of order, the youngest counts.
        let time = before.as_ref().map_or(reading.time, |before| before.time.max(reading.time));
        cell.set(&Seen { time, silent: false })?;
        match before {
            Some(before) if before.silent => self.tell(device, "back", before.time),
            _ => Ok(vec![]),
        }
    }

    fn look(&self, now: u64) -> Result<Vec<Output>, Failure> {
        let mut told = Vec::new();
        for name in state::names(SEEN) {
            // The next tick tells the others.
            if told.len() == TOLD_MAX {
                break;
            }
            let device = &name[SEEN.len()..];
            let cell = self.cell(device);
            let Some(mut seen) = cell.get()? else { continue };
            // Told by ticks only, which are never of long ago: a device may bring what it measured yesterday.
            if was_set_back(seen.time, now) && !seen.silent {
                seen.time = now;
                cell.set(&seen)?;
            }
            let silent = u128::from(now.saturating_sub(seen.time)) > self.after.as_nanos();
            if silent && !seen.silent {
                told.extend(self.tell(device, "silent", seen.time)?);
                cell.set(&Seen { silent, ..seen })?;
            }
        }
        Ok(told)
    }

    fn cell(&self, device: &str) -> StateCell<Seen> {
        StateCell::named(format!("{SEEN}{device}")).lasting(self.forget)
    }

    fn tell(&self, device: &str, event: &str, last_seen: u64) -> Result<Vec<Output>, Failure> {
        let told = json!({ "device": device, "event": event, "last_seen": rfc3339(last_seen) });
        Ok(vec![Message::json(format!("watchdog/{device}"), &told)?.with_device(device).into()])
    }
}

sandbar_guest::handler!(MissingData);

#[cfg(test)]
mod tests {
    use sandbar_guest::testing::{Harness, reading, seconds};

    use super::*;

    #[test]
    fn tells_each_silence_once() {
        // With the route's key, which is one for all: a harness of one device would watch itself only.
        let mut watch =
            Harness::<MissingData>::new(&[("after_s", "10")]).unwrap().keyed_by(|_| String::new());
        let at = |topic, time| Reading { time: seconds(time), ..reading(topic, "") };
        assert!(watch.handle(at("sensors/a", 5)).unwrap().is_empty());
        assert!(watch.handle(at("tick", 15)).unwrap().is_empty());
        assert_eq!(watch.handle(at("tick", 16)).unwrap().len(), 1);
        assert!(watch.handle(at("tick", 17)).unwrap().is_empty(), "it is told once");
        assert_eq!(watch.handle(at("sensors/a", 18)).unwrap().len(), 1);
    }

    #[test]
    fn goes_on_when_the_clock_was_set_back() {
        let mut watch =
            Harness::<MissingData>::new(&[("after_s", "10")]).unwrap().keyed_by(|_| String::new());
        let mut told = |topic, time| {
            let reading = Reading { time: seconds(time), ..reading(topic, "") };
            watch.handle(reading).unwrap().len()
        };
        assert_eq!([told("sensors/a", 7200), told("tick", 7201)], [0, 0]);
        assert_eq!([told("tick", 6600), told("tick", 7205)], [0, 0], "ten minutes may be late");
        assert_eq!(
            [told("tick", 30), told("tick", 40), told("tick", 41)],
            [0, 0, 1],
            "silence counts from 30 on"
        );
        assert_eq!([told("sensors/a", 45), told("tick", 55), told("tick", 56)], [1, 0, 1]);
    }

    #[test]
    fn what_a_device_measured_long_ago_is_no_clock() {
        let mut watch =
            Harness::<MissingData>::new(&[("after_s", "10")]).unwrap().keyed_by(|_| String::new());
        for (topic, time) in [("sensors/a", 7200), ("sensors/a", 30), ("tick", 7205)] {
            let told = watch.handle(Reading { time: seconds(time), ..reading(topic, "") });
            assert!(told.unwrap().is_empty(), "{topic} at {time}");
        }
    }

    #[test]
    fn more_silences_than_one_tick_may_tell_are_told_by_the_next() {
        let mut watch =
            Harness::<MissingData>::new(&[("after_s", "10")]).unwrap().keyed_by(|_| String::new());
        for device in 0..TOLD_MAX + 2 {
            assert!(watch.handle(reading(&format!("sensors/{device}"), "")).unwrap().is_empty());
        }
        let mut tick = |time| {
            let tick = Reading { time: seconds(time), ..reading("tick", "") };
            watch.handle(tick).unwrap().len()
        };
        assert_eq!([tick(11), tick(12), tick(13)], [TOLD_MAX, 2, 0]);
    }
}
