//! Spans and figures as a collector understands them. Pure.

use bytes::Bytes;
use prost::Message;
use sandbar_reading::Timestamp;

use crate::figures::{Family, Histogram, Kind, Labels, Samples};
use crate::proto::{self, any_value, metric, span, status};
use crate::span::{Span, SpanKind, Value};

pub(crate) fn spans(resource: &[(String, String)], spans: &[Span]) -> Bytes {
    let spans = spans.iter().map(span).collect();
    let scope_spans = vec![proto::ScopeSpans { scope: Some(scope()), spans }];
    let of_host = proto::ResourceSpans { resource: Some(host(resource)), scope_spans };
    proto::TracesRequest { resource_spans: vec![of_host] }.encode_to_vec().into()
}

/// `started`: since when counters count.
pub(crate) fn metrics(
    resource: &[(String, String)],
    families: &[Family],
    started: Timestamp,
    now: Timestamp,
) -> Bytes {
    let metrics = families.iter().map(|family| metric(family, started.nanos(), now.nanos())).collect();
    let scope_metrics = vec![proto::ScopeMetrics { scope: Some(scope()), metrics }];
    let of_host = proto::ResourceMetrics { resource: Some(host(resource)), scope_metrics };
    proto::MetricsRequest { resource_metrics: vec![of_host] }.encode_to_vec().into()
}

fn scope() -> proto::Scope {
    proto::Scope { name: "sandbar".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

fn host(resource: &[(String, String)]) -> proto::Resource {
    let attributes = resource.iter().map(|(key, value)| text(key, value)).collect();
    proto::Resource { attributes }
}

fn span(span: &Span) -> proto::Span {
    let kind = match span.kind {
        SpanKind::Consumer => span::Kind::Consumer,
        SpanKind::Internal => span::Kind::Internal,
        SpanKind::Producer => span::Kind::Producer,
    };
    let id = |span: u64| Bytes::copy_from_slice(&span.to_be_bytes());
    let attributes = span.attributes.iter().map(|(key, value)| match value {
        Value::Text(value) => text(key, value),
        Value::Number(number) => key_value(key, any_value::Value::IntValue(*number)),
    });
    proto::Span {
        trace_id: Bytes::copy_from_slice(&span.context.trace.to_be_bytes()),
        span_id: id(span.context.span),
        trace_state: span.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: span.parent.map(id).unwrap_or_default(),
        name: span.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: span.began.nanos(),
        end_time_unix_nano: span.ended.max(span.began).nanos(),
        attributes: attributes.collect(),
        status: span
            .error
            .as_ref()
            .map(|error| proto::Status { message: error.clone(), code: status::Code::Error.into() }),
        flags: u32::from(span.context.sampled),
    }
}

fn metric(family: &Family, start: u64, now: u64) -> proto::Metric {
    let cumulative = proto::Temporality::Cumulative.into();
    let data = match &family.samples {
        Samples::Numbers(kind, samples) => {
            // A gauge has no beginning.
            let start = if *kind == Kind::Counter { start } else { 0 };
            let data_points =
                samples.iter().map(|(labels, value)| number(labels, *value, start, now)).collect();
            match kind {
                Kind::Gauge => metric::Data::Gauge(proto::Gauge { data_points }),
                Kind::Counter => metric::Data::Sum(proto::Sum {
                    data_points,
                    aggregation_temporality: cumulative,
                    is_monotonic: true,
                }),
            }
        }
        Samples::Histograms(samples) => metric::Data::Histogram(proto::Histogram {
            data_points: samples.iter().map(|(labels, it)| histogram(labels, it, start, now)).collect(),
            aggregation_temporality: cumulative,
        }),
    };
    // Of names that say it, as the collector's own do.
    let unit = match family.name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "1",
    };
    proto::Metric {
        name: family.name.to_owned(),
        description: family.help.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
    }
}

fn number(labels: &Labels, value: f64, start: u64, now: u64) -> proto::NumberPoint {
    proto::NumberPoint {
        start_time_unix_nano: start,
        time_unix_nano: now,
        as_double: Some(value),
        attributes: attributes(labels),
    }
}

fn histogram(labels: &Labels, histogram: &Histogram, start: u64, now: u64) -> proto::HistogramPoint {
    proto::HistogramPoint {
        start_time_unix_nano: start,
        time_unix_nano: now,
        // A collector refuses a count that is not its buckets' sum; calls go on while they are read.
        count: histogram.buckets.iter().map(|(_, count)| count).sum(),
        sum: Some(histogram.sum),
        bucket_counts: histogram.buckets.iter().map(|(_, count)| *count).collect(),
        explicit_bounds: histogram.buckets.iter().filter_map(|(bound, _)| *bound).collect(),
        attributes: attributes(labels),
    }
}

fn attributes(labels: &Labels) -> Vec<proto::KeyValue> {
    labels.iter().map(|(key, value)| text(key, value)).collect()
}

fn text(key: &str, value: &str) -> proto::KeyValue {
    key_value(key, any_value::Value::StringValue(value.to_owned()))
}

fn key_value(key: &str, value: any_value::Value) -> proto::KeyValue {
    proto::KeyValue { key: key.to_owned(), value: Some(proto::AnyValue { value: Some(value) }) }
}

#[cfg(test)]
mod tests {
    use sandbar_reading::TraceContext;

    use super::*;

    #[test]
    fn a_span_keeps_its_ids_and_never_ends_before_it_begins() {
        let whole = Span {
            context: TraceContext { trace: 0xab, span: 2, sampled: true },
            parent: Some(1),
            state: Some("a=b".into()),
            name: "handle r".to_owned(),
            kind: SpanKind::Internal,
            began: Timestamp::from_millis(5),
            // The clock was set back.
            ended: Timestamp::from_millis(4),
            attributes: vec![("sandbar.attempt", Value::Number(2))],
            error: Some("trap".to_owned()),
        };
        let read = proto::TracesRequest::decode(spans(&[], &[whole])).unwrap();
        let span = &read.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(
            (span.trace_id.len(), span.trace_id[15], &span.span_id[..]),
            (16, 0xab, &[0, 0, 0, 0, 0, 0, 0, 2][..])
        );
        assert_eq!((span.parent_span_id[7], &*span.trace_state, span.flags), (1, "a=b", 1));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (5_000_000, 5_000_000));
        assert_eq!(span.status.as_ref().map(|status| status.code), Some(status::Code::Error.into()));
    }

    #[test]
    fn figures_keep_their_kind_and_a_zero_is_there() {
        let buckets = vec![(Some(0.1), 3), (None, 1)];
        let times = Histogram { sum: 0.5, count: 4, buckets };
        let families = [
            Family::one(Kind::Gauge, "a_bytes", "A.", 0.0),
            Family::many(Kind::Counter, "b", "B.", vec![(vec![("route", "r".to_owned())], 7.0)]),
            Family { name: "c_seconds", help: "C.", samples: Samples::Histograms(vec![(Vec::new(), times)]) },
        ];
        let (start, now) = (Timestamp::from_millis(1), Timestamp::from_millis(2));
        let read = proto::MetricsRequest::decode(metrics(&[], &families, start, now)).unwrap();
        let [a, b, c] = &read.resource_metrics[0].scope_metrics[0].metrics[..] else { panic!("three") };
        let Some(metric::Data::Gauge(gauge)) = &a.data else { panic!("a gauge") };
        assert_eq!((gauge.data_points[0].as_double, &*a.unit), (Some(0.0), "By"));
        let Some(metric::Data::Sum(sum)) = &b.data else { panic!("a sum") };
        assert!(sum.is_monotonic && sum.data_points[0].start_time_unix_nano == start.nanos());
        let Some(metric::Data::Histogram(histogram)) = &c.data else { panic!("a histogram") };
        let point = &histogram.data_points[0];
        assert_eq!(
            (&point.bucket_counts[..], &point.explicit_bounds[..], point.count),
            (&[3, 1][..], &[0.1][..], 4)
        );
    }
}
