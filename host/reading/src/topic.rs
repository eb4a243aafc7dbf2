//! Topic names (MQTT 5.0, section 4.7).

use std::fmt;
use std::str::FromStr;

/// 1 to 65,535 bytes of UTF-8 without `+`, `#` and NUL; up to 256 levels are separated by `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Box<str>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("a topic has at least one character")]
    Empty,
    #[error("a topic has at most 65535 bytes, this one has {bytes}")]
    TooLong { bytes: usize },
    #[error("a topic has at most {max} levels, this one has {levels}", max = LEVELS_MAX)]
    TooDeep { levels: usize },
    #[error("a topic cannot contain {character:?} (at byte {at})")]
    Forbidden { character: char, at: usize },
}

/// More than anybody needs; and so few that what goes down a tree of them fits on every stack.
const LEVELS_MAX: usize = 256;

impl Topic {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        check(text, |c| matches!(c, '\0' | '+' | '#'))?;
        Ok(Self(text.into()))
    }
}

impl TryFrom<Box<str>> for Topic {
    type Error = TopicError;

    /// As `from_str`, without another allocation.
    fn try_from(text: Box<str>) -> Result<Self, TopicError> {
        check(&text, |c| matches!(c, '\0' | '+' | '#'))?;
        Ok(Self(text))
    }
}

/// What topics and filters have in common.
pub(crate) fn check(text: &str, forbidden: impl Fn(char) -> bool) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > usize::from(u16::MAX) {
        return Err(TopicError::TooLong { bytes: text.len() });
    }
    let levels = 1 + text.bytes().filter(|byte| *byte == b'/').count();
    if levels > LEVELS_MAX {
        return Err(TopicError::TooDeep { levels });
    }
    match text.char_indices().find(|(_, c)| forbidden(*c)) {
        Some((at, character)) => Err(TopicError::Forbidden { character, at }),
        None => Ok(()),
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_every_legal_topic() {
        for good in ["a", "/", "a//b", "$SYS/x", "sensors/küche/temp", " "] {
            assert!(good.parse::<Topic>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn names_the_byte_that_is_wrong() {
        assert_eq!("".parse::<Topic>(), Err(TopicError::Empty));
        assert_eq!("a/+".parse::<Topic>(), Err(TopicError::Forbidden { character: '+', at: 2 }));
        assert_eq!("#".parse::<Topic>(), Err(TopicError::Forbidden { character: '#', at: 0 }));
        assert_eq!("a\0".parse::<Topic>(), Err(TopicError::Forbidden { character: '\0', at: 1 }));
        assert_eq!("x".repeat(65_536).parse::<Topic>(), Err(TopicError::TooLong { bytes: 65_536 }));
    }

    #[test]
    fn has_no_more_levels_than_a_stack_can_take() {
        assert!("/".repeat(255).parse::<Topic>().is_ok());
        let error = "/".repeat(65_535).parse::<Topic>().unwrap_err();
        assert_eq!(error, TopicError::TooDeep { levels: 65_536 });
        assert_eq!(error.to_string(), "a topic has at most 256 levels, this one has 65536");
    }
}
