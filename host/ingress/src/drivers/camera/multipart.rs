//! A stream of pictures (`multipart/x-mixed-replace`, parts as in RFC 2046, section 5.1) cut into them. Pure.

use bytes::{Buf, Bytes, BytesMut};

/// The bytes that came, and where in a part they are.
#[derive(Debug)]
pub(crate) struct Parts {
    /// With two dashes before it.
    delimiter: Vec<u8>,
    /// The most bytes of a part.
    part_max: usize,
    bytes: BytesMut,
    within: Within,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// Before a delimiter, after so many bytes that belong to nothing.
    Between {
        skipped: usize,
    },
    Header,
    Body {
        length: Option<usize>,
        /// So much of it is known to hold no delimiter.
        searched: usize,
    },
    /// After the last delimiter.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PartsError {
    #[error("the part's header has more than {HEADER_MAX} bytes")]
    Header,
    #[error("its length cannot be read")]
    Length,
    #[error("the picture has more than the {max} bytes that a reading may have")]
    TooLarge { max: usize },
    #[error("there is no boundary within {BETWEEN_MAX} bytes")]
    NoBoundary,
}

const BETWEEN: Within = Within::Between { skipped: 0 };
const HEADER_MAX: usize = 8 << 10;
const BETWEEN_MAX: usize = 64 << 10;

/// Of the content type of a stream; `None` if it is none.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let named = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let (_, value) = named.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
    // Some have the two dashes in it, and some quotes.
    let value = value.trim().trim_matches('"').trim_start_matches('-');
    (!value.is_empty()).then_some(value)
}

impl Parts {
    pub(crate) fn new(boundary: &str, part_max: usize) -> Self {
        let delimiter = format!("--{boundary}").into_bytes();
        Self { delimiter, part_max, bytes: BytesMut::new(), within: BETWEEN }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next part that has come to its end; `None` until there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, PartsError> {
        loop {
            match self.within {
                Within::Between { skipped } => {
                    if !self.skip_delimiter(skipped)? {
                        return Ok(None);
                    }
                }
                Within::Header => {
                    if !self.read_header()? {
                        return Ok(None);
                    }
                }
                Within::Body { length: Some(length), .. } => {
                    if self.bytes.len() < length {
                        return Ok(None);
                    }
                    self.within = BETWEEN;
                    return Ok(Some(self.bytes.split_to(length).freeze()));
                }
                Within::Body { length: None, searched } => return self.search_end(searched),
                Within::End => {
                    self.bytes.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// Whether the sender said that no more will come.
    pub(crate) fn is_ended(&self) -> bool {
        self.within == Within::End
    }

    fn skip_delimiter(&mut self, skipped: usize) -> Result<bool, PartsError> {
        let Some(at) = find(&self.bytes, &self.delimiter) else {
            // The delimiter may have come in part.
            let nothing = self.bytes.len().saturating_sub(self.delimiter.len());
            self.bytes.advance(nothing);
            let skipped = skipped + nothing;
            self.within = Within::Between { skipped };
            return if skipped > BETWEEN_MAX { Err(PartsError::NoBoundary) } else { Ok(false) };
        };
        let after = &self.bytes[at + self.delimiter.len()..];
        if after.starts_with(b"--") {
            self.within = Within::End;
            return Ok(true);
        }
        let Some(line) = after.iter().position(|byte| *byte == b'\n') else {
            return if after.len() > HEADER_MAX { Err(PartsError::Header) } else { Ok(false) };
        };
        self.bytes.advance(at + self.delimiter.len() + line + 1);
        self.within = Within::Header;
        Ok(true)
    }

    fn read_header(&mut self) -> Result<bool, PartsError> {
        let mut length = None;
        let mut rest = &self.bytes[..];
        loop {
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                return if self.bytes.len() > HEADER_MAX { Err(PartsError::Header) } else { Ok(false) };
            };
            let line = rest[..end].trim_ascii();
            rest = &rest[end + 1..];
            if line.is_empty() {
                break;
            }
            if let Some(value) = header(line, b"content-length") {
                let text = std::str::from_utf8(value).map_err(|_| PartsError::Length)?;
                length = Some(text.parse::<usize>().map_err(|_| PartsError::Length)?);
            }
        }
        if length.is_some_and(|length| length > self.part_max) {
            return Err(PartsError::TooLarge { max: self.part_max });
        }
        let header = self.bytes.len() - rest.len();
        self.bytes.advance(header);
        self.within = Within::Body { length, searched: 0 };
        Ok(true)
    }

    /// Without a length, a part goes on to the next delimiter.
    fn search_end(&mut self, searched: usize) -> Result<Option<Bytes>, PartsError> {
        let Some(at) = find(&self.bytes[searched..], &self.delimiter) else {
            if self.bytes.len() > self.part_max + self.delimiter.len() + 2 {
                return Err(PartsError::TooLarge { max: self.part_max });
            }
            // The delimiter may have come in part.
            let searched = self.bytes.len().saturating_sub(self.delimiter.len());
            self.within = Within::Body { length: None, searched };
            return Ok(None);
        };
        let mut body = self.bytes.split_to(searched + at).freeze();
        // The line break before a delimiter is the delimiter's.
        for end in [b"\n", b"\r"] {
            if body.ends_with(end) {
                body.truncate(body.len() - 1);
            }
        }
        self.within = BETWEEN;
        match body.len() > self.part_max {
            true => Err(PartsError::TooLarge { max: self.part_max }),
            false => Ok(Some(body)),
        }
    }
}

/// The value of a header line of that name, in lower case.
fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    line[..colon].trim_ascii().eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii())
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        if bytes[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All parts, however the bytes arrive.
    fn parts(text: &[u8]) -> Vec<Result<String, PartsError>> {
        let mut first = None;
        for size in [text.len().max(1), 7, 1] {
            let mut parts = Parts::new("cam", 100);
            let mut found = Vec::new();
            for chunk in text.chunks(size) {
                parts.push(chunk);
                loop {
                    match parts.next() {
                        Ok(Some(part)) => found.push(Ok(String::from_utf8_lossy(&part).into_owned())),
                        Ok(None) => break,
                        Err(error) => {
                            found.push(Err(error));
                            assert_eq!(
                                first.get_or_insert_with(|| found.clone()),
                                &found,
                                "in pieces of {size}"
                            );
                            return found;
                        }
                    }
                }
            }
            assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "in pieces of {size}");
        }
        first.unwrap_or_default()
    }

    fn found(text: &[u8]) -> Vec<String> {
        parts(text).into_iter().map(|part| part.unwrap()).collect()
    }

    #[test]
    fn the_boundary_is_found_as_cameras_write_it() {
        for (content_type, expected) in [
            ("multipart/x-mixed-replace;boundary=ffmpeg", Some("ffmpeg")),
            ("multipart/x-mixed-replace; boundary=\"my cam\"", Some("my cam")),
            ("Multipart/X-Mixed-Replace; charset=x; Boundary=--myboundary", Some("myboundary")),
            ("multipart/x-mixed-replace", None),
            ("multipart/x-mixed-replace; boundary=--", None),
            ("image/jpeg; boundary=x", None),
        ] {
            assert_eq!(boundary(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn parts_have_a_length_or_end_at_the_next_boundary() {
        let with =
            b"--cam\r\nContent-type: image/jpeg\r\nContent-length: 5\r\n\r\n--cam\r\n--cam\r\nX: y\r\n\r\n";
        assert_eq!(found(with), ["--cam"]);
        let without =
            b"--cam\r\nContent-Type: image/jpeg\r\n\r\none\r\n--cam\r\n\r\ntwo\n\r\n--cam\r\n\r\nthr";
        assert_eq!(found(without), ["one", "two\n"]);
        let bare = b"\r\n\r\n--cam\ncontent-length:3\n\none\n--cam\n\ntwo\n----cam--\r\n--cam\r\n\r\nlate\r\n--cam\r\n";
        assert_eq!(found(bare), ["one", "two\n--"], "what has four dashes is trimmed with the picture's end");
    }

    #[test]
    fn what_cannot_be_a_stream_is_refused() {
        let last = |text: &[u8]| parts(text).pop().unwrap().unwrap_err();
        let max = 100;
        assert_eq!(last(b"--cam\r\nContent-Length: 101\r\n\r\n"), PartsError::TooLarge { max });
        assert_eq!(last(&[&b"--cam\r\n\r\n"[..], &[b'x'; 200]].concat()), PartsError::TooLarge { max });
        for bad in ["-1", "", "1e9", "18446744073709551616", "\u{fffd}"] {
            assert_eq!(
                last(format!("--cam\r\nContent-Length: {bad}\r\n\r\n").as_bytes()),
                PartsError::Length
            );
        }
        assert_eq!(last(&[&b"--cam\r\n"[..], &[b'x'; 9000]].concat()), PartsError::Header);
        assert_eq!(last(&[&b"--cam"[..], &[b'x'; 9000]].concat()), PartsError::Header);
        assert_eq!(last(&[b'x'; 70_000]), PartsError::NoBoundary);
    }
}
