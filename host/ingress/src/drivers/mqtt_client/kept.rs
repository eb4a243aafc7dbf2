//! What outlives the link and the host: which messages of QoS 2 are on disk, which devices there are, and what the
//! broker has subscribed for us.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use sandbar_reading::StateWrite;

use crate::{LinkError, Session};

/// `taken/7`: packet identifier 7 is of a message that is on disk, and was not released yet.
const TAKEN: &str = "taken/";
/// `device/k1`: it has sent something once.
const DEVICE: &str = "device/";
const FILTERS: &str = "filters";

#[derive(Default)]
pub(super) struct Kept {
    pub(super) taken: HashSet<u16>,
    pub(super) devices: BTreeSet<Box<str>>,
    pub(super) filters: Vec<(Box<str>, u8)>,
}

impl Kept {
    pub(super) fn read(session: &Session) -> Result<Self, LinkError> {
        let failed = |refused| LinkError::new("reading what was kept", refused);
        let taken = session.kept_names(TAKEN).map_err(failed)?;
        let devices = session.kept_names(DEVICE).map_err(failed)?;
        let filters = session.kept(FILTERS).map_err(failed)?;
        Ok(Self {
            taken: taken.iter().filter_map(|name| name.strip_prefix(TAKEN)?.parse().ok()).collect(),
            devices: devices.iter().filter_map(|name| Some(name.strip_prefix(DEVICE)?.into())).collect(),
            // Of another version of this host: subscribing again does no harm.
            filters: filters.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default(),
        })
    }

    /// The broker has: its packet identifiers begin anew.
    pub(super) async fn forget_session(&mut self, session: &Session) -> Result<(), LinkError> {
        let mut writes: Vec<_> = self.taken.drain().map(released).collect();
        self.filters.clear();
        writes.push(write(FILTERS.to_owned(), None));
        keep(session, writes).await
    }
}

pub(super) fn taken(packet_id: u16) -> StateWrite {
    write(format!("{TAKEN}{packet_id}"), Some(Bytes::from_static(b"1")))
}

pub(super) fn released(packet_id: u16) -> StateWrite {
    write(format!("{TAKEN}{packet_id}"), None)
}

pub(super) fn device(name: &str) -> StateWrite {
    write(format!("{DEVICE}{name}"), Some(Bytes::from_static(b"1")))
}

pub(super) fn filters(filters: &[(Box<str>, u8)]) -> StateWrite {
    let json = serde_json::to_vec(filters).expect("text and numbers are JSON");
    write(FILTERS.to_owned(), Some(json.into()))
}

pub(super) async fn keep(session: &Session, writes: Vec<StateWrite>) -> Result<(), LinkError> {
    session.keep(writes).await.map_err(|refused| LinkError::new("keeping the state of the session", refused))
}

fn write(name: String, value: Option<Bytes>) -> StateWrite {
    StateWrite { name: name.into(), value, expires: None }
}
