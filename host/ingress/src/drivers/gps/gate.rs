//! Which fixes become readings. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use super::fix::{Fix, distance_m};

/// What is set of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two readings, at least.
    pub(super) interval: Duration,
    /// Metres to have moved since the reading before.
    pub(super) distance_m: Option<f64>,
    /// After so long, a reading is made of something that did not move, too.
    pub(super) still: Option<Duration>,
    /// Without a fix for so long, it is lost.
    pub(super) lost_after: Duration,
}

/// What was said so far.
#[derive(Debug)]
pub(super) struct Gate {
    pace: Pace,
    said: Option<Said>,
    /// When there was a fix last; in the beginning, when it was begun to listen.
    fix: Instant,
    /// When the receiver said anything last.
    heard: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Said {
    Lost,
    At { position: (f64, f64), when: Instant },
}

impl Gate {
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, said: None, fix: now, heard: None }
    }

    /// A receiver is listened to, perhaps again.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.fix, self.heard) = (now, None);
    }

    /// It was not listened for so long, which is no silence of the receiver's.
    pub(super) fn held_up(&mut self, time: Duration) {
        self.fix += time;
        self.heard = self.heard.map(|heard| heard + time);
    }

    /// Whether it is to be a reading.
    pub(super) fn lets(&mut self, fix: &Fix, now: Instant) -> bool {
        self.heard = Some(now);
        let Some(position) = fix.latitude_deg.zip(fix.longitude_deg).filter(|_| fix.is_some()) else {
            return self.is_lost(now);
        };
        self.fix = now;
        let is_due = match self.said {
            None | Some(Said::Lost) => true,
            Some(Said::At { position: before, when }) => {
                let passed = now - when;
                let moved = self.pace.distance_m.is_none_or(|least| distance_m(before, position) >= least);
                let is_old = self.pace.still.is_some_and(|still| passed >= still);
                passed >= self.pace.interval && (moved || is_old)
            }
        };
        if is_due {
            self.said = Some(Said::At { position, when: now });
        }
        is_due
    }

    /// When it will be lost, if nothing comes; `None` if that has been said.
    pub(super) fn due(&self) -> Option<Instant> {
        (!matches!(self.said, Some(Said::Lost))).then_some(self.fix + self.pace.lost_after)
    }

    /// What is to be said when that time has come.
    pub(super) fn lost(&mut self, now: Instant) -> Option<Fix> {
        let is_silent = self.heard.is_none_or(|heard| now - heard >= self.pace.lost_after);
        let cause = if is_silent { "the receiver is silent" } else { "the receiver has no fix" };
        self.is_lost(now).then(|| Fix::none(cause))
    }

    /// What is to be said when the receiver is gone. Of one that never had a fix, nothing.
    pub(super) fn gone(&mut self) -> Option<Fix> {
        let had_fix = matches!(self.said, Some(Said::At { .. }));
        had_fix.then(|| {
            self.said = Some(Said::Lost);
            Fix::none("the receiver is gone")
        })
    }

    fn is_lost(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| now >= due);
        if is_due {
            self.said = Some(Said::Lost);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::super::fix::Kind;
    use super::*;

    fn at(latitude: f64) -> Fix {
        Fix { fix: Kind::Full, latitude_deg: Some(latitude), longitude_deg: Some(8.0), ..Fix::default() }
    }

    fn pace(distance_m: Option<f64>, still: Option<u64>) -> Pace {
        Pace {
            interval: Duration::from_secs(10),
            distance_m,
            still: still.map(Duration::from_secs),
            lost_after: Duration::from_secs(5),
        }
    }

    fn gate(pace: Pace) -> (Gate, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Gate::new(pace, start), move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn the_first_fix_counts_and_then_one_in_each_interval() {
        let (mut gate, at_second) = gate(pace(None, None));
        let let_through: Vec<u64> =
            (0..25).filter(|second| gate.lets(&at(47.0), at_second(*second))).collect();
        assert_eq!(let_through, [0, 10, 20]);
    }

    #[test]
    fn what_does_not_move_is_said_now_and_then_only() {
        let (mut gate, at_second) = gate(pace(Some(100.0), Some(60)));
        assert!(gate.lets(&at(47.0), at_second(0)));
        // 55 m, 111 m.
        assert!(!gate.lets(&at(47.0005), at_second(20)));
        assert!(gate.lets(&at(47.001), at_second(21)));
        let still: Vec<u64> = (22..100).filter(|second| gate.lets(&at(47.001), at_second(*second))).collect();
        assert_eq!(still, [81]);
    }

    #[test]
    fn a_lost_fix_is_said_once_and_its_return_at_once() {
        let (mut gate, at_second) = gate(pace(None, None));
        assert!(gate.lets(&at(47.0), at_second(0)));
        let none = Fix::none("the receiver has no fix");
        let lost: Vec<u64> = (1..20).filter(|second| gate.lets(&none, at_second(*second))).collect();
        assert_eq!((lost, gate.due()), (vec![5], None));
        assert_eq!(gate.lost(at_second(30)), None, "once only");
        assert_eq!(gate.gone(), None);
        assert!(gate.lets(&at(47.0), at_second(31)));
    }

    #[test]
    fn the_time_that_the_disk_took_is_no_silence() {
        let (mut gate, at_second) = gate(pace(None, None));
        assert!(gate.lets(&at(47.0), at_second(0)));
        gate.held_up(Duration::from_secs(20));
        assert_eq!((gate.due(), gate.lost(at_second(24))), (Some(at_second(25)), None));
    }

    #[test]
    fn a_silent_receiver_has_lost_it_too() {
        let (mut gate, at_second) = gate(pace(None, None));
        assert_eq!(gate.due(), Some(at_second(5)));
        assert!(gate.lets(&at(47.0), at_second(2)));
        assert_eq!((gate.due(), gate.lost(at_second(6))), (Some(at_second(7)), None));
        assert_eq!(gate.lost(at_second(7)), Some(Fix::none("the receiver is silent")));
        gate.begin(at_second(10));
        assert!(gate.lets(&at(47.0), at_second(11)));
        assert_eq!(gate.gone(), Some(Fix::none("the receiver is gone")));
    }
}
