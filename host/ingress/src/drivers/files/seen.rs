//! What is known of the files that were read, over restarts, and what is to be done with one. Pure.

use bytes::Bytes;
use sandbar_reading::StateWrite;
use serde::{Deserialize, Serialize};

use super::file::Signature;
use super::tidy::Tidy;

/// Of a file, as it was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) signature: Signature,
    pub(super) standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    /// Its reading is on disk. `tidy`: it was to be removed or moved then.
    Read { event: Event, tidy: bool },
    /// Its readings are on disk up to `offset`.
    Partly { event: Event, offset: u64 },
    /// It had more bytes than a reading may have.
    TooLarge { event: Event },
    /// It was not to be read.
    Passed,
}

/// Why a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    Created,
    Modified,
    Interval,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Read {
        event: Event,
        offset: u64,
    },
    /// To be remembered, and not read.
    Pass,
    /// It was read: it is removed or moved.
    Tidy(Event),
    Leave,
}

/// Which changes are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switches {
    pub(super) on_create: bool,
    pub(super) on_modify: bool,
    /// The most bytes of a file; there is none where files are split.
    pub(super) limit: Option<u64>,
}

impl Event {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Interval => "interval",
        }
    }
}

/// What is to be done with a file that is now as `signature` says.
pub(super) fn decide(
    entry: Option<&Entry>,
    signature: &Signature,
    switches: Switches,
    tidy: &Tidy,
) -> Decision {
    let read = |wanted: bool, event| match wanted {
        true => Decision::Read { event, offset: 0 },
        false => Decision::Pass,
    };
    match entry {
        None => read(switches.on_create, Event::Created),
        Some(entry) if entry.signature != *signature => read(switches.on_modify, Event::Modified),
        Some(entry) => match entry.standing {
            Standing::Partly { event, offset } => Decision::Read { event, offset },
            Standing::TooLarge { event } => {
                match switches.limit.is_none_or(|limit| signature.size <= limit) {
                    true => Decision::Read { event, offset: 0 },
                    false => Decision::Leave,
                }
            }
            Standing::Read { event, tidy: was_to_be } if tidy.takes_earlier(event, was_to_be) => {
                Decision::Tidy(event)
            }
            Standing::Read { .. } | Standing::Passed => Decision::Leave,
        },
    }
}

/// All names of what is kept of files begin with it.
pub(super) const PREFIX: &str = "seen/";

pub(super) fn name(key: &str) -> Box<str> {
    format!("{PREFIX}{key}").into()
}

impl Entry {
    pub(super) fn write(&self, key: &str) -> StateWrite {
        let value = postcard::to_stdvec(self).expect("numbers, written to memory");
        StateWrite { name: name(key), value: Some(Bytes::from(value)), expires: None }
    }

    /// What another version wrote and this one cannot read counts as nothing: the file is read again.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

pub(super) fn forget(key: &str) -> StateWrite {
    StateWrite { name: name(key), value: None, expires: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Signature = Signature { inode: 1, size: 10, modified: 100 };
    const ALL: Switches = Switches { on_create: true, on_modify: true, limit: Some(100) };

    fn entry(standing: Standing) -> Entry {
        Entry { signature: NOW, standing }
    }

    #[test]
    fn a_file_is_read_when_it_is_new_or_has_changed() {
        let none = Tidy::default();
        let read = |event| Decision::Read { event, offset: 0 };
        let seen = entry(Standing::Read { event: Event::Created, tidy: false });
        assert_eq!(decide(None, &NOW, ALL, &none), read(Event::Created));
        assert_eq!(decide(Some(&seen), &NOW, ALL, &none), Decision::Leave);
        for changed in
            [Signature { size: 11, ..NOW }, Signature { modified: 101, ..NOW }, Signature { inode: 2, ..NOW }]
        {
            assert_eq!(decide(Some(&seen), &changed, ALL, &none), read(Event::Modified));
            let off = Switches { on_modify: false, ..ALL };
            assert_eq!(decide(Some(&seen), &changed, off, &none), Decision::Pass);
        }
        assert_eq!(decide(None, &NOW, Switches { on_create: false, ..ALL }, &none), Decision::Pass);
        assert_eq!(decide(Some(&entry(Standing::Passed)), &NOW, ALL, &none), Decision::Leave);
    }

    #[test]
    fn half_of_a_file_goes_on_where_it_was_and_a_larger_limit_is_heard_of() {
        let none = Tidy::default();
        let partly = entry(Standing::Partly { event: Event::Modified, offset: 7 });
        assert_eq!(
            decide(Some(&partly), &NOW, ALL, &none),
            Decision::Read { event: Event::Modified, offset: 7 }
        );
        let large = entry(Standing::TooLarge { event: Event::Created });
        let small = Switches { limit: Some(9), ..ALL };
        assert_eq!(decide(Some(&large), &NOW, small, &none), Decision::Leave);
        assert_eq!(
            decide(Some(&large), &NOW, ALL, &none),
            Decision::Read { event: Event::Created, offset: 0 }
        );
    }

    #[test]
    fn what_was_read_before_a_kill_is_removed_and_not_read_again() {
        let created = Tidy { created: true, ..Tidy::default() };
        let all = Tidy { all_files: true, ..Tidy::default() };
        let but = Tidy { except_modified: true, ..Tidy::default() };
        let earlier = |event, tidy| entry(Standing::Read { event, tidy });
        for (policy, event, was_to_be, expected) in [
            (&created, Event::Created, true, true),
            (&created, Event::Created, false, false),
            (&created, Event::Modified, false, false),
            (&all, Event::Modified, false, true),
            (&but, Event::Created, false, true),
            (&but, Event::Modified, false, false),
        ] {
            let decided = decide(Some(&earlier(event, was_to_be)), &NOW, ALL, policy);
            assert_eq!(decided == Decision::Tidy(event), expected, "{policy:?} {event:?} {was_to_be}");
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry = entry(Standing::Partly { event: Event::Created, offset: 1 << 40 });
        let written = entry.write("a/b");
        assert_eq!(&*written.name, "seen/a/b");
        assert_eq!(Entry::read(&written.value.unwrap()), Some(entry));
        assert_eq!(Entry::read(b"\xff"), None);
    }
}
