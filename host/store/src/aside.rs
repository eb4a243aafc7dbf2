//! Changes that wait for a payload to be on disk, and those that must not overtake them. Pure.
//!
//! The rest goes by: nobody waits for a picture but who comes behind it in one of its lanes, or writes the same of
//! a driver's state, and who discards what it may belong to.

use std::collections::{HashMap, HashSet, VecDeque};

use twox_hash::XxHash3_64;

use crate::change::Accept;
use crate::devices::DevicesWork;
use crate::payloads::Pins;
use crate::queue::{Change, Size, Work};

#[derive(Default)]
pub(crate) struct Aside {
    entries: VecDeque<Entry>,
    /// In how many entries each order is.
    orders: HashMap<Order, usize>,
    last_ticket: u64,
}

/// Changes that share one are committed in the order of the calls.
pub(crate) type Order = u64;

/// What a change must not overtake.
pub(crate) enum Behind {
    /// Those that share one of these.
    Orders(Vec<Order>),
    /// Whatever came before. What comes after it may go by.
    All,
}

struct Entry {
    /// What it waits for; nothing but others if there is none.
    ticket: Option<u64>,
    change: Change,
    size: Size,
    behind: Behind,
}

impl Entry {
    fn orders(&self) -> &[Order] {
        match &self.behind {
            Behind::Orders(orders) => orders,
            Behind::All => &[],
        }
    }
}

/// What a change must not overtake.
pub(crate) fn behind(work: &Work) -> Behind {
    match work {
        // What is on its way may be for them: it would stay for ever.
        Work::DiscardRoute(_) | Work::DiscardTarget(_) | Work::DiscardIngress(_) => Behind::All,
        work => Behind::Orders(orders(work)),
    }
}

/// Which orders a change has to keep to.
fn orders(work: &Work) -> Vec<Order> {
    let of_lanes = |accept: &Accept, orders: &mut Vec<Order>| {
        let order = |route: &str, lane: u64| XxHash3_64::oneshot(route.as_bytes()).rotate_left(1) ^ lane;
        orders.extend(accept.lanes.iter().map(|lane| order(lane.route.as_str(), lane.id().0)));
    };
    let of_state = |ingress: &str, name: &str| {
        XxHash3_64::oneshot(name.as_bytes()) ^ XxHash3_64::oneshot(ingress.as_bytes()).rotate_left(2)
    };
    let mut orders = Vec::new();
    match work {
        Work::Accept(accept) => {
            of_lanes(accept, &mut orders);
            let written = accept.keep.iter().map(|write| of_state(accept.ingress.as_str(), &write.name));
            orders.extend(written);
        }
        Work::Keep { scope: sandbar_reading::Scope::Ingress(ingress), writes, .. } => {
            orders.extend(writes.iter().map(|write| of_state(ingress.as_str(), &write.name)));
        }
        Work::Settle(outcome) => outcome.chained.iter().for_each(|accept| of_lanes(accept, &mut orders)),
        Work::Replayed(replayed) => replayed.chained.iter().for_each(|accept| of_lanes(accept, &mut orders)),
        Work::Devices(work) => match &**work {
            DevicesWork::Batch(batch) => {
                batch.readings.iter().for_each(|accept| of_lanes(accept, &mut orders));
            }
            DevicesWork::Command(command) => orders.push(XxHash3_64::oneshot(command.device.as_bytes())),
            _ => {}
        },
        _ => {}
    }
    orders
}

impl Aside {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether somebody here must go before such a change.
    pub(crate) fn holds_back(&self, behind: &Behind) -> bool {
        match behind {
            Behind::Orders(orders) => orders.iter().any(|order| self.orders.contains_key(order)),
            Behind::All => !self.is_empty(),
        }
    }

    /// Something that must not overtake what is here.
    pub(crate) fn add(&mut self, change: Change, size: Size, behind: Behind) {
        self.push(Entry { ticket: None, change, size, behind });
    }

    /// Something whose payload is yet to be written: then [`Self::written`] or [`Self::refused`] is told the ticket.
    pub(crate) fn add_waiting(&mut self, change: Change, size: Size, behind: Behind) -> u64 {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        self.push(Entry { ticket: Some(ticket), change, size, behind });
        ticket
    }

    /// The payload is on disk: what may go now. Of a ticket that is not here, since it was refused meanwhile, the files
    /// come back: to give them up takes who lets go of the queue first.
    pub(crate) fn written(&mut self, ticket: u64, pins: Pins) -> Result<Vec<(Change, Size)>, Pins> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.ticket == Some(ticket)) else {
            return Err(pins);
        };
        entry.ticket = None;
        entry.change.pins = Some(pins);
        Ok(self.freed())
    }

    /// What may go now, in order.
    pub(crate) fn freed(&mut self) -> Vec<(Change, Size)> {
        let (mut stays, mut held_back) = (false, HashSet::new());
        self.remove(|entry| {
            let is_held = match &entry.behind {
                Behind::Orders(orders) => orders.iter().any(|order| held_back.contains(order)),
                Behind::All => stays,
            };
            let goes = entry.ticket.is_none() && !is_held;
            if !goes {
                stays = true;
                held_back.extend(entry.orders().iter().copied());
            }
            goes
        })
    }

    /// The payload could not be written: its change goes, and all that would now come out of order. What is left may
    /// be [`Self::freed`] by that.
    pub(crate) fn refused(&mut self, ticket: u64) -> Vec<(Change, Size)> {
        let mut missing = HashSet::new();
        self.remove(|entry| {
            let goes =
                entry.ticket == Some(ticket) || entry.orders().iter().any(|order| missing.contains(order));
            if goes {
                missing.extend(entry.orders().iter().copied());
            }
            goes
        })
    }

    /// Everything, ready or not.
    pub(crate) fn drain(&mut self) -> Vec<(Change, Size)> {
        self.remove(|_| true)
    }

    fn push(&mut self, entry: Entry) {
        for order in entry.orders() {
            *self.orders.entry(*order).or_default() += 1;
        }
        self.entries.push_back(entry);
    }

    fn remove(&mut self, mut goes: impl FnMut(&Entry) -> bool) -> Vec<(Change, Size)> {
        let mut gone = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            if !goes(&entry) {
                self.entries.push_back(entry);
                continue;
            }
            for order in entry.orders() {
                if let Some(count) = self.orders.get_mut(order) {
                    *count -= 1;
                    if *count == 0 {
                        self.orders.remove(order);
                    }
                }
            }
            gone.push((entry.change, entry.size));
        }
        gone
    }
}
