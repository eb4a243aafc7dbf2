//! What is kept between readings.

use bytes::Bytes;

use crate::{Name, Timestamp};

/// Whose state: no other scope sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// A handler's, for one key of its route.
    Route { route: Name, key: Box<str> },
    /// A driver's, for its ingress: positions, packet ids, idempotency keys.
    Ingress(Name),
}

/// One change of a scope's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWrite {
    pub name: Box<str>,
    /// `None` deletes.
    pub value: Option<Bytes>,
    /// After this the value is gone.
    pub expires: Option<Timestamp>,
}
