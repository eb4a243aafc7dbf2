//! Which trace a reading is part of, if its peer says so (W3C Trace Context). Pure.

use sandbar_reading::{Attributes, TRACEPARENT, TRACESTATE, TraceContext};

/// Adds what the peer says of it; `said` gives what it says under a name. What is no trace is ignored, as the
/// specification has it.
pub(crate) fn follow<'a>(attributes: &mut Attributes, said: impl Fn(&str) -> Option<&'a str>) {
    let Some(parent) = said(TRACEPARENT).filter(|text| TraceContext::parse(text).is_some()) else { return };
    attributes.add(TRACEPARENT, parent);
    if let Some(state) = said(TRACESTATE).filter(|state| !state.is_empty()) {
        attributes.add(TRACESTATE, state);
    }
}

/// Whether it is one of the names that [`follow`] asks for.
pub(crate) fn is_name(name: &str) -> bool {
    [TRACEPARENT, TRACESTATE].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_trace_is_ignored_with_what_belongs_to_it() {
        const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let followed = |parent: Option<&'static str>| {
            let mut attributes = Attributes::new();
            follow(&mut attributes, |name| if name == TRACEPARENT { parent } else { Some("a=b") });
            attributes
        };
        let whole = followed(Some(GIVEN));
        assert_eq!((whole.get(TRACEPARENT), whole.get(TRACESTATE)), (Some(GIVEN), Some("a=b")));
        for none in [None, Some(""), Some("nonsense"), Some(&GIVEN[1..])] {
            assert!(followed(none).is_empty(), "{none:?}");
        }
    }
}
