//! Spans and metrics on their way to an OpenTelemetry collector (OTLP over HTTP). Whoever records a span never waits:
//! what the collector does not take in time is dropped and counted.

mod config;
mod encode;
mod figures;
mod link;
mod proto;
mod span;
mod telemetry;

pub use config::TelemetryTable;
pub use figures::{Family, Histogram, Kind, Labels, Samples};
pub use span::{Span, SpanKind, Value};
pub use telemetry::{Sent, Telemetry};
