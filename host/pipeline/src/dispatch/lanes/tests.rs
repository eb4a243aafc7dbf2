//! The lanes against a store in a few lines: whatever the order of commits, loads and turns, every reading
//! is handled once and each lane in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use sandbar_reading::{Attributes, ContentType, Lineage, Reading, ReadingId};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn lane(key: &str) -> Lane {
    Lane { route: "r".parse().unwrap(), key: key.into() }
}

fn waiting(key: &str, id: u128) -> Waiting {
    let reading = Reading {
        id: ReadingId::from_u128(id),
        ingress: "i".parse().unwrap(),
        topic: "t".parse().unwrap(),
        device: None,
        time: NOW,
        content_type: ContentType::TEXT,
        attributes: Attributes::new(),
        payload: "x".into(),
        lineage: Lineage::default(),
    };
    Waiting { lane: lane(key), reading: Arc::new(reading), attempts: 0, due: Timestamp::default() }
}

fn small() -> Window {
    Window { readings: 6, bytes: 1 << 20, lanes: 3, per_lane: 4 }
}

/// What the store would say.
#[derive(Default)]
struct Rows {
    by_lane: BTreeMap<String, Vec<u128>>,
    last: u128,
}

impl Rows {
    fn commit(&mut self, key: &str) -> Waiting {
        self.last += 1;
        self.by_lane.entry(key.to_owned()).or_default().push(self.last);
        waiting(key, self.last)
    }

    fn answer(&self, lanes: &mut Lanes, wanted: Wanted) {
        match wanted {
            Wanted::Readings { lane, count, .. } => {
                let ids = self.by_lane.get(&*lane.key).cloned().unwrap_or_default();
                let all = ids.len() <= count;
                let readings = ids.into_iter().take(count).map(|id| waiting(&lane.key, id)).collect();
                let _ = lanes.loaded(lane.id(), readings, all, NOW);
            }
            Wanted::Lanes { count, .. } => {
                let unknown: Vec<_> = self
                    .by_lane
                    .iter()
                    .filter(|(_, ids)| !ids.is_empty())
                    .map(|(key, _)| lane(key))
                    .filter(|lane| !lanes.knows(lane.id()))
                    .collect();
                let all = unknown.len() <= count;
                lanes.found(unknown.into_iter().take(count).collect(), all);
            }
        }
    }

    fn settle(&mut self, key: &str, handled: usize) -> Vec<u128> {
        self.by_lane.get_mut(key).map(|ids| ids.drain(..handled).collect()).unwrap_or_default()
    }
}

fn handled(count: usize) -> Ended {
    Ended::Settled { handled: count, attempts: 0, retry_at: None }
}

fn caught_up(window: Window) -> Lanes {
    let mut lanes = Lanes::new(window);
    assert_eq!(lanes.wanted(), Some(Wanted::Lanes { count: window.lanes, behind: None }));
    lanes.found(Vec::new(), true);
    lanes
}

#[test]
fn one_key_waits_for_its_turn_and_others_do_not() {
    let mut lanes = caught_up(Window::default());
    assert_eq!(lanes.push(waiting("a", 1), NOW), Need::Runner);
    assert_eq!(lanes.push(waiting("a", 2), NOW), Need::Nothing);
    assert_eq!(lanes.push(waiting("b", 3), NOW), Need::Runner);
    let first = lanes.take(1, 1 << 20).unwrap();
    let second = lanes.take(1, 1 << 20).unwrap();
    assert_eq!((&*first.lane.key, &*second.lane.key), ("a", "b"));
    assert!(lanes.take(1, 1 << 20).is_none(), "both lanes are running");
    assert_eq!(lanes.ended(first.lane.id(), handled(1), NOW), Need::Runner);
    assert_eq!(lanes.take(1, 1 << 20).unwrap().readings[0].reading.id.as_u128(), 2);
}

#[test]
fn a_failing_key_waits_alone_and_only_its_head_stays_in_memory() {
    let mut lanes = caught_up(Window::default());
    for id in 1..=3 {
        let _ = lanes.push(waiting("a", id), NOW);
    }
    let turn = lanes.take(9, 1 << 20).unwrap();
    let due = NOW.after(Duration::from_secs(5));
    let failed = Ended::Settled { handled: 0, attempts: 1, retry_at: Some(due) };
    assert_eq!(lanes.ended(turn.lane.id(), failed, NOW), Need::WakeAt(due));
    assert_eq!(lanes.loaded, 1);
    assert!(lanes.take(9, 1 << 20).is_none());
    assert_eq!(lanes.wake(turn.lane.id(), due), Need::Runner);
    let again = lanes.take(9, 1 << 20).unwrap();
    assert_eq!((again.readings.len(), again.readings[0].attempts), (1, 1));
    // The rest comes back from the store.
    assert_eq!(lanes.ended(turn.lane.id(), handled(1), due), Need::Runner);
    assert!(matches!(lanes.wanted(), Some(Wanted::Readings { .. })));
}

/// Two heads of 8 MiB that waited for their next attempt, and their route stood still until then.
#[test]
fn lanes_that_wait_leave_room_for_those_that_do_not() {
    let each = waiting("a", 1).reading.size();
    for window in [
        Window { bytes: 2 * each, ..Window::default() },
        Window { readings: 2, ..Window::default() },
        Window { readings: 1, ..Window::default() },
    ] {
        let mut lanes = caught_up(window);
        let due = NOW.after(Duration::from_secs(5));
        let failed = Ended::Settled { handled: 0, attempts: 1, retry_at: Some(due) };
        for (id, key) in (1..).zip(["a", "b"]) {
            assert_eq!(lanes.push(waiting(key, id), NOW), Need::Runner);
            let turn = lanes.take(9, 1 << 20).unwrap();
            assert_eq!(lanes.ended(turn.lane.id(), failed, NOW), Need::WakeAt(due));
        }
        assert_eq!(lanes.push(waiting("c", 3), NOW), Need::Runner, "{window:?}");
        assert_eq!(&*lanes.take(9, 1 << 20).unwrap().lane.key, "c");
        assert_eq!(lanes.ended(lane("c").id(), handled(1), NOW), Need::Nothing);

        // Its head comes back from the store, and is due though the clock was set back meanwhile.
        assert_eq!(lanes.wake(lane("b").id(), due), Need::Runner);
        let Some(Wanted::Readings { lane, .. }) = lanes.wanted() else { panic!("nothing wanted") };
        let head = Waiting { attempts: 1, due, ..waiting("b", 2) };
        assert_eq!(lanes.loaded(lane.id(), vec![head], true, NOW), Need::Runner);
        assert_eq!(lanes.take(9, 1 << 20).unwrap().readings[0].reading.id.as_u128(), 2);
    }
}

/// As many keys as a route had in memory failed, and it handled no other before one of their times came.
#[test]
fn keys_that_fail_take_no_place_of_those_that_do_not() {
    let window = Window { lanes: 2, ..Window::default() };
    let mut lanes = caught_up(window);
    let due = NOW.after(Duration::from_secs(5));
    let failed = Ended::Settled { handled: 0, attempts: 1, retry_at: Some(due) };
    for id in 1..=16 {
        assert_eq!(lanes.push(waiting(&id.to_string(), id), NOW), Need::Runner);
        let turn = lanes.take(9, 1 << 20).unwrap();
        assert_eq!(lanes.ended(turn.lane.id(), failed, NOW), Need::WakeAt(due));
    }
    // There is an end to it.
    assert_eq!((lanes.push(waiting("more", 17), NOW), lanes.has_work()), (Need::Nothing, false));
    assert_eq!(lanes.wake(lane("1").id(), due), Need::Runner);
    let turn = lanes.take(9, 1 << 20).unwrap();
    assert_eq!(lanes.ended(turn.lane.id(), handled(1), due), Need::Runner);
    assert_eq!(lanes.wanted(), Some(Wanted::Lanes { count: 1, behind: None }));
}

#[test]
fn lanes_are_looked_for_behind_the_one_that_was_found_last() {
    let mut lanes = Lanes::new(small());
    assert_eq!(lanes.wanted(), Some(Wanted::Lanes { count: 3, behind: None }));
    lanes.found(vec![lane("a"), lane("b"), lane("c")], false);
    while let Some(wanted) = lanes.wanted() {
        let Wanted::Readings { lane, .. } = wanted else { panic!("there is no place") };
        assert_eq!(lanes.loaded(lane.id(), vec![waiting(&lane.key, 1)], true, NOW), Need::Runner);
    }
    let turn = lanes.take(9, 1 << 20).unwrap();
    assert_eq!(lanes.ended(turn.lane.id(), handled(1), NOW), Need::Runner);
    let behind = Some(lane("c").id());
    assert_eq!(lanes.wanted(), Some(Wanted::Lanes { count: 1, behind }));
    lanes.found(Vec::new(), false);
    assert_eq!(lanes.wanted(), Some(Wanted::Lanes { count: 1, behind }));
}

#[test]
fn a_lane_that_cannot_be_loaded_waits_for_itself_and_ever_longer() {
    let mut lanes = Lanes::new(Window::default());
    assert!(matches!(lanes.wanted(), Some(Wanted::Lanes { .. })));
    lanes.found(vec![lane("a"), lane("b")], true);
    let id = lane("a").id();
    for seconds in [0.5, 1.0, 2.0] {
        let Some(Wanted::Readings { lane: wanted, .. }) = lanes.wanted() else { panic!("nothing wanted") };
        assert_eq!(wanted.id(), id);
        assert_eq!(lanes.unloadable(id, false), Need::WakeAfter(Duration::from_secs_f64(seconds)));
        if seconds == 0.5 {
            let Some(Wanted::Readings { .. }) = lanes.wanted() else { panic!("the other one is not wanted") };
            assert_eq!(lanes.loaded(lane("b").id(), vec![waiting("b", 2)], true, NOW), Need::Runner);
            assert_eq!(&*lanes.take(9, 1 << 20).unwrap().lane.key, "b");
        }
        assert_eq!(lanes.wanted(), None);
        assert_eq!(lanes.wake(id, NOW), Need::Runner);
    }
    // Each of its damaged readings made it wait twice as long, though it had become a dead letter.
    for _ in 0..3 {
        assert!(matches!(lanes.wanted(), Some(Wanted::Readings { .. })));
        assert_eq!(lanes.unloadable(id, true), Need::WakeAfter(Duration::from_millis(500)));
        assert_eq!(lanes.wake(id, NOW), Need::Runner);
    }
    // What comes then has its own time.
    let _ = lanes.wanted();
    let due = NOW.after(Duration::from_secs(5));
    let head = Waiting { attempts: 1, due, ..waiting("a", 1) };
    assert_eq!(lanes.loaded(id, vec![head], true, NOW), Need::WakeAt(due));
}

#[test]
fn a_reading_pushed_while_its_lane_is_loaded_is_not_forgotten() {
    let mut lanes = caught_up(small());
    let mut rows = Rows::default();
    for _ in 0..6 {
        let _ = lanes.push(rows.commit("a"), NOW);
    }
    let turn = lanes.take(9, 1 << 20).unwrap();
    let count = turn.readings.len();
    rows.settle("a", count);
    let _ = lanes.ended(turn.lane.id(), handled(count), NOW);
    let Some(Wanted::Readings { lane, .. }) = lanes.wanted() else { panic!("nothing wanted") };
    let before: Vec<_> = rows.by_lane["a"].iter().map(|id| waiting("a", *id)).collect();
    // Committed after the store was asked.
    let _ = lanes.push(rows.commit("a"), NOW);
    let _ = lanes.loaded(lane.id(), before, true, NOW);
    let turn = lanes.take(9, 1 << 20).unwrap();
    rows.settle("a", turn.readings.len());
    assert_eq!(lanes.ended(lane.id(), handled(turn.readings.len()), NOW), Need::Runner);
    assert!(matches!(lanes.wanted(), Some(Wanted::Readings { .. })));
}

#[test]
fn what_the_store_knows_better_is_read_anew() {
    let mut lanes = caught_up(Window::default());
    let _ = lanes.push(waiting("a", 1), NOW);
    let turn = lanes.take(9, 1 << 20).unwrap();
    assert_eq!(lanes.ended(turn.lane.id(), Ended::Stale, NOW), Need::Runner);
    assert_eq!(lanes.loaded, 0);
    assert!(matches!(lanes.wanted(), Some(Wanted::Readings { .. })));
}

proptest! {
    /// Steps: commit a reading of one of five keys, take a turn, end the oldest turn, answer what is wanted,
    /// be told by a late commit of what has already been loaded, fail the oldest turn, wake what has failed, or
    /// give no answer.
    #[test]
    fn every_reading_is_handled_once_and_each_key_in_order(steps in prop::collection::vec((0..9u8, 0..6u8), 1..200)) {
        let (mut lanes, mut rows) = (Lanes::new(small()), Rows::default());
        let mut running: VecDeque<Turn> = VecDeque::new();
        let mut seen: BTreeMap<String, Vec<u128>> = BTreeMap::new();
        let mut late: Vec<Waiting> = Vec::new();
        let mut blocked: Vec<LaneId> = Vec::new();
        let mut end = |lanes: &mut Lanes, rows: &mut Rows, turn: Turn| {
            let key = turn.lane.key.to_string();
            let ids: Vec<_> = turn.readings.iter().map(|waiting| waiting.reading.id.as_u128()).collect();
            prop_assert_eq!(&rows.settle(&key, ids.len()), &ids, "out of order or twice");
            seen.entry(key).or_default().extend(&ids);
            let _ = lanes.ended(turn.lane.id(), handled(ids.len()), NOW);
            Ok(())
        };
        for (step, key) in steps {
            match step {
                0 => { let _ = lanes.push(rows.commit(&key.to_string()), NOW); }
                1 => running.extend(lanes.take(3, 1 << 20)),
                2 => if let Some(turn) = running.pop_front() { end(&mut lanes, &mut rows, turn)? },
                3 => if let Some(wanted) = lanes.wanted() { rows.answer(&mut lanes, wanted) },
                5 => if let Some(turn) = running.pop_front() {
                    let retry_at = Some(NOW.after(Duration::from_secs(1)));
                    let _ = lanes.ended(turn.lane.id(), Ended::Settled { handled: 0, attempts: 1, retry_at }, NOW);
                    blocked.push(turn.lane.id());
                },
                6 => if let Some(id) = blocked.pop() { let _ = lanes.wake(id, NOW.after(Duration::from_secs(1))); },
                7 => match lanes.wanted() {
                    Some(Wanted::Readings { lane, .. }) => {
                        let _ = lanes.unloadable(lane.id(), false);
                        blocked.push(lane.id());
                    }
                    Some(Wanted::Lanes { .. }) => lanes.not_answered(None),
                    None => {}
                },
                8 => match lanes.wanted() {
                    Some(Wanted::Readings { lane, .. }) => lanes.not_answered(Some(lane.id())),
                    Some(Wanted::Lanes { .. }) => lanes.not_answered(None),
                    None => {}
                },
                _ => {
                    // Committed and perhaps loaded before the news of it arrives; news keep their order.
                    late.push(rows.commit(&key.to_string()));
                    if let Some(wanted) = lanes.wanted() { rows.answer(&mut lanes, wanted) }
                    for waiting in late.drain(..) { let _ = lanes.push(waiting, NOW); }
                }
            }
            prop_assert!(lanes.loaded <= small().readings + small().per_lane);
            let waits = lanes.lanes.values().filter(|lane| lane.phase == Phase::Blocked).count();
            prop_assert_eq!(lanes.blocked, waits);
        }
        for id in blocked {
            let _ = lanes.wake(id, NOW.after(Duration::from_secs(1)));
        }
        for _ in 0..10_000 {
            while let Some(wanted) = lanes.wanted() { rows.answer(&mut lanes, wanted) }
            running.extend(lanes.take(3, 1 << 20));
            match running.pop_front() {
                Some(turn) => end(&mut lanes, &mut rows, turn)?,
                None if !lanes.has_work() => break,
                None => {}
            }
        }
        let handled: usize = seen.values().map(Vec::len).sum();
        prop_assert_eq!(handled as u128, rows.last, "readings were forgotten");
    }
}
