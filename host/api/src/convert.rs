//! What the host has inside, as clients see it.

use std::collections::HashMap;
use std::time::Duration;

use sandbar_control::{
    Applied, Circuit, ConnectionStatus, DeadLetter, Info, IngressState, Item, LinkState, LogLevel,
    ModuleInfo, OutletStatus, Queued, RouteStatus, SinkState, Stats, Status, Subject, TrafficStatus,
    TrialResult, Uploaded, Version,
};
use sandbar_reading::{Command, ContentType, Delivery, Message, Output, StateWrite, Target, Timestamp};
use serde_json::Value;

use crate::params::target_text;
use crate::views::{self, PayloadView, attributes_view};

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

impl From<Version> for views::VersionView {
    fn from(version: Version) -> Self {
        Self {
            version: version.version,
            digest: version.digest,
            size: version.size,
            imports: version.imports,
            uploaded: version.uploaded.to_string(),
            signed_by: version.signed_by,
            never_active: version.never_active,
        }
    }
}

impl From<ModuleInfo> for views::ModuleView {
    fn from(module: ModuleInfo) -> Self {
        Self {
            name: module.name.to_string(),
            declared: module.declared,
            active: module.active,
            versions: module.versions.into_iter().map(Into::into).collect(),
            routes: texts(module.routes),
            candidate: module.candidate.map(Into::into),
            last_trial: module.ended.map(Into::into),
            not_granted: module.not_granted.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Uploaded> for views::UploadedView {
    fn from(uploaded: Uploaded) -> Self {
        Self {
            name: uploaded.name.to_string(),
            version: uploaded.version.version,
            digest: uploaded.version.digest,
            imports: uploaded.version.imports,
            size: uploaded.version.size,
            active: uploaded.active,
            not_granted: uploaded.not_granted.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<TrialResult> for views::TrialView {
    fn from(trial: TrialResult) -> Self {
        let (tried, fault) = match trial.result {
            Ok(tried) => (Some(tried), None),
            Err(fault) => (None, Some(fault)),
        };
        let fault =
            fault.map(|fault| views::FaultView { code: fault.code().to_owned(), cause: fault.to_string() });
        let (outputs, writes) = tried.map(|tried| (tried.outputs, tried.writes)).unzip();
        Self {
            outputs: outputs.map(|outputs| outputs.into_iter().map(Into::into).collect()),
            state: writes.unwrap_or_default().into_iter().map(Into::into).collect(),
            fault,
            logs: trial.logs.into_iter().map(Into::into).collect(),
            elapsed_us: micros(trial.elapsed),
        }
    }
}

pub(crate) fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Critical => "critical",
    }
}

impl From<StateWrite> for views::StateWriteView {
    fn from(write: StateWrite) -> Self {
        let value = write.value.as_deref();
        Self {
            name: write.name.into(),
            deleted: value.is_none(),
            expires: write.expires.map(|time| time.to_string()),
            // State has no content type: what is JSON is shown as JSON.
            value: value.map(|value| PayloadView::of(&ContentType::JSON, value)).unwrap_or_default(),
        }
    }
}

impl From<Output> for views::OutputView {
    fn from(output: Output) -> Self {
        match output {
            Output::Message(message) => Self::Message((&message).into()),
            Output::Reply(message) => Self::Reply((&message).into()),
            Output::Command(command) => Self::Command((&command).into()),
        }
    }
}

impl From<&Message> for views::MessageView {
    fn from(message: &Message) -> Self {
        Self {
            topic: message.topic.to_string(),
            device: message.device.as_deref().map(str::to_owned),
            content_type: message.content_type.to_string(),
            attributes: attributes_view(&message.attributes),
            payload: PayloadView::of(&message.content_type, &message.payload),
        }
    }
}

impl From<&Command> for views::CommandView {
    fn from(command: &Command) -> Self {
        Self {
            device: command.device.to_string(),
            name: command.name.to_string(),
            content_type: command.content_type.to_string(),
            payload: PayloadView::of(&command.content_type, &command.payload),
        }
    }
}

impl views::ConnectionView {
    /// `kinds`: the types of devices.
    pub(crate) fn new(connection: ConnectionStatus, kinds: &HashMap<Box<str>, Box<str>>) -> Self {
        let traffic = |traffic: TrafficStatus| views::TrafficView {
            messages: traffic.messages,
            bytes: traffic.bytes,
            last: traffic.last.map(|time| time.to_string()),
        };
        Self {
            id: connection.id,
            ingress: connection.ingress.to_string(),
            remote: connection.peer.remote.map(|remote| remote.to_string()),
            kind: connection
                .peer
                .device
                .as_ref()
                .and_then(|device| kinds.get(device))
                .map(|kind| (**kind).into()),
            device: connection.peer.device.map(Into::into),
            client: connection.peer.client.map(Into::into),
            agent: connection.peer.agent.map(Into::into),
            created: connection.created.to_string(),
            received: traffic(connection.received),
            sent: traffic(connection.sent),
            queued: connection.queued,
        }
    }
}

impl From<&Queued> for views::QueuedView {
    fn from(queued: &Queued) -> Self {
        let delivery = &queued.delivery;
        Self {
            id: delivery.id.to_string(),
            target: target_text(&queued.target),
            reading: delivery.reading.to_string(),
            route: delivery.route.to_string(),
            time: delivery.time.to_string(),
            attempts: queued.attempts,
            due: queued.due.to_string(),
            last_cause: queued.last_cause.clone(),
            message: (&delivery.message).into(),
        }
    }
}

impl From<&Delivery> for views::DeliveryView {
    fn from(delivery: &Delivery) -> Self {
        Self {
            id: delivery.id.to_string(),
            reading: delivery.reading.to_string(),
            time: delivery.time.to_string(),
            message: (&delivery.message).into(),
        }
    }
}

impl From<&DeadLetter> for views::DeadLetterView {
    fn from(letter: &DeadLetter) -> Self {
        let (route, target, key, reading, delivery) = match &letter.subject {
            Subject::Reading { lane, reading } => {
                (&lane.route, None, Some(lane.key.to_string()), Some((&**reading).into()), None)
            }
            Subject::Delivery { target, delivery } => {
                (&delivery.route, Some(target_text(target)), None, None, Some((&**delivery).into()))
            }
        };
        Self {
            id: letter.id.to_string(),
            time: letter.time.to_string(),
            attempts: letter.attempts,
            cause: letter.cause.clone(),
            route: route.to_string(),
            target,
            key,
            reading,
            delivery,
        }
    }
}

impl From<RouteStatus> for views::RouteStatus {
    fn from(status: RouteStatus) -> Self {
        let counts = status.counts;
        let handler = status.handler.map(|stats| views::HandlerStatus {
            instances: stats.instances as u64,
            warm: stats.warm as u64,
            calls: stats.calls,
            faults: stats.faults.into_iter().map(|(code, count)| (code.to_owned(), count)).collect(),
            refused_writes: stats.refused_writes,
            memory_peak_bytes: stats.memory_peak as u64,
        });
        Self {
            version: status.module.map(|(_, version)| version),
            broken: status.broken,
            handled: counts.handled,
            failed_attempts: counts.failed_attempts,
            dead_letters: counts.dead_letters,
            outputs: counts.outputs,
            busy_ms: u64::try_from(counts.busy.as_millis()).unwrap_or(u64::MAX),
            handler,
        }
    }
}

impl From<IngressState> for views::IngressStatus {
    fn from(state: IngressState) -> Self {
        let status = match state {
            IngressState::Supervised(status) => status,
            IngressState::Broken(cause) => {
                return Self {
                    state: views::IngressState::Broken,
                    broken: Some(cause),
                    since: None,
                    until: None,
                    address: None,
                    last_error: None,
                    sessions: 0,
                    accepted: 0,
                    figures: <_>::default(),
                };
            }
        };
        let (state, until) = match status.state {
            LinkState::Starting => (views::IngressState::Starting, None),
            LinkState::Running => (views::IngressState::Running, None),
            LinkState::BackingOff { until } => (views::IngressState::BackingOff, Some(until.to_string())),
            LinkState::Stopped => (views::IngressState::Stopped, None),
        };
        Self {
            state,
            broken: None,
            since: Some(status.since.to_string()),
            until,
            address: status.address.map(|address| address.to_string()),
            last_error: status.last_error.map(|error| error_view(error.at, error.text)),
            sessions: status.sessions,
            accepted: status.accepted,
            figures: status.figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

fn error_view(time: Timestamp, text: String) -> views::ErrorView {
    views::ErrorView { text, time: time.to_string() }
}

impl From<OutletStatus> for views::SinkStatus {
    fn from(status: OutletStatus) -> Self {
        let (circuit, since, until, failures) = match status.circuit {
            Circuit::Closed => (views::CircuitState::Closed, None, None, 0),
            Circuit::Open { since, until, failures } => {
                (views::CircuitState::Open, Some(since.to_string()), Some(until.to_string()), failures)
            }
        };
        Self {
            circuit,
            broken: None,
            since,
            until,
            failures,
            accepted: status.accepted,
            given_up: status.given_up,
            last_error: status.last_error.map(|(time, text)| error_view(time, text)),
        }
    }
}

impl From<SinkState> for views::SinkStatus {
    fn from(state: SinkState) -> Self {
        match state {
            SinkState::Offered(status) => status.into(),
            SinkState::Broken(cause) => Self {
                circuit: views::CircuitState::Broken,
                broken: Some(cause),
                since: None,
                until: None,
                failures: 0,
                accepted: 0,
                given_up: 0,
                last_error: None,
            },
        }
    }
}

impl<S, V: From<S>> From<Info<S>> for views::TableView<V> {
    fn from(info: Info<S>) -> Self {
        let table = match info.table {
            Value::Object(table) => table,
            // A table is never anything else.
            _ => serde_json::Map::new(),
        };
        Self { name: info.name.to_string(), declared: info.declared, status: info.status.into(), table }
    }
}

impl From<Stats> for views::StoreStatus {
    fn from(stats: Stats) -> Self {
        Self {
            journal_readings: stats.journal_count,
            journal_bytes: stats.journal_bytes,
            trace_bytes: stats.trace_bytes,
            journal_since: stats.oldest.map(|time| time.to_string()),
            waiting: stats.waiting,
            outbox: stats.outbox,
            dead_letters: stats.dead_letters,
            dead_letter_bytes: stats.dead_letter_bytes,
            dead_letters_discarded: stats.dead_letters_discarded,
            payload_files: stats.payloads,
            file_bytes: stats.file_bytes,
            commits: stats.commits,
            readings: stats.readings,
            last_commit_us: micros(stats.last_commit),
        }
    }
}

impl views::StatusView {
    pub(crate) fn new(status: Status, problems: Vec<String>) -> Self {
        fn named<N: ToString, S, V: From<S>>(all: Vec<(N, S)>) -> Vec<views::Named<V>> {
            all.into_iter()
                .map(|(name, status)| views::Named { name: name.to_string(), status: status.into() })
                .collect()
        }
        let device = |outlet: OutletStatus| match &outlet.target {
            Target::Sink(name) => (name.to_string(), outlet),
            Target::Device(device) => (device.to_string(), outlet),
        };
        Self {
            version: status.version.to_owned(),
            started: status.started.to_string(),
            uptime_seconds: status.uptime().as_secs(),
            ready: problems.is_empty(),
            problems,
            store: status.store.into(),
            modules: status.modules.into_iter().map(Into::into).collect(),
            routes: named(status.routes),
            ingresses: named(status.ingresses),
            sinks: named(status.sinks),
            commands: named(status.commands.into_iter().map(device).collect()),
            connections: status.connections as u64,
            connections_opened: status.connections_opened,
            devices: views::DevicesStatus::new(status.known, status.devices),
            traffic: status.traffic.into(),
        }
    }
}

impl From<Applied> for views::AppliedView {
    fn from(applied: Applied) -> Self {
        let items =
            |items: Vec<Item>| items.iter().map(|item| format!("{}/{}", item.what, item.name)).collect();
        Self {
            added: items(applied.added),
            changed: items(applied.changed),
            removed: items(applied.removed),
            at_next_start: applied.at_next_start,
        }
    }
}
