//! Which trace a reading is part of (W3C Trace Context), and the ids of what is done with it. Ids follow from
//! what they name: whoever knows a reading knows the spans of it, and nothing has to be kept.

use std::fmt;

use crate::{Attributes, DeliveryId, Reading, ReadingId};

/// The attribute that names a trace and the span in it that came before.
pub const TRACEPARENT: &str = "traceparent";
/// What others need beside it; passed on as it is.
pub const TRACESTATE: &str = "tracestate";

/// A place in a trace: its text form is the value of `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Not 0.
    pub trace: u128,
    /// Not 0.
    pub span: u64,
    /// Whether anybody records it.
    pub sampled: bool,
}

impl TraceContext {
    /// `None` for what the specification says to ignore.
    pub fn parse(text: &str) -> Option<Self> {
        const LENGTH: usize = 55;
        let bytes = text.as_bytes();
        let separated = bytes.len() >= LENGTH && [2, 35, 52].iter().all(|at| bytes[*at] == b'-');
        let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        if !separated || !bytes[..LENGTH].iter().all(is_hex) || text.starts_with("ff") {
            return None;
        }
        // Later versions may say more, behind another separator.
        if bytes.len() > LENGTH && (text.starts_with("00") || bytes[LENGTH] != b'-') {
            return None;
        }
        let trace = u128::from_str_radix(text.get(3..35)?, 16).ok()?;
        let span = u64::from_str_radix(text.get(36..52)?, 16).ok()?;
        let flags = u8::from_str_radix(text.get(53..55)?, 16).ok()?;
        u8::from_str_radix(text.get(..2)?, 16).ok()?;
        (trace != 0 && span != 0).then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// Of what came with attributes.
    pub fn of(attributes: &Attributes) -> Option<Self> {
        attributes.get(TRACEPARENT).and_then(Self::parse)
    }

    /// The same trace, at another span.
    #[must_use]
    pub const fn at(self, span: u64) -> Self {
        Self { span, ..self }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// Which readings' spans are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    /// Of those that come without a trace; 0 for none of them. `None` records nothing, and leaves all contexts alone.
    one_in: Option<u32>,
}

/// A reading's acceptance, and the span before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acceptance {
    pub parent: Option<u64>,
    pub own: TraceContext,
}

impl Sampling {
    pub const NOTHING: Self = Self { one_in: None };

    /// Who comes with a trace has decided already; of the others one in so many is recorded, or none for 0.
    pub const fn one_in(count: u32) -> Self {
        Self { one_in: Some(count) }
    }

    pub const fn is_on(self) -> bool {
        self.one_in.is_some()
    }

    /// Where a reading from outside stands in its trace, if it is recorded. `before` is what it came with.
    pub fn acceptance(self, id: ReadingId, before: Option<TraceContext>) -> Option<Acceptance> {
        let one_in = self.one_in?;
        let span = span_id(id.as_u128(), "accept", 0);
        match before {
            Some(before) => {
                before.sampled.then(|| Acceptance { parent: Some(before.span), own: before.at(span) })
            }
            None => {
                let own = TraceContext { trace: id.as_u128().max(1), span, sampled: true };
                let is_drawn = one_in > 0 && span.is_multiple_of(u64::from(one_in));
                is_drawn.then_some(Acceptance { parent: None, own })
            }
        }
    }

    /// The span that a route's attempts at `reading` follow, if it is recorded: its acceptance, or for a message of
    /// another route that one's attempt.
    pub fn of(self, reading: &Reading) -> Option<TraceContext> {
        let before = TraceContext::of(&reading.attributes);
        match reading.lineage.parent {
            None => self.acceptance(reading.id, before).map(|acceptance| acceptance.own),
            Some(_) => before.filter(|before| self.is_on() && before.sampled),
        }
    }
}

/// The span of an attempt at a reading, counted from 1. `whose`: a route's, or a replay's.
pub fn attempt_span(reading: ReadingId, whose: &str, attempt: u32) -> u64 {
    span_id(reading.as_u128(), whose, attempt)
}

/// The span of an offer of a delivery, counted from 1. `what` tells a sink's from a device's: what a sink
/// hands over as a command keeps its id.
pub fn offer_span(delivery: DeliveryId, what: &str, attempt: u32) -> u64 {
    span_id(delivery.as_u128(), what, attempt)
}

/// FNV-1a, then mixed (the end of SplitMix64): ids that count upwards make spans that do not.
fn span_id(id: u128, what: &str, count: u32) -> u64 {
    let bytes = id.to_be_bytes().into_iter().chain(what.bytes()).chain(count.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own example.
    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_survives_its_text_form() {
        let context = TraceContext::parse(GIVEN).unwrap();
        assert_eq!((context.span, context.sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(context.to_string(), GIVEN);
        let later = format!("cc{}-what-the-future-brings", &GIVEN[2..]);
        assert_eq!(TraceContext::parse(&later), Some(context));
    }

    #[test]
    fn what_is_no_context_is_ignored() {
        let replaced = |from: &str, to: &str| GIVEN.replacen(from, to, 1);
        for bad in [
            String::new(),
            GIVEN[..54].to_owned(),
            format!("{GIVEN}-more"),
            format!("{GIVEN}."),
            GIVEN.to_uppercase(),
            replaced("00-", "ff-"),
            replaced("00-", "0x-"),
            replaced("-", "_"),
            replaced("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            replaced("b7ad6b7169203331", "0000000000000000"),
            replaced("0af", "-af"),
            replaced("0af", "é7"),
        ] {
            assert_eq!(TraceContext::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn who_brings_a_trace_has_decided_whether_it_is_recorded() {
        let (id, given) = (ReadingId::from_u128(7), TraceContext::parse(GIVEN).unwrap());
        let none = Sampling::one_in(0);
        let acceptance = none.acceptance(id, Some(given)).unwrap();
        assert_eq!((acceptance.parent, acceptance.own.trace), (Some(given.span), given.trace));
        assert_ne!(acceptance.own.span, given.span);
        assert_eq!(none.acceptance(id, None), None);
        let unsampled = TraceContext { sampled: false, ..given };
        assert_eq!(Sampling::one_in(1).acceptance(id, Some(unsampled)), None);
        assert_eq!(Sampling::NOTHING.acceptance(id, Some(given)), None);
    }

    #[test]
    fn of_the_others_one_in_so_many_is_recorded() {
        let recorded = |one_in| {
            let ids = (1..=1000).map(ReadingId::from_u128);
            ids.filter(|id| Sampling::one_in(one_in).acceptance(*id, None).is_some()).count()
        };
        assert_eq!((recorded(0), recorded(1)), (0, 1000));
        assert!((200..300).contains(&recorded(4)), "{}", recorded(4));
    }

    #[test]
    fn every_attempt_has_a_span_of_its_own() {
        let spans = [
            attempt_span(ReadingId::from_u128(1), "r", 1),
            attempt_span(ReadingId::from_u128(1), "r", 2),
            attempt_span(ReadingId::from_u128(2), "r", 1),
            offer_span(DeliveryId::from_u128(1), "deliver", 1),
            offer_span(DeliveryId::from_u128(1), "deliver", 2),
            offer_span(DeliveryId::from_u128(1), "command", 1),
        ];
        let different: std::collections::BTreeSet<_> = spans.into_iter().collect();
        assert_eq!(different.len(), spans.len());
    }
}
