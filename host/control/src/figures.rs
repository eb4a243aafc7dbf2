//! A host's figures, for Prometheus and for an OpenTelemetry collector alike. Pure.

use sandbar_pipeline::{Circuit, OutletStatus};
use sandbar_reading::Name;
use sandbar_runtime::HandlerStats;
use sandbar_telemetry::{Family, Histogram, Kind, Labels, Samples};

use crate::views::{IngressState, RouteStatus, SinkState, Status};
use crate::{IngressStatus, LinkState};

/// Everything that is measured.
pub fn figures(status: &Status) -> Vec<Family> {
    let (started, uptime) = (status.started.millis() as f64 / 1000.0, status.uptime().as_secs_f64());
    let version = vec![(vec![("version", status.version.to_owned())], 1.0)];
    let mut families = vec![
        Family::many(Kind::Gauge, "sandbar_build", "The version.", version),
        gauge("sandbar_start_time_seconds", "When the host started.", started),
        gauge("sandbar_uptime_seconds", "For how long it has run.", uptime),
        gauge("sandbar_devices_reachable", "Devices that a session reaches.", status.devices as f64),
    ];
    families.extend(store(status));
    families.extend(routes(&status.routes));
    families.extend(handlers(&status.routes));
    families.extend(ingresses(&status.ingresses));
    families.extend(connections(status));
    families.extend(devices(status));
    families.extend(sinks(&status.sinks));
    if let Some(sent) = status.telemetry {
        families.push(counter("sandbar_spans_sent", "Spans that the collector took.", sent.spans));
        families.push(counter("sandbar_spans_dropped", "Spans that it did not.", sent.dropped));
    }
    families
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Family {
    Family::one(Kind::Gauge, name, help, value)
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Family {
    Family::one(Kind::Counter, name, help, value as f64)
}

fn store(status: &Status) -> Vec<Family> {
    let store = &status.store;
    let last = store.last_commit.as_secs_f64();
    vec![
        gauge("sandbar_journal_readings", "Readings in the journal.", store.journal_count as f64),
        gauge("sandbar_journal_bytes", "What host.journal_mib counts of them.", store.journal_bytes as f64),
        gauge("sandbar_waiting_readings", "Readings that wait, once for each lane.", store.waiting as f64),
        gauge("sandbar_outbox_deliveries", "Deliveries that wait.", store.outbox as f64),
        gauge("sandbar_dead_letters", "Readings and deliveries given up on.", store.dead_letters as f64),
        gauge("sandbar_dead_letter_bytes", "Bytes of them, about.", store.dead_letter_bytes as f64),
        counter(
            "sandbar_dead_letters_discarded",
            "Dead letters discarded since the start: they were too many.",
            store.dead_letters_discarded,
        ),
        gauge("sandbar_payload_files", "Payloads that have files of their own.", store.payloads as f64),
        gauge("sandbar_store_file_bytes", "Size of the store's file.", store.file_bytes as f64),
        gauge("sandbar_store_faulted", "1 while the storage fails.", f64::from(store.fault.is_some())),
        counter("sandbar_readings", "Readings journaled since the start.", store.readings),
        counter("sandbar_commits", "Transactions since the start.", store.commits),
        gauge("sandbar_last_commit_seconds", "What the last transaction took.", last),
    ]
}

fn connections(status: &Status) -> Vec<Family> {
    let (received, sent) = (status.traffic.received, status.traffic.sent);
    vec![
        gauge("sandbar_connections", "Connections that are open.", status.connections as f64),
        counter("sandbar_connections_opened", "Connections since the start.", status.connections_opened),
        counter("sandbar_connections_received_messages", "Messages over connections.", received.messages),
        counter("sandbar_connections_received_bytes", "Bytes of their payloads.", received.bytes),
        counter("sandbar_connections_sent_messages", "Messages over connections.", sent.messages),
        counter("sandbar_connections_sent_bytes", "Bytes of their payloads.", sent.bytes),
    ]
}

fn devices(status: &Status) -> Vec<Family> {
    let known = &status.known;
    let presence = [("online", known.online), ("offline", known.offline), ("lost", known.lost)];
    let by_presence = presence.map(|(presence, count)| (label("presence", presence), count as f64));
    vec![
        Family::many(Kind::Gauge, "sandbar_devices", "Devices by presence.", by_presence.into()),
        gauge("sandbar_devices_max", "Devices that may be listed.", known.max as f64),
        counter("sandbar_devices_unlisted", "Words of devices without room.", known.unlisted),
        counter("sandbar_devices_presence_changes", "Changes of presence since the start.", known.changes),
    ]
}

fn label(key: &'static str, name: &str) -> Labels {
    vec![(key, name.to_owned())]
}

fn routes(routes: &[(Name, RouteStatus)]) -> Vec<Family> {
    let family = |kind, name, help, value: &dyn Fn(&RouteStatus) -> f64| {
        let samples = routes.iter().map(|(name, status)| (label("route", name.as_str()), value(status)));
        Family::many(kind, name, help, samples.collect())
    };
    let count = |name, help, value: &dyn Fn(&RouteStatus) -> f64| family(Kind::Counter, name, help, value);
    vec![
        count("sandbar_route_handled", "Readings handled.", &|route| route.counts.handled as f64),
        count("sandbar_route_failed_attempts", "Attempts that failed.", &|route| {
            route.counts.failed_attempts as f64
        }),
        count("sandbar_route_dead_letters", "Readings given up on.", &|route| {
            route.counts.dead_letters as f64
        }),
        count("sandbar_route_outputs", "Deliveries and chained readings.", &|route| {
            route.counts.outputs as f64
        }),
        count("sandbar_route_busy_seconds", "Time spent handling.", &|route| route.counts.busy.as_secs_f64()),
        family(Kind::Gauge, "sandbar_route_broken", "1 while nothing is handled.", &|route| {
            f64::from(route.broken.is_some())
        }),
    ]
}

fn handlers(routes: &[(Name, RouteStatus)]) -> Vec<Family> {
    let handlers: Vec<(&str, &HandlerStats)> =
        routes.iter().filter_map(|(name, status)| Some((name.as_str(), status.handler.as_ref()?))).collect();
    let gauge = |name, help, value: &dyn Fn(&HandlerStats) -> f64| {
        let samples = handlers.iter().map(|(name, stats)| (label("route", name), value(stats)));
        Family::many(Kind::Gauge, name, help, samples.collect())
    };
    let of_fault = |name: &str, code: &str| vec![("route", name.to_owned()), ("fault", code.to_owned())];
    let faults = handlers.iter().flat_map(|(name, stats)| {
        stats.faults.iter().map(|(code, count)| (of_fault(name, code), *count as f64))
    });
    let times = handlers.iter().map(|(name, stats)| {
        let bound = |bound: &Option<std::time::Duration>| bound.map(|bound| bound.as_secs_f64());
        let buckets = stats.times.iter().map(|(end, count)| (bound(end), *count)).collect();
        let times = Histogram { sum: stats.time.as_secs_f64(), count: stats.calls, buckets };
        (label("route", name), times)
    });
    vec![
        gauge("sandbar_handler_instances", "Instances that exist.", &|stats| stats.instances as f64),
        Family::many(
            Kind::Counter,
            "sandbar_handler_refused_writes",
            "Writes to the state that a limit refused.",
            handlers
                .iter()
                .map(|(name, stats)| (label("route", name), stats.refused_writes as f64))
                .collect(),
        ),
        gauge("sandbar_handler_memory_peak_bytes", "The most that one held.", &|stats| {
            stats.memory_peak as f64
        }),
        Family::many(
            Kind::Counter,
            "sandbar_handler_faults",
            "Calls that came to nothing.",
            faults.collect(),
        ),
        Family {
            name: "sandbar_handler_call_seconds",
            help: "Time of calls.",
            samples: Samples::Histograms(times.collect()),
        },
    ]
}

fn ingresses(ingresses: &[(Name, IngressState)]) -> Vec<Family> {
    let family = |kind, name, help, value: &dyn Fn(&IngressStatus) -> f64| {
        let status = |state: &IngressState| match state {
            IngressState::Supervised(status) => value(status),
            IngressState::Broken(_) => 0.0,
        };
        let samples = ingresses.iter().map(|(name, state)| (label("ingress", name.as_str()), status(state)));
        Family::many(kind, name, help, samples.collect())
    };
    let own = ingresses.iter().flat_map(|(name, state)| {
        let figures = match state {
            IngressState::Supervised(status) => &status.figures[..],
            IngressState::Broken(_) => &[],
        };
        let labels = |figure: &str| vec![("ingress", name.to_string()), ("figure", figure.to_owned())];
        figures.iter().map(move |(figure, value)| (labels(figure), *value as f64))
    });
    vec![
        Family::many(
            Kind::Gauge,
            "sandbar_ingress_figures",
            "What drivers count of their own.",
            own.collect(),
        ),
        family(Kind::Counter, "sandbar_ingress_accepted", "Readings accepted.", &|status| {
            status.accepted as f64
        }),
        family(Kind::Counter, "sandbar_ingress_sessions", "Sessions begun.", &|status| {
            status.sessions as f64
        }),
        family(Kind::Gauge, "sandbar_ingress_up", "1 while it listens or is connected.", &|status| {
            f64::from(status.state == LinkState::Running)
        }),
    ]
}

fn sinks(sinks: &[(Name, SinkState)]) -> Vec<Family> {
    let family = |kind, name, help, broken: f64, value: &dyn Fn(&OutletStatus) -> f64| {
        let status = |state: &SinkState| match state {
            SinkState::Offered(status) => value(status),
            SinkState::Broken(_) => broken,
        };
        let samples = sinks.iter().map(|(name, state)| (label("sink", name.as_str()), status(state)));
        Family::many(kind, name, help, samples.collect())
    };
    vec![
        family(Kind::Counter, "sandbar_sink_accepted", "Deliveries accepted.", 0.0, &|status| {
            status.accepted as f64
        }),
        family(Kind::Counter, "sandbar_sink_given_up", "Deliveries given up on.", 0.0, &|status| {
            status.given_up as f64
        }),
        family(Kind::Gauge, "sandbar_sink_circuit_open", "1 while it is left alone.", 1.0, &|status| {
            f64::from(status.circuit != Circuit::Closed)
        }),
    ]
}
