//! Keys of Pyaiot's gateways: an INI file, and tokens in the form that is called Fernet (AES-128-CBC and HMAC-SHA256).

use std::path::Path;

use aes::Aes128;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use hmac::{Hmac, KeyInit, Mac};
use sandbar_reading::ConfigError;
use sha2::Sha256;

/// Of a token: its version, the time, the vector, and the code at its end.
const VERSION: u8 = 0x80;
const HEAD: usize = 1 + 8 + 16;
const CODE: usize = 32;

/// A gateway's token is much shorter.
const TOKEN_MAX: usize = 4096;

pub(super) struct Keys {
    secret: Vec<u8>,
    signing: [u8; 16],
    encryption: [u8; 16],
}

impl Keys {
    /// The error names `keys_file`.
    pub(super) fn read(file: &Path) -> Result<Self, ConfigError> {
        let wrong = |problem: String| ConfigError::at("keys_file", format!("{}: {problem}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(|problem| wrong(problem.to_owned()))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let secret = value(text, "secret").ok_or("has no `secret` under [keys]")?;
        let private = value(text, "private").ok_or("has no `private` under [keys]")?;
        let key = URL_SAFE.decode(private).ok().and_then(|key| <[u8; 32]>::try_from(key).ok());
        let key = key.ok_or("`private` is not 32 bytes in URL-safe base 64")?;
        let (mut signing, mut encryption) = ([0; 16], [0; 16]);
        signing.copy_from_slice(&key[..16]);
        encryption.copy_from_slice(&key[16..]);
        Ok(Self { secret: secret.as_bytes().to_vec(), signing, encryption })
    }

    /// Whether a token holds the secret. How long that takes says nothing of the keys.
    pub(super) fn admits(&self, token: &str) -> bool {
        self.open(token).is_some_and(|text| {
            use sha2::Digest;
            // Of digests, where they first differ helps nobody.
            Sha256::digest(&text) == Sha256::digest(&self.secret)
        })
    }

    fn open(&self, token: &str) -> Option<Vec<u8>> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let token = URL_SAFE.decode(token).ok()?;
        let (signed, code) = token.split_at_checked(token.len().checked_sub(CODE)?)?;
        let hmac: Hmac<Sha256> = Hmac::new_from_slice(&self.signing).ok()?;
        hmac.chain_update(signed).verify_slice(code).ok()?;
        let (head, text) = signed.split_at_checked(HEAD)?;
        if head.first() != Some(&VERSION) {
            return None;
        }
        let vector = <[u8; 16]>::try_from(&head[9..]).ok()?;
        let cipher = cbc::Decryptor::<Aes128>::new(&self.encryption.into(), &vector.into());
        cipher.decrypt_padded_vec::<Pkcs7>(text).ok()
    }
}

/// Of the section `[keys]`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut is_keys = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            is_keys = line == "[keys]";
        } else if is_keys
            && let Some((key, value)) = line.split_once(['=', ':'])
            && key.trim().eq_ignore_ascii_case(name)
        {
            return Some(value.trim()).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use aes::cipher::BlockModeEncrypt;

    use super::*;

    pub(in super::super) const FILE: &str =
        "[keys]\nsecret = a secret\nprivate = cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=\n";

    fn keys() -> Keys {
        Keys::parse(FILE).unwrap()
    }

    pub(in super::super) fn token(text: &[u8]) -> String {
        let keys = keys();
        let cipher = cbc::Encryptor::<Aes128>::new(&keys.encryption.into(), &[7; 16].into());
        let mut token = vec![VERSION];
        token.extend([0; 8]);
        token.extend([7; 16]);
        token.extend(cipher.encrypt_padded_vec::<Pkcs7>(text));
        let hmac: Hmac<Sha256> = Hmac::new_from_slice(&keys.signing).unwrap();
        let code = hmac.chain_update(&token).finalize().into_bytes();
        token.extend(code);
        URL_SAFE.encode(token)
    }

    /// From the specification's own examples: `hello`, at 499162800, with the vector 0 to 15.
    #[test]
    fn reads_the_specifications_example() {
        let token = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
        assert_eq!(keys().open(token).as_deref(), Some(&b"hello"[..]));
    }

    #[test]
    fn admits_who_knows_the_secret() {
        assert!(keys().admits(&token(b"a secret")));
        assert!(!keys().admits(&token(b"another")));
        let good = token(b"a secret");
        for at in [0, 10, 40, good.len() - 3] {
            let mut bad = good.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            assert!(!keys().admits(&String::from_utf8(bad).unwrap()), "{at}");
        }
        for bad in ["", "gAAA", "!", &"A".repeat(5000)] {
            assert!(!keys().admits(bad));
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let problem = |text: &str| Keys::parse(text).err().unwrap();
        assert_eq!(problem("secret=a\nprivate=b"), "has no `secret` under [keys]");
        assert_eq!(problem("[keys]\nsecret=a"), "has no `private` under [keys]");
        let short = problem("[keys]\nsecret=a\nprivate=AAAA");
        assert_eq!(short, "`private` is not 32 bytes in URL-safe base 64");
    }
}
