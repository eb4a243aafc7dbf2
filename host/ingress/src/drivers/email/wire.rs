//! Command lines and message data, cut out of what was read. Pure.

use bytes::{Buf, BytesMut};

/// RFC 5321 asks for 512 bytes, and for more with every extension of ours.
const LINE_MAX: usize = 2048;

/// RFC 4954, section 4.
const AUTH_LINE_MAX: usize = 12_288;

/// What comes next of the commands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its end.
    Whole(BytesMut),
    /// It is longer than a line may be; it is skipped to its end.
    TooLong,
    /// It did not end in CR LF, or has one of them within: as two programs may see two lines where a third one sees
    /// one, it is not carried out.
    Bare,
}

/// Where the skipping of a long line is.
#[derive(Debug, Default)]
pub(super) struct Lines {
    skipping: bool,
}

impl Lines {
    /// `None` if more must be read. `is_auth` says that a line of AUTH is expected.
    pub(super) fn next(&mut self, buffer: &mut BytesMut, is_auth: bool) -> Option<Line> {
        let end = buffer.iter().position(|byte| *byte == b'\n');
        if self.skipping {
            match end {
                Some(end) => {
                    buffer.advance(end + 1);
                    self.skipping = false;
                    return self.next(buffer, is_auth);
                }
                None => {
                    buffer.clear();
                    return None;
                }
            }
        }
        let is_auth = is_auth || buffer.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"AUTH"));
        let max = if is_auth { AUTH_LINE_MAX } else { LINE_MAX };
        let len = end.map_or(buffer.len(), |end| end + 1);
        if len > max {
            self.skipping = end.is_none();
            buffer.advance(len);
            return Some(Line::TooLong);
        }
        let mut line = buffer.split_to(end? + 1);
        match line.strip_suffix(b"\r\n") {
            Some(text) if !text.contains(&b'\r') => {
                line.truncate(line.len() - 2);
                Some(Line::Whole(line))
            }
            _ => Some(Line::Bare),
        }
    }
}

/// Undoes the stuffing of dots, and finds the end of a message (RFC 5321, section 4.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unstuffer {
    at: At,
}

/// What the last bytes were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    LineStart,
    /// CR after anything but a dot that may end the message.
    Cr,
    /// A dot at the start of a line.
    Dot,
    /// And CR after it.
    DotCr,
    Within,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// All of it was message.
    More,
    /// The message ended; so many bytes were of it.
    End(usize),
    /// A CR or LF stands alone.
    Bare,
}

impl Unstuffer {
    /// Appends what of `bytes` is message.
    pub(super) fn push(&mut self, bytes: &[u8], message: &mut Vec<u8>) -> Data {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            self.at = match (self.at, byte) {
                // The dot was the first of a line: it is not part of it.
                (At::LineStart, b'.') => At::Dot,
                (At::Dot, b'\r') => At::DotCr,
                (At::DotCr, b'\n') => return Data::End(bytes.len() - after.len()),
                (At::Cr, b'\n') => {
                    message.push(byte);
                    At::LineStart
                }
                (At::Cr | At::DotCr, _) | (_, b'\n') => return Data::Bare,
                (_, b'\r') => {
                    message.push(byte);
                    At::Cr
                }
                (At::LineStart | At::Dot | At::Within, _) => {
                    let end =
                        rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
                    message.extend_from_slice(&rest[..end]);
                    rest = &rest[end..];
                    self.at = At::Within;
                    continue;
                }
            };
            rest = after;
        }
        Data::More
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let (mut lines, mut buffer, mut found) = (Lines::default(), BytesMut::from(bytes), Vec::new());
        while let Some(line) = lines.next(&mut buffer, false) {
            found.push(match line {
                Line::Whole(text) => String::from_utf8_lossy(&text).into_owned(),
                other => format!("{other:?}"),
            });
        }
        found
    }

    #[test]
    fn only_cr_lf_ends_a_line() {
        assert_eq!(lines(b"EHLO a\r\nMAIL\r\nhalf"), ["EHLO a", "MAIL"]);
        assert_eq!(lines(b"NOOP\nRSET\r\n"), ["Bare", "RSET"]);
        assert_eq!(lines(b"NOOP\rRSET\r\nQUIT\r\r\n"), ["Bare", "Bare"]);
        assert_eq!(lines(b"\r\n"), [""]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_to_its_end() {
        let long = [&b"x"[..]; LINE_MAX].concat();
        assert_eq!(lines(&[&long, &b"\r\nRSET\r\n"[..]].concat()), ["TooLong", "RSET"]);
        let auth = [b"auth PLAIN ", &long[..], b"\r\n"].concat();
        assert_eq!(lines(&auth).len(), 1);
        assert_ne!(lines(&auth), ["TooLong"]);
        let mut skipping = Lines::default();
        let mut buffer = BytesMut::from(&[b'x'; 3000][..]);
        assert_eq!(skipping.next(&mut buffer, false), Some(Line::TooLong));
        for _ in 0..100 {
            buffer.extend_from_slice(&[b'x'; 3000]);
            assert_eq!(skipping.next(&mut buffer, false), None);
            assert!(buffer.is_empty(), "nothing is kept of it");
        }
        buffer.extend_from_slice(b"x\r\nQUIT\r\n");
        assert_eq!(skipping.next(&mut buffer, false), Some(Line::Whole(BytesMut::from(&b"QUIT"[..]))));
    }

    /// The message, and what followed it.
    fn unstuff(bytes: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>), Data> {
        let (mut unstuffer, mut message, mut at) = (Unstuffer::default(), Vec::new(), 0);
        for part in bytes.chunks(step.max(1)) {
            match unstuffer.push(part, &mut message) {
                Data::More => at += part.len(),
                Data::End(size) => return Ok((message, bytes[at + size..].to_vec())),
                Data::Bare => return Err(Data::Bare),
            }
        }
        Err(Data::More)
    }

    #[test]
    fn dots_are_exact() {
        for (sent, message) in [
            (&b".\r\n"[..], &b""[..]),
            (b"..\r\n.\r\n", b".\r\n"),
            (b"...\r\n.\r\n", b"..\r\n"),
            (b".a\r\n.\r\n", b"a\r\n"),
            (b"a.\r\n. \r\n.\r\n", b"a.\r\n \r\n"),
            (b"a\r\n\r\n..b.\r\n.\r\n", b"a\r\n\r\n.b.\r\n"),
        ] {
            for step in 1..=sent.len() {
                assert_eq!(unstuff(sent, step), Ok((message.to_vec(), Vec::new())), "{sent:?} by {step}");
            }
        }
        assert_eq!(unstuff(b"a\r\n.\r\nQUIT\r\n", 100), Ok((b"a\r\n".to_vec(), b"QUIT\r\n".to_vec())));
    }

    /// CVE-2023-51764 and its kin: what one server takes for the end, another one takes for text.
    #[test]
    fn no_other_end_is_taken_for_one() {
        for smuggled in
            ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n.\r", "\r.\r", "\r\r\n.\r\n", "\n\n.\r\n"]
        {
            let sent = format!("a{smuggled}MAIL FROM:<evil@example.com>\r\n.\r\n");
            for step in [1, 2, 100] {
                assert_eq!(unstuff(sent.as_bytes(), step), Err(Data::Bare), "{smuggled:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_stuffed_comes_out_as_it_was(lines in prop::collection::vec("[.a\0\u{e9} ]{0,6}", 0..9), step in 1_usize..9) {
            let message: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let stuffed: String = lines
                .iter()
                .map(|line| format!("{}{line}\r\n", if line.starts_with('.') { "." } else { "" }))
                .collect();
            let sent = format!("{stuffed}.\r\nRSET\r\n");
            prop_assert_eq!(unstuff(sent.as_bytes(), step), Ok((message.into_bytes(), b"RSET\r\n".to_vec())));
        }
    }
}
