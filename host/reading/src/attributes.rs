//! What a protocol says of a reading beside its payload: `("mqtt.qos", "1")`.

/// The host's own attributes begin with this; a handler's or a peer's that do are dropped.
pub const RESERVED_PREFIX: &str = "sandbar.";

/// Pairs in the order they were added; a key may occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<(Box<str>, Box<str>)>);

impl Attributes {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub fn add(&mut self, key: impl Into<Box<str>>, value: impl Into<Box<str>>) {
        self.0.push((key.into(), value.into()));
    }

    #[must_use]
    pub fn with(mut self, key: impl Into<Box<str>>, value: impl Into<Box<str>>) -> Self {
        self.add(key, value);
        self
    }

    /// The first value under `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    pub fn as_slice(&self) -> &[(Box<str>, Box<str>)] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// In place of the first value under `key`.
    pub fn set(&mut self, key: &str, value: impl Into<Box<str>>) {
        let value = value.into();
        match self.0.iter_mut().find(|(k, _)| **k == *key) {
            Some((_, old)) => *old = value,
            None => self.add(key, value),
        }
    }

    /// Drops what only the host may say.
    pub fn remove_reserved(&mut self) {
        self.0.retain(|(key, _)| !key.starts_with(RESERVED_PREFIX));
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_repeats_and_drops_the_hosts_own() {
        let mut attributes = Attributes::new().with("a", "1").with("sandbar.depth", "0").with("a", "2");
        attributes.remove_reserved();
        assert_eq!(attributes.iter().collect::<Vec<_>>(), [("a", "1"), ("a", "2")]);
        assert_eq!((attributes.get("a"), attributes.size()), (Some("1"), 4));
        attributes.set("a", "3");
        attributes.set("b", "4");
        assert_eq!(attributes.iter().collect::<Vec<_>>(), [("a", "3"), ("a", "2"), ("b", "4")]);
    }
}
