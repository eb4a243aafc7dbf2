//! Readings that are committed after younger ones: those whose payload is to be written first, and those that must
//! not overtake them. Who keeps in mind how far in the journal they have come needs to know of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// By the first of their ids. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Late(Arc<Mutex<BTreeSet<u128>>>);

/// Until it is dropped.
pub(crate) struct IsLate {
    late: Late,
    id: u128,
}

impl Late {
    pub(crate) fn note(&self, id: u128) -> IsLate {
        self.0.lock().insert(id);
        IsLate { late: self.clone(), id }
    }

    pub(crate) fn oldest(&self) -> Option<u128> {
        self.0.lock().first().copied()
    }
}

impl Drop for IsLate {
    fn drop(&mut self) {
        self.late.0.lock().remove(&self.id);
    }
}
