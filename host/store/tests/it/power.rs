//! The power goes at any moment: what was acknowledged is there, and nothing is there by half.
//!
//! `SANDBAR_SEEDS=from..to` runs others than the usual seeds; a failure names its own.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;
use sandbar_reading::ReadingId;
use sandbar_store::simulated::Simulated;
use sandbar_store::{Lane, Options, Outcome, ReadingQuery};

use crate::rig::{Rig, accept, delivery, handled, lane, options, scope_of, sink, weight, write};

fn seeds() -> Range<u64> {
    let asked = std::env::var("SANDBAR_SEEDS").ok();
    let range = asked.as_deref().and_then(|range| range.split_once(".."));
    range.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?)).unwrap_or(0..1000)
}

/// What handlers put out.
const OUT: &str = {
    const BYTES: [u8; 700] = [b'o'; 700];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// What its user knows of the store.
struct Run {
    rig: Rig,
    random: StdRng,
    lanes: Vec<Lane>,
    acknowledged: Vec<ReadingId>,
    settled: Vec<(Lane, ReadingId)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        // Both ways of committing.
        let quick_repair_above = if random.random_bool(0.5) { 0 } else { u64::MAX };
        // Some payloads have files, or none.
        let inline_max = if random.random_bool(0.5) { 500 } else { usize::MAX };
        let options = Options {
            seed: Some(seed),
            quick_repair_above,
            quick_repair_lull: Duration::ZERO,
            inline_max,
            ..options()
        };
        Self {
            rig: Rig::on(Simulated::new(seed), options),
            random,
            lanes: (0..4).map(|n| lane(&format!("r{}", n % 2), &format!("k{n}"))).collect(),
            acknowledged: Vec::new(),
            settled: Vec::new(),
        }
    }

    /// Accepts and settles until the power goes.
    async fn until_dark(&mut self) {
        self.rig.disk.lose_power_after(self.random.random_range(1..120));
        for _ in 0..60 {
            let accepts: Vec<_> = (0..self.random.random_range(0..6))
                .filter_map(|n| {
                    let lane = &self.lanes[self.random.random_range(0..self.lanes.len())];
                    self.rig.store.accept(accept(&[lane], &"x".repeat(n * 400))).ok()
                })
                .collect();
            let settles = self.settles();
            let mut dark = false;
            for journaling in accepts {
                match journaling.committed.await {
                    Ok(receipt) => self.acknowledged.push(receipt.id()),
                    Err(_) => dark = true,
                }
            }
            for (lane, ids, settle) in settles {
                match settle.await {
                    Ok(()) => self.settled.extend(ids.into_iter().map(|id| (lane.clone(), id))),
                    Err(_) => dark = true,
                }
            }
            if dark {
                break;
            }
        }
    }

    /// Some of what waits is handled: counted in the lane's state and put out.
    fn settles(
        &mut self,
    ) -> Vec<(Lane, Vec<ReadingId>, impl Future<Output = Result<(), sandbar_store::StoreError>> + use<>)>
    {
        let mut settles = Vec::new();
        for lane in &self.lanes {
            let count = self.random.random_range(0..3);
            let Ok(waiting) = self.rig.store.waiting(&lane.route, lane.id(), &|_| false, count, usize::MAX)
            else {
                break;
            };
            let ids: Vec<_> = waiting.items.iter().map(|waiting| waiting.reading.id).collect();
            if ids.is_empty() {
                continue;
            }
            let Ok(counter) = self.rig.store.state(&scope_of(lane), "count") else { break };
            let counter =
                counter.map_or(0, |text| std::str::from_utf8(&text).unwrap().parse::<usize>().unwrap());
            let outcome = Outcome {
                deliveries: ids.iter().map(|id| delivery(&sink(&lane.key), *id, OUT)).collect(),
                state: vec![write("count", &(counter + ids.len()).to_string())],
                ..handled(lane, &ids)
            };
            settles.push((lane.clone(), ids, self.rig.store.settle(outcome)));
        }
        settles
    }

    /// Nothing acknowledged is missing, and what belongs together agrees.
    fn check(&self, seed: u64) {
        let rig = &self.rig;
        for id in &self.acknowledged {
            assert!(
                rig.store.reading(*id).unwrap().is_some(),
                "seed {seed}: {id} was acknowledged and is gone"
            );
        }
        let page =
            rig.store.readings(&ReadingQuery { limit: usize::MAX, ..ReadingQuery::default() }).unwrap();
        let (mut handled, mut waiting) = (0, 0);
        for lane in &self.lanes {
            let waits = rig.waiting_ids(lane);
            let count = rig.state_text(&scope_of(lane), "count").map_or(0, |text| text.parse().unwrap());
            let put_out = rig.queued(&sink(&lane.key));
            assert_eq!(count, put_out.len(), "seed {seed}: state and outbox of {lane:?}");
            let whole = put_out.iter().all(|queued| queued.delivery.message.payload == OUT);
            assert!(whole, "seed {seed}: a delivery is not what was put out");
            let mut times = BTreeMap::<_, usize>::new();
            put_out.iter().for_each(|queued| *times.entry(queued.delivery.reading).or_default() += 1);
            assert!(times.values().all(|times| *times == 1), "seed {seed}: handled twice in effect");
            assert!(waits.iter().all(|id| !times.contains_key(id)), "seed {seed}: handled, and waits");
            let settled = self.settled.iter().filter(|(of, _)| of == lane);
            assert!(
                settled.into_iter().all(|(_, id)| times.contains_key(id)),
                "seed {seed}: a settled outcome is gone"
            );
            handled += count;
            waiting += waits.len();
        }
        assert_eq!(handled + waiting, page.items.len(), "seed {seed}: every reading waits or was handled");
        let bytes: u64 =
            page.items.iter().map(|reading| weight(reading.payload.len(), rig.options.inline_max)).sum();
        let whole = page.items.iter().all(|reading| reading.payload.iter().all(|byte| *byte == b'x'));
        assert!(whole, "seed {seed}: a reading is not what was accepted");
        let stats = rig.store.stats();
        let files = rig.disk.payloads().len();
        assert_eq!(files as u64, stats.payloads, "seed {seed}: files, and what is referred to");
        let counted = (stats.journal_count, stats.journal_bytes, stats.waiting, stats.outbox);
        let found = (page.items.len() as u64, bytes, waiting as u64, handled as u64);
        assert_eq!(counted, found, "seed {seed}: the counts");
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_there_by_half() {
    for seed in seeds() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new(seed);
            for _ in 0..3 {
                run.until_dark().await;
                run.rig.store.clone().close().await;
                run.rig.disk.restore_power();
                run.rig.open();
                run.check(seed);
            }
        });
    }
}

/// Whether opening these bytes walks the whole file.
fn needs_a_walk(bytes: &[u8]) -> bool {
    let walked = Arc::new(AtomicBool::new(false));
    let disk = redb::backends::InMemoryBackend::new();
    disk.set_len(bytes.len() as u64).unwrap();
    disk.write(0, bytes).unwrap();
    let told = walked.clone();
    let mut builder = redb::Database::builder();
    builder.set_repair_callback(move |_| told.store(true, Ordering::Relaxed));
    builder.create_with_backend(disk).unwrap();
    walked.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn after_a_lull_a_large_file_is_opened_without_a_walk() {
    let rig = Rig::new(Options { quick_repair_above: 1, ..options() });
    for _ in 0..5 {
        rig.put(&[], "x").await;
    }
    assert!(needs_a_walk(&rig.disk.bytes()));
    let commits = rig.store.stats().commits;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!needs_a_walk(&rig.disk.bytes()));
    assert_eq!(rig.store.stats().commits, commits + 1);
    // With time between them, each reading's own commit saves it.
    rig.put(&[], "x").await;
    assert!(!needs_a_walk(&rig.disk.bytes()));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(rig.store.stats().commits, commits + 2);
}
