//! Whether units can be read, and what is to be said of it. Pure.

use serde_json::json;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Online,
    /// It answers, and refuses something.
    Failing(String),
    Unreachable(String),
}

impl State {
    pub(super) fn payload(&self) -> String {
        match self {
            Self::Online => json!({ "state": "online" }),
            Self::Failing(cause) => json!({ "state": "failing", "cause": cause }),
            Self::Unreachable(cause) => json!({ "state": "unreachable", "cause": cause }),
        }
        .to_string()
    }

    /// Whether it differs from what was said `before`.
    pub(super) fn is_news(&self, before: Option<&Self>) -> bool {
        match (before, self) {
            // Why it cannot be reached may change with every attempt.
            (Some(Self::Unreachable(_)), Self::Unreachable(_)) => false,
            (before, now) => before != Some(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_news() {
        let unreachable = |cause: &str| State::Unreachable(cause.to_owned());
        let failing = |cause: &str| State::Failing(cause.to_owned());
        assert!(State::Online.is_news(None) && unreachable("a").is_news(None));
        assert!(!State::Online.is_news(Some(&State::Online)));
        assert!(!unreachable("a").is_news(Some(&unreachable("b"))));
        assert!(failing("a").is_news(Some(&failing("b"))) && !failing("a").is_news(Some(&failing("a"))));
        assert!(State::Online.is_news(Some(&unreachable("a"))));
        assert_eq!(unreachable("x").payload(), r#"{"cause":"x","state":"unreachable"}"#);
    }
}
