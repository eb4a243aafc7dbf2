//! Cuts what arrives into frames, and passes over those that are too long.

use bytes::{Buf, Bytes, BytesMut};

use super::{ByteOrder, FrameError, Framing, LengthSize};

/// Takes bytes as they arrive, and gives out frames. Holds at most one frame and what was pushed last.
#[derive(Debug)]
pub struct Cutter {
    framing: Framing,
    /// The most bytes of a frame.
    limit: usize,
    held: BytesMut,
    /// How much of `held` is known to hold no end.
    searched: usize,
    skipping: Skipping,
}

/// What is left to pass over of a frame that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skipping {
    Nothing,
    /// So many bytes.
    Bytes(usize),
    /// All until the end of the frame.
    ToEnd,
}

impl Cutter {
    pub fn new(framing: Framing, limit: usize) -> Self {
        Self { framing, limit, held: BytesMut::new(), searched: 0, skipping: Skipping::Nothing }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Whether a frame has begun and not ended.
    pub fn is_within(&self) -> bool {
        !self.held.is_empty() || self.skipping != Skipping::Nothing
    }

    /// How many bytes it holds of a frame that has not ended.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Forgets what it holds: after a gap, the next byte begins a frame.
    pub fn clear(&mut self) {
        *self = Self::new(self.framing.clone(), self.limit);
    }

    /// The next frame, `None` until there is a whole one. After an error the frame that is at fault is passed
    /// over, and it may be called again.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if !self.skip() {
            return Ok(None);
        }
        match self.framing {
            Framing::Raw => self.raw(),
            Framing::Fixed { bytes } => self.fixed(bytes as usize),
            Framing::Length { size, order, counts_itself } => self.length(size, order, counts_itself),
            Framing::Lines | Framing::Delimiter { .. } => self.ended(),
        }
    }

    /// After a silence, which ends a frame, too: what it holds is one, unless a frame's end is told by its length.
    /// Then it was cut off, and the next byte begins a frame.
    pub fn rest(&mut self) -> Result<Option<Bytes>, FrameError> {
        let is_counted = matches!(self.framing, Framing::Length { .. } | Framing::Fixed { .. });
        if self.skipping != Skipping::Nothing || self.held.is_empty() {
            self.clear();
            return Ok(None);
        }
        if is_counted {
            let size = self.held.len();
            self.clear();
            return Err(FrameError::CutOff { size });
        }
        let mut frame = std::mem::take(&mut self.held);
        self.clear();
        if self.framing == Framing::Lines && frame.last() == Some(&b'\r') {
            frame.truncate(frame.len() - 1);
        }
        if frame.len() > self.limit {
            return Err(FrameError::TooLong { size: frame.len(), limit: self.limit });
        }
        Ok((!frame.is_empty()).then(|| frame.freeze()))
    }

    /// Whether all that is to be passed over has been.
    fn skip(&mut self) -> bool {
        match self.skipping {
            Skipping::Nothing => {}
            Skipping::Bytes(left) => {
                let now = left.min(self.held.len());
                self.held.advance(now);
                self.skipping = if left > now { Skipping::Bytes(left - now) } else { Skipping::Nothing };
            }
            Skipping::ToEnd => match self.find() {
                Some((at, end)) => {
                    self.held.advance(at + end);
                    self.searched = 0;
                    self.skipping = Skipping::Nothing;
                }
                None => {
                    // An end may be cut in two.
                    self.held.advance(self.searched);
                    self.searched = 0;
                }
            },
        }
        self.skipping == Skipping::Nothing
    }

    fn raw(&mut self) -> Result<Option<Bytes>, FrameError> {
        match self.held.len().min(self.limit) {
            0 => Ok(None),
            size => Ok(Some(self.held.split_to(size).freeze())),
        }
    }

    fn fixed(&mut self, size: usize) -> Result<Option<Bytes>, FrameError> {
        if size > self.limit && !self.held.is_empty() {
            self.skipping = Skipping::Bytes(size);
            return Err(FrameError::TooLong { size, limit: self.limit });
        }
        Ok((self.held.len() >= size).then(|| self.held.split_to(size).freeze()))
    }

    fn length(
        &mut self,
        size: LengthSize,
        order: ByteOrder,
        counts_itself: bool,
    ) -> Result<Option<Bytes>, FrameError> {
        let head = size.bytes();
        if self.held.len() < head {
            return Ok(None);
        }
        let mut bytes = &self.held[..head];
        let number = match order {
            ByteOrder::Big => bytes.get_uint(head),
            ByteOrder::Little => bytes.get_uint_le(head),
        };
        let length = usize::try_from(number).unwrap_or(usize::MAX);
        let body = match counts_itself {
            false => length,
            true => match length.checked_sub(head) {
                Some(body) => body,
                None => {
                    self.held.advance(head);
                    return Err(FrameError::LengthBelowItself { length, size: head });
                }
            },
        };
        if body > self.limit {
            self.held.advance(head);
            self.skipping = Skipping::Bytes(body);
            return Err(FrameError::TooLong { size: body, limit: self.limit });
        }
        if self.held.len() < head + body {
            return Ok(None);
        }
        self.held.advance(head);
        Ok(Some(self.held.split_to(body).freeze()))
    }

    fn ended(&mut self) -> Result<Option<Bytes>, FrameError> {
        while let Some((at, end)) = self.find() {
            let mut frame = self.held.split_to(at);
            self.held.advance(end);
            self.searched = 0;
            if self.framing == Framing::Lines && frame.last() == Some(&b'\r') {
                frame.truncate(frame.len() - 1);
            }
            if frame.len() > self.limit {
                return Err(FrameError::TooLong { size: frame.len(), limit: self.limit });
            }
            if !frame.is_empty() {
                return Ok(Some(frame.freeze()));
            }
        }
        // A carriage return before the end does not count.
        let beyond = self.limit + usize::from(self.framing == Framing::Lines);
        if self.searched > beyond {
            let size = self.searched;
            self.skipping = Skipping::ToEnd;
            return Err(FrameError::TooLong { size, limit: self.limit });
        }
        Ok(None)
    }

    /// Where the first end is, and how long it is. What was searched is not searched again.
    fn find(&mut self) -> Option<(usize, usize)> {
        let end = match &self.framing {
            Framing::Delimiter { end } => end.as_slice(),
            _ => b"\n",
        };
        let found = self.held[self.searched..].windows(end.len()).position(|window| window == end);
        match found {
            Some(at) => Some((self.searched + at, end.len())),
            None => {
                self.searched = self.searched.max((self.held.len() + 1).saturating_sub(end.len()));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn framing(text: serde_json::Value) -> Framing {
        let framing: Framing = serde_json::from_value(text).unwrap();
        framing.check().unwrap();
        framing
    }

    /// What comes of pieces that arrive one after the other.
    fn cut(framing: &Framing, pieces: &[&[u8]]) -> Vec<Result<Vec<u8>, FrameError>> {
        let mut cutter = Cutter::new(framing.clone(), 8);
        let mut frames = Vec::new();
        for piece in pieces {
            cutter.push(piece);
            loop {
                match cutter.next_frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => frames.push(Ok(frame.to_vec())),
                    Err(error) => frames.push(Err(error)),
                }
            }
        }
        frames
    }

    fn frames(framing: &Framing, pieces: &[&[u8]]) -> Vec<String> {
        let shown = |frame: Result<Vec<u8>, FrameError>| match frame {
            Ok(frame) => String::from_utf8(frame).unwrap(),
            Err(error) => format!("{error:?}"),
        };
        cut(framing, pieces).into_iter().map(shown).collect()
    }

    #[test]
    fn a_frame_may_come_in_pieces_and_two_at_once() {
        let lines = framing(json!({ "kind": "lines" }));
        assert_eq!(frames(&lines, &[b"21", b".5\r", b"\n22.5\n\n\r\n23"]), ["21.5", "22.5"]);
        let big = framing(json!({ "kind": "length", "size": "u16" }));
        assert_eq!(frames(&big, &[b"\0", b"\x02a", b"b\0\x01c\0\0\0\x01"]), ["ab", "c", ""]);
        let little = framing(json!({ "kind": "length", "size": "u32", "order": "little" }));
        assert_eq!(frames(&little, &[b"\x02\0\0\0ab\x01\0", b"\0\0c"]), ["ab", "c"]);
        let whole = framing(json!({ "kind": "length", "size": "u8", "counts_itself": true }));
        assert_eq!(frames(&whole, &[b"\x03ab\x02c"]), ["ab", "c"]);
        let fixed = framing(json!({ "kind": "fixed", "bytes": 3 }));
        assert_eq!(frames(&fixed, &[b"ab", b"cdef", b"g"]), ["abc", "def"]);
        let delimiter = framing(json!({ "kind": "delimiter", "end": { "hex": "0d0a" } }));
        assert_eq!(frames(&delimiter, &[b"a\r", b"\nb\n\r\n\r\n"]), ["a", "b\n"]);
        assert_eq!(
            frames(&framing(json!({ "kind": "raw" })), &[b"abc", b"0123456789"]),
            ["abc", "01234567", "89"]
        );
    }

    #[test]
    fn what_is_too_long_is_passed_over() {
        let lines = framing(json!({ "kind": "lines" }));
        let error = "TooLong { size: 10, limit: 8 }";
        assert_eq!(frames(&lines, &[b"0123456789", b"0123456789", b"\n7\n"]), [error, "7"]);
        assert_eq!(frames(&lines, &[b"0123456789\n01234567\r\n"]), [error, "01234567"]);
        let length = framing(json!({ "kind": "length", "size": "u8" }));
        assert_eq!(frames(&length, &[b"\x0a01234", b"56789\x01a"]), [error, "a"]);
        let whole = framing(json!({ "kind": "length", "size": "u8", "counts_itself": true }));
        assert_eq!(frames(&whole, &[b"\0\x02a"]), ["LengthBelowItself { length: 0, size: 1 }", "a"]);
        let delimiter = framing(json!({ "kind": "delimiter", "end": "<>" }));
        assert_eq!(frames(&delimiter, &[b"0123456789<", b">a<>"]), ["TooLong { size: 10, limit: 8 }", "a"]);
    }

    #[test]
    fn a_silence_ends_a_frame_or_shows_that_it_was_cut_off() {
        let rest = |kind: serde_json::Value, bytes: &[u8]| {
            let mut cutter = Cutter::new(framing(kind), 8);
            cutter.push(bytes);
            while !matches!(cutter.next_frame(), Ok(None)) {}
            let rest = cutter.rest().map(|frame| frame.map(|frame| frame.to_vec()));
            assert!(!cutter.is_within());
            cutter.push(b"\x01a\n");
            assert_eq!(
                cutter.next_frame().map(|frame| frame.is_some()),
                Ok(true),
                "the next byte begins one"
            );
            rest
        };
        assert_eq!(rest(json!({ "kind": "lines" }), b"1\n2\r"), Ok(Some(b"2".to_vec())));
        assert_eq!(rest(json!({ "kind": "lines" }), b"1\n\r"), Ok(None));
        assert_eq!(rest(json!({ "kind": "lines" }), b"0123456789 too long"), Ok(None));
        assert_eq!(
            rest(json!({ "kind": "length", "size": "u8" }), b"\x05ab"),
            Err(FrameError::CutOff { size: 3 })
        );
        assert_eq!(
            rest(json!({ "kind": "fixed", "bytes": 3 }), b"abcd"),
            Err(FrameError::CutOff { size: 1 })
        );
        let mut raw = Cutter::new(Framing::Raw, 8);
        raw.push(b"abc");
        assert_eq!(raw.rest(), Ok(Some(Bytes::from("abc"))));
        assert_eq!(raw.rest(), Ok(None));
    }

    #[test]
    fn refuses_what_cannot_be_a_frame() {
        let lines = framing(json!({ "kind": "lines" }));
        assert_eq!(lines.encode(b"a\nb"), Err(FrameError::HoldsItsEnd { at: 1 }));
        assert_eq!(lines.encode(b""), Err(FrameError::Empty));
        let u8 = framing(json!({ "kind": "length", "size": "u8" }));
        assert_eq!(u8.encode(&[0; 256]), Err(FrameError::TooLong { size: 256, limit: 255 }));
        assert_eq!(u8.encode(&[0; 255]).unwrap().len(), 256);
        let fixed = framing(json!({ "kind": "fixed", "bytes": 3 }));
        assert_eq!(fixed.encode(b"ab"), Err(FrameError::WrongSize { size: 2, wanted: 3 }));
        let delimiter = framing(json!({ "kind": "delimiter", "end": "aa" }));
        assert_eq!(delimiter.encode(b"xa"), Err(FrameError::HoldsItsEnd { at: 1 }));
        for bad in [json!({ "kind": "fixed", "bytes": 0 }), json!({ "kind": "delimiter", "end": "" })] {
            assert!(serde_json::from_value::<Framing>(bad).unwrap().check().is_err());
        }
    }

    fn any_framing() -> impl Strategy<Value = Framing> {
        let size = prop_oneof![Just(LengthSize::U8), Just(LengthSize::U16), Just(LengthSize::U32)];
        let order = prop_oneof![Just(ByteOrder::Big), Just(ByteOrder::Little)];
        let length = (size, order, any::<bool>()).prop_map(|(size, order, counts_itself)| Framing::Length {
            size,
            order,
            counts_itself,
        });
        prop_oneof![
            Just(Framing::Raw),
            Just(Framing::Lines),
            length,
            (1..5_u32).prop_map(|bytes| Framing::Fixed { bytes }),
            proptest::collection::vec(0..4_u8, 1..3).prop_map(|end| Framing::Delimiter { end: end.into() }),
        ]
    }

    proptest! {
        /// How the network cuts a stream makes no difference.
        #[test]
        fn what_is_encoded_is_found_again(
            framing in any_framing(),
            payloads in proptest::collection::vec(proptest::collection::vec(0..6_u8, 0..8), 0..6),
            cuts in proptest::collection::vec(1..9_usize, 1..6),
        ) {
            prop_assume!(framing != Framing::Raw);
            let mut stream = Vec::new();
            let mut sent = Vec::new();
            for payload in payloads {
                if let Ok(frame) = framing.encode(&payload) {
                    stream.extend_from_slice(&frame);
                    sent.push(Ok(payload));
                }
            }
            let mut pieces = Vec::new();
            let mut rest = &stream[..];
            for size in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, more) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            prop_assert_eq!(cut(&framing, &pieces), sent);
        }

        #[test]
        fn garbage_gives_frames_within_the_limit_and_is_not_kept(
            framing in any_framing(),
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
        ) {
            let mut cutter = Cutter::new(framing, 8);
            for piece in &pieces {
                cutter.push(piece);
                loop {
                    match cutter.next_frame() {
                        Ok(None) => break,
                        Ok(Some(frame)) => prop_assert!(frame.len() <= 8),
                        Err(error) => prop_assert!(!error.to_string().is_empty()),
                    }
                }
                prop_assert!(cutter.held() <= 16, "{} held", cutter.held());
            }
        }
    }
}
