//! Which trace a handler's requests are part of (W3C Trace Context).

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use sandbar_reading::{Reading, TRACEPARENT, TRACESTATE, TraceContext};

/// The headers of one call's requests. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct TraceHeaders(Option<Arc<[(HeaderName, HeaderValue)]>>);

impl TraceHeaders {
    /// At the attempt's own span, if it is recorded; else where the reading came from, if it says so.
    pub(crate) fn of(reading: &Reading, attempt: Option<TraceContext>) -> Self {
        let Some(context) = attempt.or_else(|| TraceContext::of(&reading.attributes)) else {
            return Self(None);
        };
        let header =
            |name, value: &str| Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?));
        let state = reading.attributes.get(TRACESTATE).and_then(|state| header(TRACESTATE, state));
        Self(Some(header(TRACEPARENT, &context.to_string()).into_iter().chain(state).collect()))
    }

    /// Unless the handler says so itself.
    pub(crate) fn add(&self, headers: &mut HeaderMap) {
        let Some(own) = &self.0 else { return };
        if !headers.contains_key(TRACEPARENT) {
            headers.extend(own.iter().cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use sandbar_reading::{Attributes, ContentType, Lineage, ReadingId, Timestamp};

    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn added(given: &[(&str, &str)], attempt: Option<TraceContext>, own: &[(&str, &str)]) -> String {
        let reading = Reading {
            id: ReadingId::from_u128(5),
            ingress: "web".parse().unwrap(),
            topic: "t".parse().unwrap(),
            device: None,
            time: Timestamp::from_millis(1),
            content_type: ContentType::TEXT,
            attributes: given.iter().copied().collect::<Attributes>(),
            payload: "x".into(),
            lineage: Lineage::default(),
        };
        let mut headers: HeaderMap = own
            .iter()
            .map(|(name, value)| {
                (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        TraceHeaders::of(&reading, attempt).add(&mut headers);
        headers.iter().map(|(name, value)| format!("{name}={};", value.to_str().unwrap())).collect()
    }

    #[test]
    fn requests_follow_the_attempt_or_the_reading_or_nothing() {
        let attempt = TraceContext::parse(GIVEN).unwrap().at(7);
        let given = [("traceparent", GIVEN), ("tracestate", "a=b")];
        assert_eq!(added(&given, None, &[]), format!("traceparent={GIVEN};tracestate=a=b;"));
        assert_eq!(added(&given, Some(attempt), &[]), format!("traceparent={attempt};tracestate=a=b;"));
        assert_eq!(added(&[], Some(attempt), &[]), format!("traceparent={attempt};"));
        assert_eq!(added(&[("traceparent", "nonsense")], None, &[]), "");
        assert_eq!(added(&given, None, &[("traceparent", "its-own")]), "traceparent=its-own;");
    }
}
