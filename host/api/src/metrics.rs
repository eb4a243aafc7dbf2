//! Figures for Prometheus, in the OpenMetrics text format.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use sandbar_control::{Family, Kind, Samples, Status, figures};

pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is shown at `/metrics`.
pub(crate) fn text(status: &Status) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(figures(status))));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a String takes whatever is written");
    text
}

#[derive(Debug)]
struct Figures(Vec<Family>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| one(&mut encoder, family))
    }
}

fn one(encoder: &mut DescriptorEncoder<'_>, family: &Family) -> fmt::Result {
    let kind = match family.samples {
        Samples::Numbers(Kind::Gauge, _) => MetricType::Gauge,
        Samples::Numbers(Kind::Counter, _) => MetricType::Counter,
        Samples::Histograms(_) => MetricType::Histogram,
    };
    let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
    match &family.samples {
        Samples::Numbers(kind, samples) => {
            if let [(labels, value)] = &samples[..]
                && labels.is_empty()
            {
                return number(*kind, *value, metric);
            }
            for (labels, value) in samples {
                number(*kind, *value, metric.encode_family(labels)?)?;
            }
        }
        Samples::Histograms(samples) => {
            for (labels, times) in samples {
                let bound = |(end, count): &(Option<f64>, u64)| (end.unwrap_or(f64::INFINITY), *count);
                let buckets: Vec<_> = times.buckets.iter().map(bound).collect();
                let mut metric = metric.encode_family(labels)?;
                metric.encode_histogram::<NoLabelSet>(times.sum, times.count, &buckets, None)?;
            }
        }
    }
    Ok(())
}

fn number(kind: Kind, value: f64, metric: MetricEncoder<'_>) -> fmt::Result {
    match kind {
        Kind::Counter => ConstCounter::new(value).encode(metric),
        Kind::Gauge => ConstGauge::new(value).encode(metric),
    }
}
