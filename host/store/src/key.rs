//! The keys of the tables: bytes that sort as what they stand for, so that everything of one route, lane,
//! target or scope is one range.
//!
//! Text that may hold any character is escaped so that it never contains a NUL, which ends it; names
//! contain none anyway.

use sandbar_reading::{Name, Scope, Target};

use crate::change::LaneId;
use crate::documents::Kind;

const END: u8 = 0;
/// What sorts right behind [`END`]: a range's end.
const BEHIND: u8 = 1;

/// `route NUL`: everything that waits for the route.
pub(crate) fn route(key: &mut Vec<u8>, route: &Name) {
    key.clear();
    key.extend_from_slice(route.as_str().as_bytes());
    key.push(END);
}

/// `route NUL lane`: everything that waits in the lane.
pub(crate) fn lane(key: &mut Vec<u8>, route_name: &Name, lane: LaneId) {
    route(key, route_name);
    key.extend_from_slice(&lane.0.to_be_bytes());
}

/// `route NUL lane reading`
pub(crate) fn waiting(key: &mut Vec<u8>, route: &str, lane: LaneId, reading: u128) {
    key.clear();
    key.extend_from_slice(route.as_bytes());
    key.push(END);
    key.extend_from_slice(&lane.0.to_be_bytes());
    key.extend_from_slice(&reading.to_be_bytes());
}

/// The parts of a [`waiting`] key.
pub(crate) fn split_waiting(key: &[u8]) -> Option<(&str, LaneId, u128)> {
    let (key, reading) = split_id(key)?;
    let (route, lane) = key.split_last_chunk::<8>()?;
    let (&END, route) = route.split_last()? else { return None };
    Some((std::str::from_utf8(route).ok()?, LaneId(u64::from_be_bytes(*lane)), reading))
}

/// `s name NUL` or `d device NUL`: everything that is queued for the target.
pub(crate) fn target(key: &mut Vec<u8>, target: &Target) {
    key.clear();
    match target {
        Target::Sink(name) => {
            key.push(b's');
            key.extend_from_slice(name.as_str().as_bytes());
        }
        Target::Device(device) => {
            key.push(b'd');
            escape(key, device);
        }
    }
    key.push(END);
}

/// `target delivery`
pub(crate) fn queued(key: &mut Vec<u8>, of: &Target, delivery: u128) {
    target(key, of);
    key.extend_from_slice(&delivery.to_be_bytes());
}

/// The parts of a [`queued`] key.
pub(crate) fn split_queued(key: &[u8]) -> Option<(Target, u128)> {
    let (key, delivery) = split_id(key)?;
    let (&END, target) = key.split_last()? else { return None };
    let (kind, name) = target.split_first()?;
    let target = match kind {
        b's' => Target::Sink(std::str::from_utf8(name).ok()?.parse().ok()?),
        b'd' => Target::Device(unescape(name)?.into()),
        _ => return None,
    };
    Some((target, delivery))
}

/// `i ingress NUL` or `r route NUL key NUL`: all state of the scope.
pub(crate) fn scope(key: &mut Vec<u8>, scope: &Scope) {
    match scope {
        Scope::Ingress(name) => {
            key.clear();
            key.push(b'i');
            key.extend_from_slice(name.as_str().as_bytes());
        }
        Scope::Route { route, key: of } => {
            scopes_of_route(key, route);
            escape(key, of);
        }
    }
    key.push(END);
}

/// `r route NUL`: all state of the route, whatever the key.
pub(crate) fn scopes_of_route(key: &mut Vec<u8>, route: &Name) {
    key.clear();
    key.push(b'r');
    key.extend_from_slice(route.as_str().as_bytes());
    key.push(END);
}

/// `scope name`
pub(crate) fn state(key: &mut Vec<u8>, of: &Scope, name: &str) {
    scope(key, of);
    key.extend_from_slice(name.as_bytes());
}

/// `expires state`: in the order in which they expire.
pub(crate) fn expiry(key: &mut Vec<u8>, expires: u64, state: &[u8]) {
    key.clear();
    key.extend_from_slice(&expires.to_be_bytes());
    key.extend_from_slice(state);
}

/// The parts of an [`expiry`] key.
pub(crate) fn split_expiry(key: &[u8]) -> Option<(u64, &[u8])> {
    let (expires, state) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*expires), state))
}

/// `kind name`
pub(crate) fn document(key: &mut Vec<u8>, kind: Kind, name: &str) {
    key.clear();
    key.push(kind as u8);
    key.extend_from_slice(name.as_bytes());
}

/// The end of the range of what begins with `prefix`, which ends with a NUL.
pub(crate) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = BEHIND;
    }
    end
}

fn split_id(key: &[u8]) -> Option<(&[u8], u128)> {
    let (key, id) = key.split_last_chunk::<16>()?;
    Some((key, u128::from_be_bytes(*id)))
}

/// NUL becomes 1 1, and 1 becomes 1 2: the order stays.
pub(crate) fn escape(key: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            0 | 1 => key.extend_from_slice(&[1, byte + 1]),
            byte => key.push(byte),
        }
    }
}

pub(crate) fn unescape(bytes: &[u8]) -> Option<String> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter();
    while let Some(&byte) = bytes.next() {
        text.push(if byte == 1 { bytes.next()?.checked_sub(1)? } else { byte });
    }
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(make: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut key = vec![b'x'];
        make(&mut key);
        key
    }

    #[test]
    fn a_route_is_no_prefix_of_another() {
        let (ab, abc) = ("ab".parse().unwrap(), "abc".parse().unwrap());
        let prefix = made(|key| route(key, &ab));
        assert!(!made(|key| route(key, &abc)).starts_with(&prefix));
        let all_ones = made(|key| waiting(key, "ab", LaneId(u64::MAX), u128::MAX));
        assert!(all_ones >= prefix && all_ones < behind(&prefix));
    }

    #[test]
    fn waiting_keys_come_apart_again() {
        let key = made(|key| waiting(key, "to-celsius", LaneId(7), 1 << 90));
        assert_eq!(split_waiting(&key), Some(("to-celsius", LaneId(7), 1 << 90)));
        assert_eq!(split_waiting(&key[..10]), None);
    }

    proptest! {
        #[test]
        fn targets_come_apart_again_and_keep_their_order(a in "[\\x00-\\x03a]{0,5}", b in "[\\x00-\\x03a]{0,5}", id: u128) {
            let (one, other) = (Target::Device(a.as_str().into()), Target::Device(b.as_str().into()));
            let (first, second) = (made(|key| queued(key, &one, id)), made(|key| queued(key, &other, id)));
            prop_assert_eq!(split_queued(&first), Some((one.clone(), id)));
            prop_assert_eq!(first.cmp(&second), one.cmp(&other));
        }

        #[test]
        fn no_scope_reaches_into_another(
            a in "[\\x00-\\x02a]{0,4}", b in "[\\x00-\\x02a]{0,4}", x in "[\\x00-\\x02a]{0,4}", y in "[\\x00-\\x02a]{0,4}",
        ) {
            let of = |key: &str| Scope::Route { route: "r".parse().unwrap(), key: key.into() };
            let (one, other) = (made(|key| state(key, &of(&a), &x)), made(|key| state(key, &of(&b), &y)));
            prop_assert_eq!(one == other, (&a, &x) == (&b, &y));
            prop_assert_eq!(other.starts_with(&made(|key| scope(key, &of(&a)))), a == b);
        }
    }
}
