//! Bearer tokens (RFC 6750).

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sandbar_reading::{ConfigError, Secret};
use sha2::Sha256;

/// The token that a request must bear. Comparing takes the same time however wrong a token is.
#[derive(Clone)]
pub(crate) struct Bearer(Vec<u8>);

impl Bearer {
    /// The error names `token`.
    pub(crate) fn new(token: &Secret) -> Result<Self, ConfigError> {
        let token = token.resolve("token", |path| std::fs::read_to_string(path))?;
        Ok(Self(code(token.as_bytes()).finalize().into_bytes().to_vec()))
    }

    pub(crate) fn is(&self, token: &[u8]) -> bool {
        code(token).verify_slice(&self.0).is_ok()
    }

    /// Whether the request says `Authorization: Bearer <token>`.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
        });
        given.is_some_and(|token| self.is(token))
    }
}

/// The key is no secret: the code only makes tokens comparable.
fn code(token: &[u8]) -> Hmac<Sha256> {
    let keyed: Hmac<Sha256> =
        Hmac::new_from_slice(b"sandbar bearer token").expect("HMAC takes keys of any length");
    keyed.chain_update(token)
}
