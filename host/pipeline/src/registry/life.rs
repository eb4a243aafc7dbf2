//! Whether a device is there. Pure: time is passed in.

use std::time::Duration;

use sandbar_reading::{Step, Timestamp};
use sandbar_store::Presence;

/// For how long what was said of a parting explains the end of a connection.
const PARTING: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) presence: Presence,
    /// Since when.
    pub(super) since: Timestamp,
    /// The same, and never later than the clock says now: what is heard after it was set back is news, too.
    turned: Timestamp,
    pub(super) last_seen: Timestamp,
    /// From when on its silence counts: when it was heard of, or the host began to listen.
    quiet_since: Timestamp,
    /// How many connections it has.
    holds: u32,
    /// What was said of how it goes, and when.
    parting: Option<(Presence, Timestamp)>,
}

/// For how long a device may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Said of this device, its type or its ingress: also while it is connected.
    Own(Duration),
    /// Said of all: while it is not connected.
    Usual(Duration),
    Unlimited,
}

impl Life {
    pub(super) fn begin(now: Timestamp) -> Self {
        Self {
            presence: Presence::Online,
            since: now,
            turned: now,
            last_seen: now,
            quiet_since: now,
            holds: 0,
            parting: None,
        }
    }

    /// As it was when the host stopped: nobody could be heard meanwhile.
    pub(super) fn resume(presence: Presence, since: Timestamp, last_seen: Timestamp, now: Timestamp) -> Self {
        Self { presence, since, turned: since.min(now), last_seen, ..Self::begin(now) }
    }

    pub(super) fn is_held(&self) -> bool {
        self.holds > 0
    }

    /// It was heard of at `at`, which may be ahead of a clock that was set back: ids only grow.
    pub(super) fn seen(&mut self, at: Timestamp, now: Timestamp) {
        self.last_seen = self.last_seen.max(at.min(now));
        self.quiet_since = self.quiet_since.max(at.min(now));
        // What is looked at late may be from before it went.
        if at >= self.turned {
            self.become_(Presence::Online, now);
        }
    }

    pub(super) fn held(&mut self, now: Timestamp) {
        self.holds += 1;
        self.parting = None;
        self.seen(now, now);
    }

    pub(super) fn released(&mut self, now: Timestamp) {
        self.holds = self.holds.saturating_sub(1);
        if self.holds > 0 {
            return;
        }
        let said = self.parting.take().filter(|(_, at)| now.since(*at) < PARTING);
        // One that was found to be silent stays lost.
        if self.presence == Presence::Online {
            self.become_(said.map_or(Presence::Offline, |(presence, _)| presence), now);
        }
    }

    /// `presence`: how it goes.
    pub(super) fn parts(&mut self, presence: Presence, now: Timestamp) {
        match self.holds {
            0 => self.become_(presence, now),
            _ => self.parting = Some((presence, now)),
        }
    }

    /// Whether it has been silent for too long.
    pub(super) fn look(&mut self, silence: Silence, now: Timestamp) {
        if self.due(silence).is_some_and(|due| due <= now) {
            self.become_(Presence::Lost, now);
        }
    }

    /// When it will have been silent for too long, if it can be.
    pub(super) fn due(&self, silence: Silence) -> Option<Timestamp> {
        match silence {
            _ if self.presence != Presence::Online => None,
            Silence::Own(silence) => Some(self.quiet_since.after(silence)),
            Silence::Usual(silence) if self.holds == 0 => Some(self.quiet_since.after(silence)),
            Silence::Usual(_) | Silence::Unlimited => None,
        }
    }

    /// Somebody set the clock: a silence is as long as it was.
    pub(super) fn clock_was_set(&mut self, step: Step, now: Timestamp) {
        // What was heard since then has the new time already.
        self.quiet_since = step.of(self.quiet_since).min(now);
        self.turned = self.turned.min(now);
        self.last_seen = self.last_seen.min(now);
    }

    fn become_(&mut self, presence: Presence, now: Timestamp) {
        if self.presence != presence {
            (self.presence, self.since, self.turned) = (presence, now, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use Presence::{Lost, Offline, Online};

    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn usual(seconds: u64) -> Silence {
        Silence::Usual(Duration::from_secs(seconds))
    }

    fn own(seconds: u64) -> Silence {
        Silence::Own(Duration::from_secs(seconds))
    }

    #[test]
    fn silence_loses_a_device_on_time_and_a_word_brings_it_back() {
        let mut life = Life::begin(at(0));
        life.seen(at(10), at(10));
        assert_eq!(life.due(usual(120)), Some(at(130)));
        life.look(usual(120), at(129));
        assert_eq!(life.presence, Online);
        life.look(usual(120), at(130));
        assert_eq!((life.presence, life.since, life.last_seen), (Lost, at(130), at(10)));
        assert_eq!(life.due(usual(120)), None);
        life.seen(at(129), at(131));
        assert_eq!(life.presence, Lost, "it was heard of before");
        life.seen(at(200), at(200));
        assert_eq!((life.presence, life.since), (Online, at(200)));
    }

    #[test]
    fn a_connected_device_may_be_silent_unless_its_own_silence_says_otherwise() {
        let mut life = Life::begin(at(0));
        life.held(at(0));
        assert_eq!(life.due(usual(10)), None);
        assert_eq!(life.due(own(10)), Some(at(10)));
        life.look(own(10), at(10));
        assert_eq!(life.presence, Lost);
        life.released(at(11));
        assert_eq!((life.presence, life.since), (Lost, at(10)));
        assert_eq!(life.due(Silence::Unlimited), None);
    }

    #[test]
    fn one_of_two_connections_may_end() {
        let mut life = Life::begin(at(0));
        life.held(at(1));
        life.held(at(1));
        life.parts(Lost, at(2));
        life.released(at(2));
        assert_eq!(life.presence, Online);
        life.released(at(60));
        assert_eq!(life.presence, Offline, "what was said of the first is no word on the second");
    }

    #[test]
    fn how_the_last_connection_ends_is_how_it_goes() {
        for (said, then) in [(None, Offline), (Some(Offline), Offline), (Some(Lost), Lost)] {
            let mut life = Life::begin(at(0));
            life.held(at(1));
            if let Some(said) = said {
                life.parts(said, at(2));
            }
            life.released(at(2));
            assert_eq!(life.presence, then);
        }
        let mut life = Life::begin(at(0));
        life.parts(Offline, at(5));
        assert_eq!((life.presence, life.since), (Offline, at(5)));
    }

    #[test]
    fn the_hosts_own_absence_is_nobodys_silence() {
        let mut life = Life::resume(Online, at(10), at(20), at(5000));
        assert_eq!(life.due(usual(100)), Some(at(5100)));
        life.seen(at(30), at(5001));
        assert_eq!((life.since, life.last_seen, life.due(usual(100))), (at(10), at(30), Some(at(5100))));
    }

    /// A box without a clock of its own is told the time after its start: all its devices were lost at once.
    #[test]
    fn a_clock_that_is_set_is_nobodys_silence() {
        let mut life = Life::resume(Online, at(0), at(0), at(100));
        life.clock_was_set(Step::Forward(Duration::from_secs(9000)), at(9110));
        life.look(usual(100), at(9110));
        assert_eq!((life.presence, life.due(usual(100))), (Online, Some(at(9200))));
        life.look(usual(100), at(9200));
        assert_eq!(life.presence, Lost);

        let mut life = Life::begin(at(9000));
        life.clock_was_set(Step::Back(Duration::from_secs(8000)), at(1010));
        assert_eq!(life.due(usual(100)), Some(at(1100)));
        // Its readings' ids go on where the clock was.
        life.seen(at(9001), at(1020));
        assert_eq!((life.last_seen, life.due(usual(100))), (at(1020), Some(at(1120))));
    }

    #[test]
    fn a_device_comes_back_also_while_the_clock_is_behind() {
        for mut life in [Life::resume(Offline, at(5000), at(5000), at(100)), {
            let mut life = Life::resume(Offline, at(0), at(0), at(5000));
            life.parts(Lost, at(5001));
            life.clock_was_set(Step::Back(Duration::from_secs(4901)), at(100));
            life
        }] {
            life.held(at(101));
            assert_eq!((life.presence, life.since), (Online, at(101)));
        }
    }
}
