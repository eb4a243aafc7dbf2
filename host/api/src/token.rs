//! Who may ask: whoever has the token, or the cookie that the token bought.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The secret that every request under `/v1` must present. Never printed.
#[derive(Clone)]
pub struct Token(std::sync::Arc<str>);

impl Token {
    pub fn new(text: impl Into<std::sync::Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Takes as long for a token that is nearly right as for one that is not (of the same length).
    pub(crate) fn is(&self, presented: &str) -> bool {
        self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// What the dashboard's cookie holds at `host` (the `Host` header). Browsers send cookies to every port of
    /// a host name and to every address that the name is made to point at: the token itself must not be in it,
    /// and it must be worth nothing elsewhere.
    pub(crate) fn session(&self, host: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(b"sandbar dashboard at ");
        mac.update(host.as_bytes());
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn is_session(&self, host: &str, presented: &str) -> bool {
        self.session(host).as_bytes().ct_eq(presented.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_worth_nothing_at_another_host() {
        let token = Token::new("secret");
        let session = token.session("127.0.0.1:7420");
        assert!(token.is_session("127.0.0.1:7420", &session));
        assert!(!token.is_session("127.0.0.1:7421", &session) && !token.is_session("evil.example", &session));
        assert!(!Token::new("other").is_session("127.0.0.1:7420", &session));
        assert!(!session.contains("secret") && !token.is(&session));
    }

    #[test]
    fn is_compared_whole_and_never_printed() {
        let token = Token::new("secret");
        assert!(token.is("secret"));
        assert!(!token.is("secre") && !token.is("secrets") && !token.is(""));
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
