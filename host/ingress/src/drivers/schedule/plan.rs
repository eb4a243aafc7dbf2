//! When something is due. Pure: time is passed in.

use std::time::Duration;

use croner::Cron;
use jiff::Zoned;
use jiff::tz::TimeZone;
use sandbar_reading::Timestamp;

pub(super) enum Plan {
    Cron {
        cron: Box<Cron>,
        zone: TimeZone,
    },
    /// At whole multiples since 1970.
    Every(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    Skip { late_max: Duration },
    CatchUp { most: usize },
}

/// A position so far ahead of the clock is of a clock that was wrong.
const AHEAD_MAX: Duration = Duration::from_secs(3600);

impl Plan {
    /// The first time that is due after `time`.
    pub(super) fn after(&self, time: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron { cron, zone } => {
                cron.find_next_occurrence(&zoned(time, zone)?, false).ok().and_then(|next| timestamp(&next))
            }
            Self::Every(interval) => Some(last_multiple(time, *interval)?.after(*interval)),
        }
    }

    /// The last time that was due at `time` or before.
    fn until(&self, time: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron { cron, zone } => cron
                .find_previous_occurrence(&zoned(time, zone)?, true)
                .ok()
                .and_then(|last| timestamp(&last)),
            Self::Every(interval) => last_multiple(time, *interval),
        }
    }

    /// What is due at `now`, in order, when all until `position` was done.
    pub(super) fn due(&self, position: Timestamp, now: Timestamp, missed: Missed) -> Vec<Timestamp> {
        let (most, earliest) = match missed {
            Missed::Skip { late_max } => (1, now.before(late_max).max(position)),
            Missed::CatchUp { most } => (most, position),
        };
        let mut due = Vec::new();
        let mut last = self.until(now);
        while let Some(tick) = last.filter(|tick| *tick > position && *tick >= earliest && due.len() < most) {
            due.push(tick);
            last = self.until(tick.before(Duration::from_nanos(1)));
        }
        due.reverse();
        due
    }
}

/// Where to go on from: what was `done` last, unless the clock that it was done by was far ahead. A clock that was far
/// behind after a boot, and was set since `before`, makes it the `latest` that was ever done.
pub(super) fn position(done: Timestamp, latest: Timestamp, before: Timestamp, now: Timestamp) -> Timestamp {
    let is_ahead = |time: Timestamp| time.since(now) > AHEAD_MAX;
    let was_set = now.since(before) > AHEAD_MAX;
    if was_set && !is_ahead(latest) {
        latest
    } else if is_ahead(done) {
        now
    } else {
        done
    }
}

fn last_multiple(time: Timestamp, interval: Duration) -> Option<Timestamp> {
    let interval = u64::try_from(interval.as_nanos()).ok().filter(|nanos| *nanos > 0)?;
    Some(Timestamp::from_nanos(time.nanos() / interval * interval))
}

fn zoned(time: Timestamp, zone: &TimeZone) -> Option<Zoned> {
    let time = jiff::Timestamp::from_nanosecond(i128::from(time.nanos())).ok()?;
    Some(time.to_zoned(zone.clone()))
}

fn timestamp(time: &Zoned) -> Option<Timestamp> {
    u64::try_from(time.timestamp().as_nanosecond()).ok().map(Timestamp::from_nanos)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::config::Config;
    use super::*;

    fn plan(settings: Value) -> Plan {
        sandbar_reading::settings::<Config>(settings).unwrap().plan().unwrap()
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn due(plan: &Plan, position: &str, now: &str, missed: Missed) -> Vec<String> {
        let due = plan.due(time(position), time(now), missed);
        due.into_iter().map(|tick| tick.to_string().replace(".000000Z", "Z")).collect()
    }

    const HOUR: Missed = Missed::Skip { late_max: Duration::from_secs(3600) };

    #[test]
    fn follows_the_time_zone_through_summer_and_winter() {
        let plan = plan(json!({ "cron": "0 7 * * *", "time_zone": "Europe/Zurich" }));
        let mut at = time("2026-03-28T00:00:00Z");
        let mut days = Vec::new();
        for _ in 0..2 {
            at = plan.after(at).unwrap();
            days.push(at.to_string());
        }
        assert_eq!(days, ["2026-03-28T06:00:00.000000Z", "2026-03-29T05:00:00.000000Z"]);
    }

    #[test]
    fn an_interval_is_at_whole_multiples() {
        let plan = plan(json!({ "interval_ms": 900_000 }));
        assert_eq!(plan.after(time("2026-01-01T00:07:00Z")), Some(time("2026-01-01T00:15:00Z")));
        assert_eq!(plan.after(time("2026-01-01T00:15:00Z")), Some(time("2026-01-01T00:30:00Z")));
        assert_eq!(
            due(&plan, "2026-01-01T00:00:00Z", "2026-01-01T00:46:00Z", Missed::CatchUp { most: 2 }),
            ["2026-01-01T00:30:00Z", "2026-01-01T00:45:00Z"]
        );
    }

    #[test]
    fn what_was_missed_is_skipped_or_made_up_for() {
        let plan = plan(json!({ "cron": "@hourly" }));
        let (position, now) = ("2026-01-01T01:00:00Z", "2026-01-01T04:30:00.5Z");
        let all = ["2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z", "2026-01-01T04:00:00Z"];
        assert_eq!(due(&plan, position, now, Missed::CatchUp { most: 100 }), all);
        assert_eq!(due(&plan, position, now, Missed::CatchUp { most: 2 }), all[1..]);
        assert_eq!(due(&plan, position, now, HOUR), all[2..]);
        let minute = Missed::Skip { late_max: Duration::from_secs(60) };
        assert_eq!(due(&plan, position, now, minute), [""; 0]);
        assert_eq!(due(&plan, all[2], now, HOUR), [""; 0], "once only");
        assert_eq!(due(&plan, position, "2026-01-01T02:00:00Z", minute), all[..1]);
    }

    #[test]
    fn a_clock_that_was_far_ahead_does_not_silence_it() {
        let (now, soon, far) =
            (time("2026-01-01T00:00:00Z"), time("2026-01-01T00:30:00Z"), time("2031-01-01T00:00:00Z"));
        assert_eq!((position(soon, soon, now, now), position(far, far, now, now)), (soon, now));
        assert_eq!(position(now, soon, now, now), now, "nor when that time has nearly come");
        assert_eq!(position(now, far, now, far), far, "a clock that was behind does not repeat it");
    }

    #[test]
    fn a_year_away_is_looked_at_in_no_time() {
        let plan = plan(json!({ "cron": "* * * * * *" }));
        let due = due(&plan, "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z", Missed::CatchUp { most: 3 });
        assert_eq!(due, ["2025-12-31T23:59:58Z", "2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z"]);
    }

    #[test]
    fn names_the_setting_that_cannot_work() {
        let setting = |settings| crate::build("schedule", settings).err().unwrap().setting;
        assert_eq!(setting(json!({})), "cron");
        assert_eq!(setting(json!({ "cron": "0 7 * *" })), "cron");
        assert_eq!(setting(json!({ "cron": "0 0 30 2 *" })), "cron");
        assert_eq!(setting(json!({ "cron": "@daily", "interval_ms": 1 })), "cron");
        assert_eq!(setting(json!({ "cron": "@daily", "time_zone": "Mars/Base" })), "time_zone");
        assert_eq!(setting(json!({ "interval_ms": 0 })), "interval_ms");
        assert_eq!(setting(json!({ "interval_ms": 1, "topic": "a/#" })), "topic");
        assert_eq!(
            setting(json!({ "interval_ms": 1, "missed": "catch_up", "catch_up_max": 0 })),
            "catch_up_max"
        );
    }
}
