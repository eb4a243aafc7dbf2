//! Trials, traces, logs and replays, as clients see them.

use sandbar_control::{
    CandidateInfo, Compared, Handled, LogRecord, NotGranted, OnTrial, Part, Replay, ReplayOf, ReplayState,
    TraceInfo, TracedCall, TracedEnd, TrialEnded, TrialMode, TriedReading, TryResult, TrySide,
};
use sandbar_reading::{Name, ReadingId, Timestamp};

use crate::convert::{level, micros, texts};
use crate::params::target_text;
use crate::views;

impl From<CandidateInfo> for views::CandidateView {
    fn from(candidate: CandidateInfo) -> Self {
        let OnTrial { version, mode, errors_percent, errors_after, since } = candidate.asked;
        let (mode, percent) = match mode {
            TrialMode::Shadow => (views::CandidateMode::Shadow, None),
            TrialMode::Canary { percent } => (views::CandidateMode::Canary, Some(percent)),
        };
        let routes = candidate.routes.into_iter().map(Into::into).collect();
        Self { version, mode, percent, errors_percent, errors_after, since: since.to_string(), routes }
    }
}

impl From<(Name, Compared)> for views::ComparedView {
    fn from((route, compared): (Name, Compared)) -> Self {
        let mean = |time, calls: u64| micros(time).checked_div(calls).unwrap_or(0);
        let difference = |difference: &sandbar_control::Difference| views::DifferenceView {
            reading: difference.reading.to_string(),
            what: difference.what.clone(),
        };
        Self {
            route: route.to_string(),
            calls: compared.calls,
            errors: compared.errors,
            same: compared.same,
            different: compared.different,
            mean_us: mean(compared.time, compared.calls),
            active_calls: compared.active_calls,
            active_errors: compared.active_errors,
            active_mean_us: mean(compared.active_time, compared.active_calls),
            differences: compared.differences.iter().map(difference).collect(),
        }
    }
}

impl From<TrialEnded> for views::TrialEndedView {
    fn from(ended: TrialEnded) -> Self {
        Self { version: ended.version, time: ended.time.to_string(), why: ended.why }
    }
}

impl From<NotGranted> for views::NotGrantedView {
    fn from(not: NotGranted) -> Self {
        Self {
            import: not.import,
            permission: not.permission.map(str::to_owned),
            instead: not.instead.to_owned(),
            routes: texts(not.routes),
        }
    }
}

impl From<TryResult> for views::TryView {
    fn from(result: TryResult) -> Self {
        let count = |wanted: &dyn Fn(&TriedReading) -> bool| {
            result.tried.iter().filter(|tried| wanted(tried)).count() as u64
        };
        let same = count(&|tried| tried.active.is_some() && tried.difference.is_none());
        let different = count(&|tried| tried.difference.is_some());
        let failed = count(&|tried| tried.candidate.result.is_err());
        let (readings, tried) = (result.readings as u64, result.tried.len() as u64);
        let tells = |tried: &TriedReading| tried.active.is_none() || tried.difference.is_some();
        let items = result.tried.into_iter().filter(tells).map(Into::into).collect();
        Self { readings, tried, same, different, failed, items }
    }
}

impl From<TriedReading> for views::TriedView {
    fn from(tried: TriedReading) -> Self {
        Self {
            reading: (&tried.reading).into(),
            difference: tried.difference,
            active: tried.active.map(Into::into),
            candidate: tried.candidate.into(),
        }
    }
}

impl From<TrySide> for views::SideView {
    fn from(side: TrySide) -> Self {
        let (handled, fault) = match side.result {
            Ok(handled) => (Some(handled), None),
            Err(fault) => (None, Some(fault)),
        };
        let (outputs, writes) = handled.map(|Handled { outputs, writes }| (outputs, writes)).unzip();
        Self {
            outputs: outputs.map(|outputs| outputs.into_iter().map(Into::into).collect()),
            state: writes.unwrap_or_default().into_iter().map(Into::into).collect(),
            fault: fault
                .map(|fault| views::FaultView { code: fault.code().to_owned(), cause: fault.to_string() }),
            logs: side.logs.into_iter().map(Into::into).collect(),
            elapsed_us: micros(side.elapsed),
        }
    }
}

impl From<Replay> for views::ReplayView {
    fn from(replay: Replay) -> Self {
        let (state, cause) = match replay.state {
            ReplayState::Running => (views::ReplayStateView::Running, None),
            ReplayState::Done => (views::ReplayStateView::Done, None),
            ReplayState::Cancelled => (views::ReplayStateView::Cancelled, None),
            ReplayState::Failed(cause) => (views::ReplayStateView::Failed, Some(cause)),
        };
        let (since, until, topic) = match replay.of {
            ReplayOf::Journal { since, until, topic } => {
                (Some(since.to_string()), Some(until.to_string()), topic)
            }
            ReplayOf::DeadLetters => (None, None, None),
        };
        let failures = replay.failures.into_iter();
        Self {
            id: replay.id,
            route: replay.route.0.to_string(),
            version: replay.version,
            state,
            cause,
            begun: replay.begun.to_string(),
            dead_letters: since.is_none(),
            since,
            until,
            topic,
            commands: replay.commands,
            handled: replay.handled,
            outputs: replay.outputs,
            failed: replay.failed,
            failures: failures
                .map(|failure| views::ReplayFailureView { reading: failure.reading, cause: failure.cause })
                .collect(),
        }
    }
}

fn part(part: Part) -> views::PartView {
    match part {
        Part::Active => views::PartView::Active,
        Part::Canary => views::PartView::Canary,
        Part::Shadow => views::PartView::Shadow,
        Part::Replay => views::PartView::Replay,
    }
}

fn outcome(end: TracedEnd) -> (views::OutcomeView, Option<String>) {
    match end {
        TracedEnd::Done => (views::OutcomeView::Done, None),
        TracedEnd::Retry { due } => (views::OutcomeView::Retry, Some(due.to_string())),
        TracedEnd::DeadLetter => (views::OutcomeView::DeadLetter, None),
    }
}

impl views::TraceView {
    pub(crate) fn new(id: ReadingId, info: TraceInfo) -> Self {
        let trace = info.trace;
        let waits = |route: &str| {
            let lane = trace.lanes.iter().find(|lane| lane.route == route)?;
            let (attempts, due) = lane.waits?;
            Some(views::WaitsView { attempts, due: due.to_string(), last_cause: None })
        };
        let routes = info.routes.into_iter().map(|verdict| views::RouteVerdictView {
            waits: waits(verdict.route.as_str()),
            route: verdict.route.to_string(),
            took: verdict.took,
            why: verdict.why,
        });
        let attempts = trace.handlings.iter().map(|handling| {
            let (outcome, again) = outcome(handling.end);
            views::AttemptView {
                route: handling.route.clone(),
                time: handling.time.to_string(),
                outcome,
                again,
                calls: handling.calls.iter().map(Into::into).collect(),
                chained: texts(&handling.chained),
            }
        });
        let deliveries = trace.deliveries.iter().map(|delivery| views::TracedDeliveryView {
            id: delivery.id.to_string(),
            target: target_text(&delivery.target),
            route: delivery.route.clone(),
            time: delivery.time.to_string(),
            offers: delivery.offers.iter().map(offer).collect(),
            waits: delivery.waits.as_ref().map(|(attempts, due, last_cause)| views::WaitsView {
                attempts: *attempts,
                due: due.to_string(),
                last_cause: last_cause.clone(),
            }),
        });
        Self {
            id: id.to_string(),
            reading: info.reading.as_ref().map(Into::into),
            routes: routes.collect(),
            attempts: attempts.collect(),
            deliveries: deliveries.collect(),
            redriven: texts(&trace.redriven),
            dead_letters: texts(&trace.dead_letters),
        }
    }
}

fn offer(offer: &sandbar_control::TracedOffer) -> views::OfferView {
    let (outcome, again) = outcome(offer.end);
    views::OfferView { time: offer.time.to_string(), outcome, cause: offer.cause.clone(), again }
}

impl From<&TracedCall> for views::CallView {
    fn from(call: &TracedCall) -> Self {
        const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "critical"];
        let line = |line: &sandbar_control::TracedLine| views::LogView {
            level: LEVELS.get(usize::from(line.level)).copied().unwrap_or("info").to_owned(),
            context: line.context.clone(),
            message: line.message.clone(),
        };
        Self {
            version: call.version,
            part: part(call.part),
            time: Timestamp::from_nanos(call.began).to_string(),
            elapsed_us: call.micros,
            fault: call.fault.clone(),
            logs: call.lines.iter().map(line).collect(),
        }
    }
}

impl From<&LogRecord> for views::LogRecordView {
    fn from(record: &LogRecord) -> Self {
        Self {
            number: record.number,
            time: record.time.to_string(),
            route: record.route.to_string(),
            reading: record.reading.to_string(),
            version: record.version,
            part: part(record.part),
            line: record.line.clone().into(),
        }
    }
}

impl From<sandbar_control::LogLine> for views::LogView {
    fn from(line: sandbar_control::LogLine) -> Self {
        Self {
            level: level(line.level).to_owned(),
            context: line.context.into(),
            message: line.message.into(),
        }
    }
}
