//! What must be true once everything has drained, whatever happened before.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use sandbar_reading::{DeliveryId, Reading, ReadingId, Scope, Target};
use sandbar_store::{DeadLetterQuery, ReadingQuery, Store, Subject};

use crate::far_end::{Taken, Told};
use crate::handler::{COUNTER, key, number};
use crate::script::{Fate, LOOP, label, text};
use crate::world::{Passing, World, name};

/// What there is to be compared.
struct Found<'a> {
    world: &'a World,
    journal: BTreeMap<ReadingId, Reading>,
    /// Those of readings, by route.
    dead: BTreeMap<(String, ReadingId), (u32, String)>,
    /// What each target took, or never will take, by id.
    put_out: BTreeMap<(String, DeliveryId), Taken>,
}

pub(crate) fn check(world: &World, store: &Store) -> Result<()> {
    ensure!(
        store.routes_waiting()?.is_empty() && store.targets()?.is_empty(),
        "the counts say that nothing waits, the rows do not"
    );
    let found = Found::find(world, store)?;
    found.receipts().context("receipts")?;
    found.order_of_deliveries().context("order of deliveries")?;
    for (route, sinks) in [("count", &["near", "far"][..]), ("again", &["far"])] {
        found.every_reading(route, sinks).with_context(|| format!("route {route}"))?;
        found.counts(store, route, sinks[0], 1).with_context(|| format!("route {route}"))?;
    }
    found.chained().context("chained readings")?;
    found.loops().context("the depth limit")?;
    found.commands().context("commands")?;
    found.passing(store).context("route passing")?;
    found.kept(store).context("the driver's state")
}

impl<'a> Found<'a> {
    fn find(world: &'a World, store: &Store) -> Result<Self> {
        let readings = store.readings(&ReadingQuery { limit: usize::MAX, ..ReadingQuery::default() })?;
        let letters =
            store.dead_letters(&DeadLetterQuery { limit: usize::MAX, ..DeadLetterQuery::default() })?;
        let mut found = Self {
            world,
            journal: readings.items.into_iter().map(|reading| (reading.id, reading)).collect(),
            dead: BTreeMap::new(),
            put_out: BTreeMap::new(),
        };
        // What the journal has forgotten was seen by a handler before.
        found.journal.extend(world.memory.lock().seen.clone());
        for taken in &world.memory.lock().taken {
            found.put_out.insert((taken.target.clone(), taken.delivery), taken.clone());
        }
        for letter in letters.items {
            match letter.subject {
                Subject::Reading { lane, reading } => {
                    let twice = found
                        .dead
                        .insert((lane.route.to_string(), reading.id), (letter.attempts, letter.cause));
                    ensure!(twice.is_none(), "{} is a dead letter of {} twice", reading.id, lane.route);
                }
                Subject::Delivery { target, delivery } => {
                    let label = text(&delivery.message.payload).to_owned();
                    let (target, told) = match target {
                        Target::Sink(sink) => (format!("sink {sink}"), Some(Told::by(&delivery))),
                        Target::Device(device) => (format!("device {device}"), None),
                    };
                    let short = target.split(' ').next_back().unwrap_or_default();
                    ensure!(
                        world.script.never_taken(short, &label),
                        "{target} was given up on with {label}: {}",
                        letter.cause
                    );
                    let never = Taken { target: target.clone(), delivery: delivery.id, told, label };
                    let twice = found.put_out.insert((target, delivery.id), never);
                    ensure!(twice.is_none(), "{} was taken and given up on", delivery.id);
                }
            }
        }
        Ok(found)
    }

    /// Every receipt's reading is in the journal; nothing is there that nobody sent, or twice; in the order of
    /// the calls.
    fn receipts(&self) -> Result<()> {
        let memory = self.world.memory.lock();
        let sent: BTreeMap<_, _> =
            memory.sent.iter().enumerate().map(|(at, sent)| (sent.label.as_str(), at)).collect();
        for (label, id) in memory.sent.iter().filter_map(|sent| Some((&sent.label, sent.receipt?))) {
            let reading = self
                .journal
                .get(&id)
                .with_context(|| format!("{id} {label} was acknowledged and is lost"))?;
            ensure!(text(&reading.payload) == label, "{id} is {reading:?}, not {label}");
        }
        let mut last = None;
        for reading in self.journal.values().filter(|reading| reading.lineage.parent.is_none()) {
            let at = sent.get(label(reading)).with_context(|| format!("nobody sent {}", label(reading)))?;
            ensure!(
                last.is_none_or(|last| last < at),
                "{} is journaled twice, or after a later one",
                label(reading)
            );
            last = Some(at);
        }
        Ok(())
    }

    /// Repeats apart, a target takes deliveries in the order of their ids.
    fn order_of_deliveries(&self) -> Result<()> {
        let mut last: BTreeMap<&str, DeliveryId> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let memory = self.world.memory.lock();
        for taken in memory.taken.iter().filter(|taken| !memory.redriven.contains(&taken.delivery)) {
            if seen.insert((taken.target.clone(), taken.delivery)) {
                // A target lives as long as the run, its name is borrowed from what is found.
                let (target, _) = self
                    .put_out
                    .get_key_value(&(taken.target.clone(), taken.delivery))
                    .context("not found")?
                    .0;
                let before = last.insert(target, taken.delivery);
                ensure!(
                    before.is_none_or(|before| before < taken.delivery),
                    "{target}: {} comes after {before:?}",
                    taken.delivery
                );
            }
        }
        Ok(())
    }

    fn takes(&self, route: &str, reading: &Reading) -> bool {
        match route {
            "count" => reading.ingress.as_str() == "peers",
            _ => reading.ingress.as_str() == "route/count",
        }
    }

    /// What the sink got of the reading from the route: under one id, or not at all.
    fn output(&self, route: &str, reading: ReadingId, sink: &str) -> Result<Option<&Told>> {
        let of = |taken: &&Taken| {
            taken.told.as_ref().is_some_and(|told| told.reading == reading && told.route == route)
        };
        let target = format!("sink {sink}");
        let mut all = self.put_out.values().filter(|taken| taken.target == target).filter(of);
        let one = all.next();
        ensure!(all.next().is_none(), "{reading} reached {target} under two ids");
        Ok(one.and_then(|taken| taken.told.as_ref()))
    }

    /// Each is handled once in effect, or a dead letter, as its script says.
    fn every_reading(&self, route: &str, sinks: &[&str]) -> Result<()> {
        for reading in self.journal.values().filter(|reading| self.takes(route, reading)) {
            let (id, fate) = (reading.id, self.world.script.fate(route, reading));
            let dead = self.dead.get(&(route.to_owned(), id));
            ensure!(
                dead.is_some() == fate.is_dead_letter(),
                "{id} {}: {fate:?}, and {dead:?}",
                label(reading)
            );
            self.check_cause(fate, dead)?;
            let outputs =
                sinks.iter().map(|sink| self.output(route, id, sink)).collect::<Result<Vec<_>>>()?;
            for output in &outputs {
                ensure!(
                    output.is_some() != dead.is_some(),
                    "{id} {}: {fate:?}, {dead:?}, {outputs:?}",
                    label(reading)
                );
                ensure!(output.map(|told| told.n) == outputs[0].map(|told| told.n), "{id}: {outputs:?}");
            }
        }
        let stray = self.dead.keys().find(|(of, id)| of == route && !self.journal.contains_key(id));
        ensure!(stray.is_none(), "a dead letter of nothing: {stray:?}");
        Ok(())
    }

    fn check_cause(&self, fate: Fate, dead: Option<&(u32, String)>) -> Result<()> {
        let Some((attempts, cause)) = dead else { return Ok(()) };
        let as_scripted = match fate {
            Fate::Rejected => cause == "rejected: scripted",
            _ => cause.contains("scripted") && *attempts == self.world.plan.attempts.max.get(),
        };
        ensure!(as_scripted, "{fate:?} gave {attempts} attempts and `{cause}`");
        Ok(())
    }

    /// In the order of ids the readings of a key count without a gap, and its state is the last count.
    fn counts(&self, store: &Store, route: &str, sink: &str, epoch: u64) -> Result<()> {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for reading in self.journal.values() {
            let Some(told) = self.output(route, reading.id, sink)?.filter(|told| told.epoch == epoch) else {
                continue;
            };
            let count = last.entry(key(self.world, route, reading)).or_default();
            *count += 1;
            ensure!(
                told.n == *count,
                "{} {} counted as {}, not as {count}",
                reading.id,
                label(reading),
                told.n
            );
        }
        let passing = self.world.memory.lock().passing;
        if route == "passing" && passing != Passing::There(epoch) {
            last.values_mut().for_each(|count| *count = 0);
        }
        if route == "passing" && matches!(passing, Passing::There(now) if now != epoch) {
            return Ok(());
        }
        for (key, count) in last {
            let scope = Scope::Route { route: name(route), key: key.as_str().into() };
            let state = store.state(&scope, COUNTER)?.map_or(0, |value| number(&value));
            ensure!(state == count, "the state of key `{key}` is {state}, {count} were handled");
        }
        Ok(())
    }

    /// Each reading that the first route handled became one reading for the second.
    fn chained(&self) -> Result<()> {
        let mut children: BTreeMap<ReadingId, usize> = BTreeMap::new();
        for child in self.journal.values().filter(|child| self.takes("again", child)) {
            let Some(parent) = child.lineage.parent else { continue };
            let parent = self.journal.get(&parent).with_context(|| format!("{} has no parent", child.id))?;
            ensure!(label(parent) == label(child) && child.lineage.depth == 1, "{parent:?} became {child:?}");
            *children.entry(parent.id).or_default() += 1;
        }
        for reading in self.journal.values().filter(|reading| reading.lineage.parent.is_none()) {
            let dead = self.world.script.fate("count", reading).is_dead_letter();
            let children = children.get(&reading.id).copied().unwrap_or_default();
            ensure!(
                children == usize::from(!dead),
                "{} {} has {children} children",
                reading.id,
                label(reading)
            );
        }
        Ok(())
    }

    /// What the second route handled goes round between two others until that is too deep, and is a dead letter then.
    fn loops(&self) -> Result<()> {
        let mut children: BTreeMap<ReadingId, Vec<&Reading>> = BTreeMap::new();
        for child in self.journal.values() {
            if let Some(parent) = child.lineage.parent {
                children.entry(parent).or_default().push(child);
            }
        }
        let (plan, script) = (&self.world.plan, &self.world.script);
        for reading in self.journal.values().filter(|reading| self.takes("again", reading)) {
            let mut last = reading;
            while let Some([child, others @ ..]) = children.get(&last.id).map(Vec::as_slice) {
                ensure!(others.is_empty(), "{} has {} children", last.id, others.len() + 1);
                ensure!(child.lineage.depth == last.lineage.depth + 1, "{child:?} is of {last:?}");
                last = child;
            }
            let goes_round = plan.loops && !script.fate("again", reading).is_dead_letter();
            let expected = if goes_round { plan.depth_max } else { reading.lineage.depth };
            ensure!(last.lineage.depth == expected, "{last:?} is the last of {reading:?}, not at {expected}");
            let dead: Vec<_> =
                LOOP.iter().filter_map(|route| self.dead.get(&((*route).to_owned(), last.id))).collect();
            let is_told = dead.iter().all(|(_, cause)| cause.starts_with("a loop: "));
            ensure!(dead.len() == usize::from(goes_round) && is_told, "{last:?}: {dead:?}");
        }
        let dead = self.dead.keys().filter(|(route, _)| LOOP.contains(&route.as_str())).count();
        let ends =
            self.journal.values().filter(|reading| plan.loops && reading.lineage.depth == plan.depth_max);
        ensure!(dead == ends.count(), "{dead} ends of loops are dead letters");
        Ok(())
    }

    fn commands(&self) -> Result<()> {
        let mut commanded: BTreeMap<&str, usize> = BTreeMap::new();
        for taken in self.put_out.values().filter(|taken| taken.told.is_none()) {
            *commanded.entry(&taken.label).or_default() += 1;
        }
        for reading in self.journal.values().filter(|reading| self.takes("count", reading)) {
            let script = &self.world.script;
            let expected = script.commands(label(reading)) && !script.fate("count", reading).is_dead_letter();
            let commands = commanded.get(label(reading)).copied().unwrap_or_default();
            ensure!(
                commands == usize::from(expected),
                "{} {}: {commands} commands",
                reading.id,
                label(reading)
            );
        }
        Ok(())
    }

    /// A reading that came while the route was there was handled, or given up on, also because the route was
    /// deleted; one that came while it was not there was left alone.
    fn passing(&self, store: &Store) -> Result<()> {
        let there: BTreeMap<_, _> =
            self.world.memory.lock().sent.iter().map(|sent| (sent.label.clone(), sent.passing)).collect();
        for reading in self.journal.values() {
            let (id, fate) = (reading.id, self.world.script.fate("passing", reading));
            let output = self.output("passing", id, "third")?;
            let dead = self.dead.get(&("passing".to_owned(), id));
            let times = usize::from(output.is_some()) + usize::from(dead.is_some());
            let expected = match reading.lineage.parent {
                // Nobody knows whether the route was there when its parent was handled.
                Some(_) => times.min(1),
                None => usize::from(there[label(reading)]),
            };
            ensure!(times == expected, "{id} {}: {output:?} and {dead:?}", label(reading));
            ensure!(
                output.is_none() || !fate.is_dead_letter(),
                "{id} {}: {fate:?} was handled",
                label(reading)
            );
            if dead.is_some_and(|(_, cause)| cause != "route `passing` was deleted") {
                ensure!(fate.is_dead_letter(), "{id} {}: {fate:?}, and {dead:?}", label(reading));
                self.check_cause(fate, dead)?;
            }
        }
        let epochs: BTreeSet<_> =
            self.put_out.values().filter_map(|taken| Some(taken.told.as_ref()?.epoch)).collect();
        epochs.into_iter().try_for_each(|epoch| self.counts(store, "passing", "third", epoch))
    }

    /// What a driver writes with a reading is there if and only if the reading is.
    fn kept(&self, store: &Store) -> Result<()> {
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        for reading in self.journal.values().filter(|reading| self.takes("count", reading)) {
            last.insert(reading.device.as_deref().unwrap_or_default(), label(reading));
        }
        for (device, label) in last {
            let kept = store.state(&Scope::Ingress(name("peers")), device)?;
            let kept = kept.as_deref().map(text);
            ensure!(kept == Some(label), "{device}: {kept:?}, and the last reading is {label}");
        }
        Ok(())
    }
}
