//! Names of ingresses, sinks, modules and routes.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// 1 to 63 characters `a-z 0-9 - _`, the first a letter or digit. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a name: 1 to 63 characters a-z, 0-9, `-` and `_`, the first a letter or digit")]
pub struct NameError {
    text: String,
}

const ROUTE_PREFIX: &str = "route/";

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a reading that a route's message became has as its ingress: `route/<name>`. No ingress can
    /// be named so.
    pub fn of_route(route: &Self) -> Self {
        Self(format!("{ROUTE_PREFIX}{route}").into())
    }

    /// An ingress name as a filter or a stored reading may have it: also `route/<name>`.
    pub fn parse_ingress(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix(ROUTE_PREFIX) {
            Some(route) => route.parse().map(|route| Self::of_route(&route)),
            None => text.parse(),
        }
    }

    /// The route whose message this ingress name stands for, if it does.
    pub fn chained_from(&self) -> Option<&str> {
        self.0.strip_prefix(ROUTE_PREFIX)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
        let starts_well = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let bytes = text.as_bytes();
        if bytes.len() <= 63
            && bytes.first().copied().is_some_and(starts_well)
            && bytes.iter().copied().all(allowed)
        {
            Ok(Self(text.into()))
        } else {
            Err(NameError { text: text.to_owned() })
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_and_nothing_else() {
        for good in ["a", "0", "web-hook_2", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "_a", "A", "a/b", "a b", "ä", "a\0", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_route_is_no_ingress() {
        let name = Name::of_route(&"alarm".parse().unwrap());
        assert!(name.as_str().parse::<Name>().is_err());
        assert_eq!(Name::parse_ingress("route/alarm").unwrap(), name);
        assert_eq!(name.chained_from(), Some("alarm"));
    }
}
