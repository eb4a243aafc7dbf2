//! Who asks for a picture: Basic (RFC 7617) and Digest (RFC 7616) authentication. Pure.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest as _, Sha256};

/// A name and its password.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// How a camera wants to be shown that one knows the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Digest(Box<Digest>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// As it came, to be sent back.
    algorithm: Option<String>,
    hash: Hash,
    /// `-sess`: the first hash holds the nonces, too.
    is_session: bool,
    /// Whether it knows `qop=auth`; RFC 2069 did not.
    has_qop: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hash {
    Md5,
    Sha256,
}

impl Challenge {
    /// The strongest of those in `WWW-Authenticate` headers that is known here.
    pub(crate) fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let known =
            headers.flat_map(challenges).filter_map(|(scheme, parameters)| Self::parse(scheme, &parameters));
        known.max_by_key(|challenge| match challenge {
            Self::Basic => None,
            Self::Digest(digest) => Some(digest.hash),
        })
    }

    fn parse(scheme: &str, parameters: &[(&str, String)]) -> Option<Self> {
        let get = |name: &str| {
            parameters
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let algorithm = get("algorithm");
        let name = algorithm.as_deref().unwrap_or("MD5").to_ascii_uppercase();
        let (hash, is_session) = match name.as_str() {
            "MD5" => (Hash::Md5, false),
            "MD5-SESS" => (Hash::Md5, true),
            "SHA-256" => (Hash::Sha256, false),
            "SHA-256-SESS" => (Hash::Sha256, true),
            _ => return None,
        };
        let qop = get("qop");
        let has_auth = |qop: &str| qop.split(',').any(|word| word.trim().eq_ignore_ascii_case("auth"));
        if qop.as_deref().is_some_and(|qop| !has_auth(qop)) {
            // Only with the body's hash, which a GET has none of.
            return None;
        }
        Some(Self::Digest(Box::new(Digest {
            realm: get("realm")?,
            nonce: get("nonce")?,
            opaque: get("opaque"),
            algorithm,
            hash,
            is_session,
            has_qop: qop.is_some(),
        })))
    }

    /// The `Authorization` of the `count`th GET of `uri` (path and query) with this challenge. `cnonce` is by chance.
    pub(crate) fn answer(&self, login: &Login, uri: &str, count: u32, cnonce: &str) -> String {
        match self {
            Self::Basic => format!("Basic {}", STANDARD.encode(format!("{}:{}", login.user, login.password))),
            Self::Digest(digest) => digest.answer(login, uri, count, cnonce),
        }
    }
}

impl Digest {
    fn answer(&self, login: &Login, uri: &str, count: u32, cnonce: &str) -> String {
        let Self { realm, nonce, .. } = self;
        let Login { user, password } = login;
        let mut secret = self.hash.hex(&format!("{user}:{realm}:{password}"));
        if self.is_session {
            secret = self.hash.hex(&format!("{secret}:{nonce}:{cnonce}"));
        }
        let request = self.hash.hex(&format!("GET:{uri}"));
        let response = match self.has_qop {
            true => self.hash.hex(&format!("{secret}:{nonce}:{count:08x}:{cnonce}:auth:{request}")),
            false => self.hash.hex(&format!("{secret}:{nonce}:{request}")),
        };
        let mut text = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
            quoted(user),
            quoted(realm),
            quoted(nonce),
            quoted(uri),
        );
        if let Some(algorithm) = &self.algorithm {
            write!(text, ", algorithm={algorithm}").expect("written to memory");
        }
        if let Some(opaque) = &self.opaque {
            write!(text, ", opaque={}", quoted(opaque)).expect("written to memory");
        }
        if self.has_qop {
            write!(text, ", qop=auth, nc={count:08x}").expect("written to memory");
        }
        if self.has_qop || self.is_session {
            write!(text, ", cnonce={}", quoted(cnonce)).expect("written to memory");
        }
        text
    }
}

impl Hash {
    fn hex(self, text: &str) -> String {
        let bytes = match self {
            Self::Md5 => Md5::digest(text).to_vec(),
            Self::Sha256 => Sha256::digest(text).to_vec(),
        };
        bytes.iter().fold(String::with_capacity(64), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("written to memory");
            hex
        })
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The schemes of one header with their parameters (RFC 9110, section 11.6.1).
fn challenges(header: &str) -> Vec<(&str, Vec<(&str, String)>)> {
    let mut found: Vec<(&str, Vec<(&str, String)>)> = Vec::new();
    for item in split_outside_quotes(header) {
        let item = item.trim();
        let before_value = item.split('=').next().unwrap_or_default();
        // A scheme begins an item, before its first parameter or alone.
        let parameter = match before_value.trim_end().rsplit_once(char::is_whitespace) {
            Some((scheme, _)) => {
                found.push((scheme.trim(), Vec::new()));
                &item[scheme.len()..]
            }
            None if !item.contains('=') => {
                found.push((item, Vec::new()));
                continue;
            }
            None => item,
        };
        if let (Some((_, parameters)), Some((name, value))) = (found.last_mut(), parameter.split_once('=')) {
            parameters.push((name.trim(), unquoted(value.trim())));
        }
    }
    found
}

fn split_outside_quotes(text: &str) -> Vec<&str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').map(|rest| rest.strip_suffix('"').unwrap_or(rest)) else {
        return value.to_owned();
    };
    let mut characters = inner.chars();
    let mut text = String::with_capacity(inner.len());
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mufasa() -> Login {
        Login { user: "Mufasa".to_owned(), password: "Circle of Life".to_owned() }
    }

    const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

    /// RFC 7616, section 3.9.1.
    const MD5_OR_SHA: [&str; 2] = [
        r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#,
        r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#,
    ];

    fn response(headers: &[&str]) -> String {
        let challenge = Challenge::best(headers.iter().copied()).unwrap();
        challenge.answer(&mufasa(), "/dir/index.html", 1, CNONCE)
    }

    #[test]
    fn answers_as_in_the_standards_example() {
        let md5 = response(&MD5_OR_SHA[..1]);
        assert!(md5.contains(r#"response="8ca523f5e9506fed4657c9700eebdbec""#), "{md5}");
        assert!(md5.contains(r#"nc=00000001, cnonce="f2/wE4q74E"#), "{md5}");
        let sha = response(&MD5_OR_SHA);
        let expected = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert!(sha.contains(expected) && sha.contains("algorithm=SHA-256"), "{sha}");
    }

    #[test]
    fn old_digests_have_no_count() {
        let old = response(&[r#"Digest realm="a \"b\"", nonce="n""#]);
        let secret = Hash::Md5.hex("Mufasa:a \"b\":Circle of Life");
        let expected = Hash::Md5.hex(&format!("{secret}:n:{}", Hash::Md5.hex("GET:/dir/index.html")));
        assert_eq!(
            old,
            format!(
                r#"Digest username="Mufasa", realm="a \"b\"", nonce="n", uri="/dir/index.html", response="{expected}""#
            )
        );
    }

    #[test]
    fn the_strongest_that_is_known_is_taken() {
        let best = |headers: &[&str]| Challenge::best(headers.iter().copied());
        assert_eq!(best(&["Basic realm=\"x, y\""]), Some(Challenge::Basic));
        assert_eq!(best(&["Negotiate", "basic"]), Some(Challenge::Basic));
        let both = best(&[r#"Basic realm="x", Digest realm="y", nonce="n", qop="auth", algorithm=md5-sess"#]);
        assert!(
            matches!(&both, Some(Challenge::Digest(digest)) if digest.realm == "y" && digest.is_session),
            "{both:?}"
        );
        for unknown in [
            "",
            "Bearer realm=\"x\"",
            "Digest realm=\"x\"",
            "Digest nonce=\"x\"",
            ",,=,",
            r#"Digest realm="x", nonce="n", algorithm=SHA-512-256"#,
            r#"Digest realm="x", nonce="n", qop="auth-int""#,
        ] {
            assert_eq!(best(&[unknown]), None, "{unknown}");
        }
    }

    #[test]
    fn basic_is_base64() {
        let login = Login { user: "Aladdin".to_owned(), password: "open sesame".to_owned() };
        assert_eq!(Challenge::Basic.answer(&login, "/", 1, ""), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
