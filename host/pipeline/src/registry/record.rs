//! What is in memory of one device.

use std::sync::Arc;
use std::time::Duration;

use sandbar_ingress::DeviceInfo;
use sandbar_reading::{Name, ReadingId, Timestamp};
use sandbar_store::{DeviceRow, Presence};

use super::life::{Life, Silence};
use super::words::Words;
use super::{LABELS_MAX, Silences, TEXT_MAX};

/// A device that has come, or spoken for the first time since.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrival {
    pub(super) device: Arc<str>,
    /// What it was told since then needs no second telling.
    pub(super) since: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: Arc<str>,
    pub(super) name: Option<Box<str>>,
    pub(super) is_named: bool,
    pub(super) kind: Option<Box<str>>,
    pub(super) labels: Vec<(Box<str>, Box<str>)>,
    pub(super) ingresses: Vec<Name>,
    pub(super) first_seen: Timestamp,
    pub(super) life: Life,
    pub(super) silence: Option<Duration>,
    /// The last presence that is, or is about to be, a reading.
    pub(super) told: Option<Presence>,
    /// A commit with another one was told to have failed, and may be there.
    pub(super) is_in_doubt: bool,
    /// Some of its resources should have a certain value.
    pub(super) has_desired: bool,
    /// When it came last.
    pub(super) arrived: Timestamp,
    /// It has said nothing since.
    pub(super) is_unheard: bool,
    /// What it said of its resources since they were written.
    pub(super) words: Words,
    /// Since when it differs from its row.
    pub(super) dirty: Option<Timestamp>,
    /// It waits among the urgent.
    pub(super) is_urgent: bool,
    /// When the next look at its silence is to come.
    pub(super) watched: Option<Timestamp>,
    /// The first reading that is not in its row.
    pub(super) unsaved: Option<ReadingId>,
}

impl Record {
    pub(super) fn new(id: Arc<str>, now: Timestamp) -> Self {
        Self {
            id,
            name: None,
            is_named: false,
            kind: None,
            labels: Vec::new(),
            ingresses: Vec::new(),
            first_seen: now,
            life: Life::begin(now),
            silence: None,
            told: None,
            is_in_doubt: false,
            has_desired: false,
            arrived: now,
            is_unheard: false,
            words: Words::default(),
            dirty: None,
            is_urgent: false,
            watched: None,
            unsaved: None,
        }
    }

    pub(super) fn of(row: DeviceRow, now: Timestamp) -> Self {
        Self {
            name: row.name,
            is_named: row.is_named,
            kind: row.kind,
            labels: row.labels,
            ingresses: row.ingresses,
            life: Life::resume(row.presence, row.since, row.last_seen, now),
            silence: row.silence_ms.map(Duration::from_millis),
            told: Some(row.presence),
            ..Self::new((*row.id).into(), row.first_seen)
        }
    }

    pub(super) fn row(&self) -> DeviceRow {
        DeviceRow {
            id: (*self.id).into(),
            name: self.name.clone(),
            is_named: self.is_named,
            kind: self.kind.clone(),
            labels: self.labels.clone(),
            ingresses: self.ingresses.clone(),
            first_seen: self.first_seen,
            last_seen: self.life.last_seen,
            presence: self.life.presence,
            since: self.life.since,
            silence_ms: self.silence.map(|silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// It should be told what its resources ought to be.
    pub(super) fn arrive(&mut self, now: Timestamp) -> Arrival {
        (self.arrived, self.is_unheard) = (now, true);
        Arrival { device: Arc::clone(&self.id), since: None }
    }

    /// The first word since it came: what it had reported before may be true no more.
    pub(super) fn first_word(&mut self) -> Option<Arrival> {
        let is_first = std::mem::take(&mut self.is_unheard) && self.has_desired;
        is_first.then(|| Arrival { device: Arc::clone(&self.id), since: Some(self.arrived) })
    }

    /// This reading is not in its row; it need not be the last one.
    pub(super) fn is_not_saved_from(&mut self, reading: ReadingId) {
        self.unsaved = Some(self.unsaved.map_or(reading, |first| first.min(reading)));
    }

    pub(super) fn through(&mut self, ingress: &Name) {
        if !self.ingresses.contains(ingress) {
            self.ingresses.push(ingress.clone());
        }
    }

    /// Whether anything of it is new.
    pub(super) fn learn(&mut self, info: DeviceInfo) -> bool {
        let before = (self.name.clone(), self.kind.clone(), self.labels.clone(), self.silence);
        let sized = |text: &str| text.len() <= TEXT_MAX;
        if !self.is_named {
            self.name = info.name.filter(|name| sized(name)).or(self.name.take());
        }
        self.kind = info.kind.filter(|kind| sized(kind)).or(self.kind.take());
        self.silence = info.silence.or(self.silence);
        for (key, value) in info.labels {
            match self.labels.binary_search_by(|(other, _)| other.cmp(&key)) {
                Ok(at) => self.labels[at].1 = value,
                Err(at) if self.labels.len() < LABELS_MAX && sized(&key) && sized(&value) => {
                    self.labels.insert(at, (key, value));
                }
                Err(_) => {}
            }
        }
        before != (self.name.clone(), self.kind.clone(), self.labels.clone(), self.silence)
    }

    pub(super) fn silence(&self, silences: &Silences) -> Silence {
        silences.of(self.silence, self.kind.as_deref(), &self.ingresses)
    }
}
