//! Who may provide modules: Ed25519 keys (RFC 8032) that sign a component's bytes. Without any, everybody may who
//! has the host's token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sandbar_runtime::script;

/// What stands before the 32 bytes of a key in a PEM file (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The keys of `[trust]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Trust {
    keys: Vec<VerifyingKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untrusted {
    #[error("this host takes signed components only, and there is no signature")]
    Unsigned,
    #[error("a signature has 64 bytes, this one has {0}")]
    NoSignature(usize),
    #[error("the signature is of no key that this host trusts, or of other bytes")]
    Wrong,
    #[error("version {0} was signed with a key that this host does not trust any more")]
    Revoked(u32),
    #[error("version {0} is not signed, and this host takes signed components only")]
    NotSigned(u32),
}

impl Trust {
    /// `keys`: base 64 of the 32 bytes of a key, or what stands between the lines of its PEM file.
    pub(crate) fn read(keys: &[String]) -> Result<Self, (usize, String)> {
        let read = |(index, text): (usize, &String)| {
            let wrong = || {
                let problem = "must be an Ed25519 public key in base 64: 32 bytes, or what is between the lines of \
                               its PEM file";
                (index, problem.to_owned())
            };
            let bytes = STANDARD.decode(text.trim()).map_err(|_| wrong())?;
            let bytes = bytes.strip_prefix(&SPKI[..]).unwrap_or(&bytes);
            let bytes: &[u8; 32] = bytes.try_into().map_err(|_| wrong())?;
            VerifyingKey::from_bytes(bytes).map_err(|_| wrong())
        };
        Ok(Self { keys: keys.iter().enumerate().map(read).collect::<Result<_, _>>()? })
    }

    /// Whether components need a signature.
    pub(crate) fn is_asked_for(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The key that has signed `wasm`, in base 64; `None` if nobody asks.
    pub(crate) fn check(&self, wasm: &[u8], signature: Option<&[u8]>) -> Result<Option<String>, Untrusted> {
        if !self.is_asked_for() {
            return Ok(None);
        }
        let signature = signature.ok_or(Untrusted::Unsigned)?;
        let bytes: &[u8; 64] = signature.try_into().map_err(|_| Untrusted::NoSignature(signature.len()))?;
        let signature = Signature::from_bytes(bytes);
        // Of a script it is the text that its author has signed.
        let signed = script::text(wasm).and_then(Result::ok).map_or(wasm, str::as_bytes);
        let signer = self.keys.iter().find(|key| key.verify_strict(signed, &signature).is_ok());
        signer.map(|key| Some(text(key))).ok_or(Untrusted::Wrong)
    }

    /// Whether a version that was taken once may still be used.
    pub(crate) fn still_holds(&self, version: u32, signed_by: Option<&str>) -> Result<(), Untrusted> {
        match signed_by {
            _ if !self.is_asked_for() => Ok(()),
            None => Err(Untrusted::NotSigned(version)),
            Some(signer) if self.keys.iter().any(|key| text(key) == signer) => Ok(()),
            Some(_) => Err(Untrusted::Revoked(version)),
        }
    }
}

fn text(key: &VerifyingKey) -> String {
    STANDARD.encode(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn trust(seeds: &[u8]) -> Trust {
        let keys: Vec<_> = seeds.iter().map(|seed| text(&key(*seed).verifying_key())).collect();
        Trust::read(&keys).unwrap()
    }

    #[test]
    fn only_what_a_trusted_key_signed_is_taken() {
        let (wasm, trust) = (b"\0asm...", trust(&[1, 2]));
        let signed = key(2).sign(wasm).to_bytes();
        let signer = trust.check(wasm, Some(&signed)).unwrap().unwrap();
        assert_eq!(trust.still_holds(1, Some(&signer)), Ok(()));
        assert_eq!(trust.check(wasm, None), Err(Untrusted::Unsigned));
        assert_eq!(trust.check(b"\0asm..!", Some(&signed)), Err(Untrusted::Wrong));
        assert_eq!(trust.check(wasm, Some(&signed[1..])), Err(Untrusted::NoSignature(63)));
        assert_eq!(trust.check(wasm, Some(&key(3).sign(wasm).to_bytes())), Err(Untrusted::Wrong));
        let revoked = self::trust(&[1]);
        assert_eq!(revoked.still_holds(7, Some(&signer)), Err(Untrusted::Revoked(7)));
        assert_eq!(revoked.still_holds(7, None), Err(Untrusted::NotSigned(7)));
        assert_eq!(Trust::default().check(wasm, None), Ok(None));
    }

    #[test]
    fn keys_are_written_as_openssl_writes_them() {
        let pem = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        assert!(Trust::read(&[pem.to_owned()]).unwrap().is_asked_for());
        for wrong in ["", "AAAA", "not base 64"] {
            assert_eq!(Trust::read(&[pem.to_owned(), wrong.to_owned()]).unwrap_err().0, 1);
        }
    }
}
