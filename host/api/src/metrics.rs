//! Figures for Prometheus, in the OpenMetrics text format.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use sandbar_control::{
    Circuit, HandlerStats, IngressState, LinkState, OutletStatus, RouteStatus, SinkState, Status,
};
use sandbar_reading::Name;

pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is shown at `/metrics`.
pub(crate) fn text(status: Status) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(status)));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a String takes whatever is written");
    text
}

struct Figures(Status);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let status = &self.0;
        let (started, uptime) = (status.started.millis() as f64 / 1000.0, status.uptime().as_secs_f64());
        out.family(
            "sandbar_build",
            "The version.",
            MetricType::Gauge,
            &[([("version", status.version)], 1.0)],
        )?;
        out.gauge("sandbar_start_time_seconds", "When the host started.", started)?;
        out.gauge("sandbar_uptime_seconds", "For how long it has run.", uptime)?;
        out.gauge("sandbar_devices_reachable", "Devices that a session reaches.", status.devices as f64)?;
        store(&mut out, status)?;
        routes(&mut out, &status.routes)?;
        ingresses(&mut out, &status.ingresses)?;
        connections(&mut out, status)?;
        sinks(&mut out, &status.sinks)
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

/// The value that one label set has.
type Sample<'a> = ([(&'static str, &'a str); 1], f64);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    fn family<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: &[(L, f64)],
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            let metric = metric.encode_family(labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(*value).encode(metric)?,
                _ => ConstGauge::new(*value).encode(metric)?,
            }
        }
        Ok(())
    }
}

fn store(out: &mut Out<'_>, status: &Status) -> fmt::Result {
    let store = &status.store;
    out.gauge("sandbar_journal_readings", "Readings in the journal.", store.journal_count as f64)?;
    out.gauge("sandbar_journal_bytes", "Bytes of their payloads.", store.journal_bytes as f64)?;
    out.gauge("sandbar_waiting_readings", "Readings that wait, once for each lane.", store.waiting as f64)?;
    out.gauge("sandbar_outbox_deliveries", "Deliveries that wait.", store.outbox as f64)?;
    out.gauge("sandbar_dead_letters", "Readings and deliveries given up on.", store.dead_letters as f64)?;
    out.gauge("sandbar_store_file_bytes", "Size of the store's file.", store.file_bytes as f64)?;
    out.gauge("sandbar_store_faulted", "1 while the storage fails.", f64::from(store.fault.is_some()))?;
    out.counter("sandbar_readings", "Readings journaled since the start.", store.readings)?;
    out.counter("sandbar_commits", "Transactions since the start.", store.commits)?;
    let last = store.last_commit.as_secs_f64();
    out.gauge("sandbar_last_commit_seconds", "What the last transaction took.", last)
}

fn connections(out: &mut Out<'_>, status: &Status) -> fmt::Result {
    out.gauge("sandbar_connections", "Connections that are open.", status.connections as f64)?;
    out.counter("sandbar_connections_opened", "Connections since the start.", status.connections_opened)
}

type Count<'a> = &'a dyn Fn(&RouteStatus) -> f64;

fn routes(out: &mut Out<'_>, routes: &[(Name, RouteStatus)]) -> fmt::Result {
    let samples = |value: &dyn Fn(&RouteStatus) -> f64| -> Vec<Sample<'_>> {
        routes.iter().map(|(name, status)| ([("route", name.as_str())], value(status))).collect()
    };
    let counts: [(&str, &str, Count<'_>); 5] = [
        ("sandbar_route_handled", "Readings handled.", &|route| route.counts.handled as f64),
        ("sandbar_route_failed_attempts", "Attempts that failed.", &|route| {
            route.counts.failed_attempts as f64
        }),
        ("sandbar_route_dead_letters", "Readings given up on.", &|route| route.counts.dead_letters as f64),
        ("sandbar_route_outputs", "Deliveries and chained readings.", &|route| route.counts.outputs as f64),
        ("sandbar_route_busy_seconds", "Time spent handling.", &|route| route.counts.busy.as_secs_f64()),
    ];
    for (name, help, value) in counts {
        out.family(name, help, MetricType::Counter, &samples(value))?;
    }
    let broken = samples(&|route| f64::from(route.broken.is_some()));
    out.family("sandbar_route_broken", "1 while nothing is handled.", MetricType::Gauge, &broken)?;
    handlers(out, routes)
}

fn handlers(out: &mut Out<'_>, routes: &[(Name, RouteStatus)]) -> fmt::Result {
    let handlers: Vec<(&str, &HandlerStats)> =
        routes.iter().filter_map(|(name, status)| Some((name.as_str(), status.handler.as_ref()?))).collect();
    let samples = |value: &dyn Fn(&HandlerStats) -> f64| -> Vec<Sample<'_>> {
        handlers.iter().map(|(name, stats)| ([("route", *name)], value(stats))).collect()
    };
    let instances = samples(&|stats| stats.instances as f64);
    out.family("sandbar_handler_instances", "Instances that exist.", MetricType::Gauge, &instances)?;
    let peak = samples(&|stats| stats.memory_peak as f64);
    out.family("sandbar_handler_memory_peak_bytes", "The most that one held.", MetricType::Gauge, &peak)?;
    let faults: Vec<_> = handlers
        .iter()
        .flat_map(|(name, stats)| stats.faults.iter().map(|fault| (*name, fault)))
        .map(|(name, (code, count))| ([("route", name), ("fault", *code)], *count as f64))
        .collect();
    out.family("sandbar_handler_faults", "Calls that came to nothing.", MetricType::Counter, &faults)?;
    let name = "sandbar_handler_call_seconds";
    let mut metric = out.0.encode_descriptor(name, "Time of calls.", None, MetricType::Histogram)?;
    for (route, stats) in handlers {
        let buckets: Vec<(f64, u64)> = stats
            .times
            .iter()
            .map(|(bound, count)| (bound.map_or(f64::MAX, |bound| bound.as_secs_f64()), *count))
            .collect();
        metric.encode_family(&[("route", route)])?.encode_histogram::<NoLabelSet>(
            stats.time.as_secs_f64(),
            stats.calls,
            &buckets,
            None,
        )?;
    }
    Ok(())
}

fn ingresses(out: &mut Out<'_>, ingresses: &[(Name, IngressState)]) -> fmt::Result {
    let samples = |value: &dyn Fn(&sandbar_control::IngressStatus) -> f64| -> Vec<Sample<'_>> {
        let status = |state: &IngressState| match state {
            IngressState::Supervised(status) => value(status),
            IngressState::Broken(_) => 0.0,
        };
        ingresses.iter().map(|(name, state)| ([("ingress", name.as_str())], status(state))).collect()
    };
    let accepted = samples(&|status| status.accepted as f64);
    out.family("sandbar_ingress_accepted", "Readings accepted.", MetricType::Counter, &accepted)?;
    let sessions = samples(&|status| status.sessions as f64);
    out.family("sandbar_ingress_sessions", "Sessions begun.", MetricType::Counter, &sessions)?;
    let up = samples(&|status| f64::from(status.state == LinkState::Running));
    out.family("sandbar_ingress_up", "1 while it listens or is connected.", MetricType::Gauge, &up)
}

fn sinks(out: &mut Out<'_>, sinks: &[(Name, SinkState)]) -> fmt::Result {
    let samples = |value: &dyn Fn(&OutletStatus) -> f64, broken: f64| -> Vec<Sample<'_>> {
        let status = |state: &SinkState| match state {
            SinkState::Offered(status) => value(status),
            SinkState::Broken(_) => broken,
        };
        sinks.iter().map(|(name, state)| ([("sink", name.as_str())], status(state))).collect()
    };
    let accepted = samples(&|status| status.accepted as f64, 0.0);
    out.family("sandbar_sink_accepted", "Deliveries accepted.", MetricType::Counter, &accepted)?;
    let given_up = samples(&|status| status.given_up as f64, 0.0);
    out.family("sandbar_sink_given_up", "Deliveries given up on.", MetricType::Counter, &given_up)?;
    let open = samples(&|status| f64::from(status.circuit != Circuit::Closed), 1.0);
    out.family("sandbar_sink_circuit_open", "1 while it is left alone.", MetricType::Gauge, &open)
}
