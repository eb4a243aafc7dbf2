//! What was leapt over when the clock was set forward has not gone by. Pure: time is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Step, Timestamp};

/// So many are remembered.
const LEAPS_MAX: usize = 64;

/// Where the clock was set forward since the host began. `K` tells of things in which order they came: a time, or an id.
#[derive(Clone, Debug)]
pub struct Leaps<K> {
    began: K,
    leaps: VecDeque<Leap<K>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Leap<K> {
    /// What came before it, at most.
    last: K,
    /// By how much the clock was set, but for what was taken back since.
    pub by: Duration,
    /// What the clock has said since, at least; likewise.
    pub now: Timestamp,
}

impl<K: Copy + Ord> Leaps<K> {
    /// Of what came before `began` nobody knows how much time has gone by: the box may have been off for as long as its
    /// clock was wrong.
    pub const fn new(began: K) -> Self {
        Self { began, leaps: VecDeque::new() }
    }

    /// The clock was set, and says `now`; `last`: what came before that, at most, if it was set forward by so much.
    pub fn add(&mut self, step: Step, now: Timestamp, last: impl FnOnce(Duration) -> K) {
        match step {
            Step::Forward(by) => {
                if self.leaps.len() == LEAPS_MAX {
                    self.leaps.pop_front();
                }
                self.leaps.push_back(Leap { last: last(by), by, now });
            }
            Step::Back(by) => self.take_back(by),
        }
    }

    /// What was too much is put right: it counts no more, from the newest on.
    fn take_back(&mut self, mut by: Duration) {
        while let Some(leap) = self.leaps.back_mut() {
            let taken = leap.by.min(by);
            by -= taken;
            leap.by -= taken;
            leap.now = leap.now.before(taken);
            if !leap.by.is_zero() {
                return;
            }
            self.leaps.pop_back();
        }
    }

    /// Those since what came at `key`, oldest first.
    pub fn since(&self, key: K) -> impl Iterator<Item = &Leap<K>> {
        self.leaps.iter().filter(move |leap| self.began <= key && key <= leap.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn now(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + seconds * 1000)
    }

    fn add(leaps: &mut Leaps<Timestamp>, step: Step, at: u64) {
        leaps.add(step, now(at), |by| now(at).before(by));
    }

    fn leapt(leaps: &Leaps<Timestamp>, seconds: u64) -> u64 {
        leaps.since(now(seconds)).map(|leap| leap.by.as_secs()).sum()
    }

    #[test]
    fn what_was_leapt_over_has_not_gone_by_for_what_was_there_then() {
        let by = Duration::from_secs;
        let mut leaps = Leaps::new(now(0));
        add(&mut leaps, Step::Forward(by(1000)), 1010);
        add(&mut leaps, Step::Forward(by(50)), 1250);
        assert_eq!([5, 1020, 1251].map(|seconds| leapt(&leaps, seconds)), [1050, 50, 0]);
        assert_eq!(leaps.since(Timestamp::from_millis(1)).count(), 0, "the host was off");
    }

    /// The clock was a year ahead for a minute: what was there before stayed for a year longer.
    #[test]
    fn what_is_taken_back_counts_no_more() {
        let by = Duration::from_secs;
        let mut leaps = Leaps::new(now(0));
        add(&mut leaps, Step::Forward(by(1000)), 1010);
        add(&mut leaps, Step::Back(by(3)), 1100);
        assert_eq!((leapt(&leaps, 5), leaps.leaps[0].now), (997, now(1007)));
        add(&mut leaps, Step::Forward(by(50)), 1250);
        add(&mut leaps, Step::Back(by(70)), 1300);
        assert_eq!([5, 1020].map(|seconds| leapt(&leaps, seconds)), [977, 0]);
        add(&mut leaps, Step::Back(by(2000)), 5);
        assert_eq!((leapt(&leaps, 5), leaps.leaps.len()), (0, 0));
    }
}
