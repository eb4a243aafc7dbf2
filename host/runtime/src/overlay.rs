//! What one call wrote, over what is committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbar_reading::{StateWrite, Timestamp};

use crate::state::{StateUnavailable, StateView};

/// Bytes that a name may have.
pub(crate) const NAME_BYTES: usize = 256;

/// One call's view of its key's state.
pub(crate) struct Overlay {
    base: Arc<dyn StateView>,
    now: Timestamp,
    writes: BTreeMap<Box<str>, Write>,
    /// Bytes in use after the writes; read when the first write needs it.
    used: Option<usize>,
}

struct Write {
    /// `None` deletes.
    value: Option<Bytes>,
    expires: Option<Timestamp>,
}

/// Why a value is not taken. Each holds the limit in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooLarge {
    #[error("a name may have {0} bytes")]
    Name(usize),
    #[error("a value may have {0} bytes")]
    Value(usize),
    #[error("all names and values of a key may have {0} bytes together")]
    State(usize),
}

impl Overlay {
    pub(crate) fn new(base: Arc<dyn StateView>, now: Timestamp) -> Self {
        Self { base, now, writes: BTreeMap::new(), used: None }
    }

    pub(crate) fn get(&self, name: &str) -> Result<Option<Bytes>, StateUnavailable> {
        match self.writes.get(name) {
            Some(write) => Ok(write.value.clone()),
            None => self.base.get(name, self.now),
        }
    }

    /// Sets a value for `ttl`; for none at all, it is deleted.
    pub(crate) fn set(
        &mut self,
        name: &str,
        value: Bytes,
        ttl: Option<Duration>,
        value_max: usize,
        state_max: usize,
    ) -> Result<Result<(), TooLarge>, StateUnavailable> {
        if name.len() > NAME_BYTES {
            return Ok(Err(TooLarge::Name(NAME_BYTES)));
        }
        if value.len() > value_max {
            return Ok(Err(TooLarge::Value(value_max)));
        }
        if ttl == Some(Duration::ZERO) {
            return self.delete(name).map(Ok);
        }
        let used = self.used_without(name)? + name.len() + value.len();
        if used > state_max {
            return Ok(Err(TooLarge::State(state_max)));
        }
        self.used = Some(used);
        let expires = ttl.map(|ttl| self.now.after(ttl));
        self.writes.insert(name.into(), Write { value: Some(value), expires });
        Ok(Ok(()))
    }

    /// What is not committed leaves nothing to be written down: writes stay bounded by the state's own limit.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), StateUnavailable> {
        if self.get(name)?.is_none() {
            return Ok(());
        }
        self.used = Some(self.used_without(name)?);
        match self.base.get(name, self.now)? {
            Some(_) => drop(self.writes.insert(name.into(), Write { value: None, expires: None })),
            None => drop(self.writes.remove(name)),
        }
        Ok(())
    }

    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<Box<str>>, StateUnavailable> {
        let mut names = self.base.names(prefix, self.now)?;
        names.retain(|name| !self.writes.contains_key(name));
        let written =
            self.writes.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        let written = written.take_while(|(name, _)| name.starts_with(prefix));
        names.extend(written.filter(|(_, write)| write.value.is_some()).map(|(name, _)| name.clone()));
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) fn into_writes(self) -> Vec<StateWrite> {
        let write = |(name, Write { value, expires })| StateWrite { name, value, expires };
        self.writes.into_iter().map(write).collect()
    }

    fn used_without(&self, name: &str) -> Result<usize, StateUnavailable> {
        let used = match self.used {
            Some(used) => used,
            None => self.base.used(self.now)?,
        };
        let old = self.get(name)?.map_or(0, |value| name.len() + value.len());
        Ok(used.saturating_sub(old))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Committed;

    impl StateView for Committed {
        fn get(&self, name: &str, _: Timestamp) -> Result<Option<Bytes>, StateUnavailable> {
            Ok(["a", "ab"].contains(&name).then(|| Bytes::from_static(b"1234")))
        }

        fn names(&self, prefix: &str, _: Timestamp) -> Result<Vec<Box<str>>, StateUnavailable> {
            Ok(["a", "ab"].into_iter().filter(|name| name.starts_with(prefix)).map(Box::from).collect())
        }

        fn used(&self, _: Timestamp) -> Result<usize, StateUnavailable> {
            Ok(5 + 6)
        }
    }

    fn overlay() -> Overlay {
        Overlay::new(Arc::new(Committed), Timestamp::from_millis(1000))
    }

    fn set(overlay: &mut Overlay, name: &str, value: &'static str, ttl: Option<u64>) -> Result<(), TooLarge> {
        overlay.set(name, Bytes::from(value), ttl.map(Duration::from_millis), 8, 20).unwrap()
    }

    #[test]
    fn a_call_sees_its_own_writes() {
        let mut overlay = overlay();
        set(&mut overlay, "b", "new", None).unwrap();
        set(&mut overlay, "ac", "new", Some(5)).unwrap();
        overlay.delete("ab").unwrap();
        assert_eq!(overlay.get("b").unwrap().unwrap(), "new");
        assert_eq!(overlay.get("ab").unwrap(), None);
        assert_eq!(overlay.names("").unwrap(), ["a".into(), "ac".into(), "b".into()] as [Box<str>; 3]);
        assert_eq!(overlay.names("ac").unwrap(), ["ac".into()] as [Box<str>; 1]);
    }

    #[test]
    fn writes_carry_the_time_they_end() {
        let mut overlay = overlay();
        set(&mut overlay, "x", "v", Some(5)).unwrap();
        set(&mut overlay, "a", "gone at once", Some(0)).unwrap_err();
        set(&mut overlay, "a", "gone", Some(0)).unwrap();
        let writes = overlay.into_writes();
        let expected = [
            StateWrite { name: "a".into(), value: None, expires: None },
            StateWrite {
                name: "x".into(),
                value: Some(Bytes::from_static(b"v")),
                expires: Some(Timestamp::from_millis(1005)),
            },
        ];
        assert_eq!(writes, expected);
    }

    #[test]
    fn what_is_replaced_or_deleted_makes_room() {
        let mut overlay = overlay();
        assert_eq!(set(&mut overlay, &"n".repeat(257), "", None), Err(TooLarge::Name(256)));
        assert_eq!(set(&mut overlay, "n", "123456789", None), Err(TooLarge::Value(8)));
        assert_eq!(set(&mut overlay, "n", "12345678", None), Ok(()));
        assert_eq!(set(&mut overlay, "m", "1", None), Err(TooLarge::State(20)));
        assert_eq!(set(&mut overlay, "a", "123", None), Ok(()));
        assert_eq!(set(&mut overlay, "m", "", None), Ok(()));
        overlay.delete("ab").unwrap();
        assert_eq!(set(&mut overlay, "o", "12345", None), Ok(()));
        overlay.delete("never there").unwrap();
        overlay.delete("o").unwrap();
        assert_eq!(overlay.used, Some(9 + 4 + 1));
        assert_eq!(overlay.into_writes().len(), 4);
    }
}
