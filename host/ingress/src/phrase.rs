//! What a protocol without answers of its own is configured to answer. Pure.

use bytes::Bytes;
use sandbar_reading::Octets;

/// Bytes in which `{id}` stands for a reading's id, and `{reason}` for why it was refused.
#[derive(Clone, Debug)]
pub(crate) struct Phrase(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Bytes(Bytes),
    Id,
    Reason,
}

const WORDS: [(&[u8], Piece); 2] = [(b"{id}", Piece::Id), (b"{reason}", Piece::Reason)];

impl Phrase {
    pub(crate) fn parse(text: &Octets) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text.as_slice();
        let mut plain = 0;
        while plain < rest.len() {
            let word = WORDS.iter().find(|(word, _)| rest[plain..].starts_with(word));
            let Some((word, piece)) = word else {
                plain += 1;
                continue;
            };
            pieces.push(Piece::Bytes(Bytes::copy_from_slice(&rest[..plain])));
            pieces.push(piece.clone());
            rest = &rest[plain + word.len()..];
            plain = 0;
        }
        pieces.push(Piece::Bytes(Bytes::copy_from_slice(rest)));
        Self(pieces)
    }

    pub(crate) fn of_id(&self, id: &str) -> Bytes {
        self.say(id, "")
    }

    /// The reason is on one line, whatever it says.
    pub(crate) fn of_reason(&self, reason: &str) -> Bytes {
        let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.say("", &line)
    }

    fn say(&self, id: &str, reason: &str) -> Bytes {
        let mut said = Vec::with_capacity(32);
        for piece in &self.0 {
            said.extend_from_slice(match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::Id => id.as_bytes(),
                Piece::Reason => reason.as_bytes(),
            });
        }
        said.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_braces_are_filled_in() {
        let phrase = |text: &str| Phrase::parse(&text.as_bytes().to_vec().into());
        assert_eq!(phrase("OK {id}\n").of_id("7"), "OK 7\n");
        assert_eq!(phrase("{id}{id}").of_id("7"), "77");
        assert_eq!(phrase("NO {reason}{}\n").of_reason("full\r\nnow"), "NO full  now{}\n");
        assert_eq!(phrase("").of_id("7"), "");
        assert_eq!(Phrase::parse(&vec![6].into()).of_id("7"), &[6][..]);
    }
}
