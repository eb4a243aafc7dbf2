//! What cameras send, for those who make garbage of it.

use bytes::Bytes;

use super::auth::{Challenge, Login};
use super::jpeg;
use super::multipart::{Parts, boundary};

/// Of 2 × 1 pixels, with and without its Huffman tables.
pub(crate) const PICTURES: &[&[u8]] = &[
    b"\xff\xd8\xff\xe0\0\x04JF\xff\xc4\0\x03\0\xff\xc0\0\x0b\x08\0\x01\0\x02\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0x\xff\xd9",
    b"\xff\xd8\xff\xc0\0\x0b\x08\0\x01\0\x02\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0x\xff\xd9\0\0",
];

pub(crate) fn is_picture(bytes: &[u8]) -> bool {
    jpeg::check(&Bytes::copy_from_slice(bytes)).is_ok()
}

pub(crate) const STREAMS: &[&[u8]] = &[
    b"--cam\r\nContent-Type: image/jpeg\r\nContent-Length: 3\r\n\r\none\r\n--cam\r\n\r\ntwo\r\n--cam--\r\n",
    b"--cam\ncontent-length:3\n\none\n--cam\n\ntwo\n\n--cam\n",
];

/// However they come.
pub(crate) fn is_stream(bytes: &[u8]) -> bool {
    let mut parts =
        Parts::new(boundary("multipart/x-mixed-replace; boundary=--cam").unwrap_or_default(), 1000);
    let mut found = false;
    for chunk in bytes.chunks(7) {
        parts.push(chunk);
        loop {
            match parts.next() {
                Ok(Some(_)) => found = true,
                Ok(None) => break,
                Err(_) => return false,
            }
        }
    }
    found
}

pub(crate) const CHALLENGES: &[&[u8]] = &[
    br#"Digest realm="a \"b\"", qop="auth, auth-int", algorithm=SHA-256, nonce="7yp/xl", opaque="FQ", Basic realm="x""#,
    b"Basic realm=\"x\"",
];

pub(crate) fn is_challenge(bytes: &[u8]) -> bool {
    let login = Login { user: "u".to_owned(), password: "p".to_owned() };
    let challenge = std::str::from_utf8(bytes).ok().and_then(|text| Challenge::best([text].into_iter()));
    challenge.is_some_and(|challenge| !challenge.answer(&login, "/", 1, "c").is_empty())
}
