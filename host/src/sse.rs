//! Server-sent events (WHATWG HTML, section 9.2.6), as the API's live tail sends them.

/// One event: its kind (`message` when the sender named none) and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub kind: String,
    pub data: String,
}

/// More than this without an end of an event is no tail of ours.
const UNFINISHED_MAX: usize = 64 << 20;

/// Bytes in, whole events out; pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// What came after the last end of a line.
    rest: Vec<u8>,
    kind: String,
    data: String,
}

#[derive(Debug, thiserror::Error)]
#[error("what the host sends does not end")]
pub(crate) struct Endless;

impl Decoder {
    /// The events that `bytes` completes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Sent>, Endless> {
        if self.rest.len() + self.data.len() + bytes.len() > UNFINISHED_MAX {
            return Err(Endless);
        }
        let mut sent = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.rest);
                sent.extend(self.line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n'])));
            }
        }
        Ok(sent)
    }

    fn line(&mut self, line: &str) -> Option<Sent> {
        if line.is_empty() {
            return self.end();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments (an empty field) keep the connection alive; ids and retry times are not used.
            _ => {}
        }
        None
    }

    fn end(&mut self) -> Option<Sent> {
        let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
        let kind = if kind.is_empty() { "message".to_owned() } else { kind };
        (!data.is_empty()).then_some(Sent { kind, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        ": hello\n\nevent: reading\ndata: {\"a\":\ndata: 1}\n\r\ndata:x\nid: 7\n\nevent: output\n\n";

    fn expected() -> Vec<Sent> {
        vec![
            Sent { kind: "reading".into(), data: "{\"a\":\n1}".into() },
            Sent { kind: "message".into(), data: "x".into() },
        ]
    }

    #[test]
    fn events_come_whole_from_pieces_of_any_size() {
        for size in 1..STREAM.len() {
            let mut decoder = Decoder::default();
            let sent: Vec<Sent> =
                STREAM.as_bytes().chunks(size).flat_map(|piece| decoder.feed(piece).unwrap()).collect();
            assert_eq!(sent, expected(), "pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up_on() {
        let mut decoder = Decoder::default();
        let piece = vec![b'x'; UNFINISHED_MAX / 4];
        let fed = (0..5).try_for_each(|_| decoder.feed(&piece).map(|_| ()));
        assert!(fed.is_err());
    }
}
