//! Which readings of a host arrived lately: what it sends again is known by its id. Kept in the driver's own state, in
//! the transaction that the reading is written in.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use sandbar_reading::{DeliveryId, Name, StateWrite};

use crate::{LinkError, Session};

/// How many ids are remembered. A host offers again what was on its way when it, or the link, was lost: a batch of its
/// outbox, of which it has no more than so many on their way.
pub(super) const REMEMBERED: usize = 4096;

/// A place for an id, which was taken for a reading that is on its way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

#[derive(Debug)]
pub(super) struct Seen {
    /// What the rows' names begin with.
    prefix: String,
    /// By place.
    ids: Vec<Option<DeliveryId>>,
    /// Those that are free, and those of the oldest ids, first.
    places: VecDeque<usize>,
    known: HashSet<DeliveryId>,
    on_its_way: HashSet<DeliveryId>,
    /// Counts the ids that were written: which is older.
    count: u64,
}

/// What is to be done with a reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    New(Place),
    /// It is on disk.
    Known,
    /// It will be acknowledged.
    OnItsWay,
}

impl Seen {
    pub(super) fn load(session: &Session, host: &Name) -> Result<Self, LinkError> {
        let mut seen = Self::new(host);
        let mut rows = Vec::new();
        let prefix = seen.prefix.clone();
        session
            .each_kept(&prefix, &mut |name, value| rows.extend(row(&prefix, name, value)))
            .map_err(|refused| LinkError::new("reading what was kept", refused))?;
        rows.sort_unstable_by_key(|(count, _, _)| *count);
        for (count, place, id) in rows {
            seen.places.retain(|free| *free != place);
            seen.places.push_back(place);
            seen.ids[place] = Some(id);
            seen.known.insert(id);
            seen.count = count;
        }
        Ok(seen)
    }

    fn new(host: &Name) -> Self {
        Self {
            prefix: format!("seen/{host}/"),
            ids: vec![None; REMEMBERED],
            places: (0..REMEMBERED).collect(),
            known: HashSet::new(),
            on_its_way: HashSet::new(),
            count: 0,
        }
    }

    pub(super) fn arrives(&mut self, id: DeliveryId) -> Arrival {
        if self.known.contains(&id) {
            return Arrival::Known;
        }
        if self.on_its_way.contains(&id) {
            return Arrival::OnItsWay;
        }
        match self.places.pop_front() {
            Some(place) => {
                self.on_its_way.insert(id);
                Arrival::New(Place(place))
            }
            // More are on their way than are ever taken from a connection.
            None => Arrival::OnItsWay,
        }
    }

    /// What is to be written with the reading.
    pub(super) fn write(&mut self, place: Place, id: DeliveryId) -> StateWrite {
        self.count += 1;
        let value = [&self.count.to_be_bytes()[..], &id.as_u128().to_be_bytes()].concat();
        let name = format!("{}{:04}", self.prefix, place.0).into();
        StateWrite { name, value: Some(Bytes::from(value)), expires: None }
    }

    /// The reading is on disk.
    pub(super) fn taken(&mut self, place: Place, id: DeliveryId) {
        self.on_its_way.remove(&id);
        if let Some(forgotten) = self.ids[place.0].replace(id) {
            self.known.remove(&forgotten);
        }
        self.known.insert(id);
        self.places.push_back(place.0);
    }

    /// The reading was refused.
    pub(super) fn refused(&mut self, place: Place, id: DeliveryId) {
        self.on_its_way.remove(&id);
        self.places.push_front(place.0);
    }
}

fn row(prefix: &str, name: &str, value: &[u8]) -> Option<(u64, usize, DeliveryId)> {
    let place = name.strip_prefix(prefix)?.parse().ok().filter(|place| *place < REMEMBERED)?;
    let (count, id) = value.split_first_chunk::<8>()?;
    let id = u128::from_be_bytes(id.try_into().ok()?);
    Some((u64::from_be_bytes(*count), place, DeliveryId::from_u128(id)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::contract::StandIn;

    fn id(number: u128) -> DeliveryId {
        DeliveryId::from_u128(number)
    }

    fn take(seen: &mut Seen, number: u128) -> Option<StateWrite> {
        let Arrival::New(place) = seen.arrives(id(number)) else { return None };
        let write = seen.write(place, id(number));
        seen.taken(place, id(number));
        Some(write)
    }

    #[tokio::test]
    async fn what_arrived_is_known_also_after_a_restart_until_many_came_after_it() {
        let host = StandIn::new();
        let session = Session::new("tested".parse().unwrap(), Arc::clone(&host) as _, <_>::default());
        let (mine, other): (Name, Name) = ("site-a".parse().unwrap(), "site".parse().unwrap());
        let mut seen = Seen::load(&session, &mine).unwrap();
        let more = REMEMBERED as u128 + 10;
        for number in 0..more {
            let write = take(&mut seen, number).unwrap();
            session.keep(vec![write]).await.unwrap();
        }
        for mut seen in [seen, Seen::load(&session, &mine).unwrap()] {
            assert_eq!(seen.arrives(id(more - 1)), Arrival::Known);
            assert_eq!(seen.arrives(id(10)), Arrival::Known);
            assert!(matches!(seen.arrives(id(9)), Arrival::New(_)), "the oldest are forgotten");
            take(&mut seen, more).unwrap();
            assert_eq!(seen.arrives(id(more - 1)), Arrival::Known);
        }
        let mut of_other = Seen::load(&session, &other).unwrap();
        assert!(take(&mut of_other, more - 1).is_some());
    }

    #[test]
    fn what_was_refused_may_come_again() {
        let mut seen = Seen::new(&"a".parse().unwrap());
        let Arrival::New(place) = seen.arrives(id(1)) else { panic!("it is new") };
        assert_eq!(seen.arrives(id(1)), Arrival::OnItsWay);
        seen.refused(place, id(1));
        assert_eq!(seen.arrives(id(1)), Arrival::New(place));
    }
}
