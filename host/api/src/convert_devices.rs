//! Devices and commands as clients see them.

use std::collections::BTreeMap;

use sandbar_control::{
    CommandProblem, CommandState, DeviceCounts, DeviceInfo, DeviceRow, Flow, Ordered, Presence, Resource,
    Traffic,
};
use serde_json::value::RawValue;

use crate::convert::texts;
use crate::views::{self, Code, Json, PayloadView, Problem};

impl From<DeviceRow> for views::DeviceView {
    fn from(device: DeviceRow) -> Self {
        Self {
            id: device.id.into(),
            name: device.name.map(Into::into),
            kind: device.kind.map(Into::into),
            labels: device.labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            ingresses: texts(device.ingresses),
            first_seen: device.first_seen.to_string(),
            last_seen: device.last_seen.to_string(),
            presence: device.presence.into(),
            since: device.since.to_string(),
        }
    }
}

impl From<Presence> for views::PresenceView {
    fn from(presence: Presence) -> Self {
        match presence {
            Presence::Online => Self::Online,
            Presence::Offline => Self::Offline,
            Presence::Lost => Self::Lost,
        }
    }
}

impl From<DeviceInfo> for views::DeviceDetailView {
    fn from(info: DeviceInfo) -> Self {
        let DeviceInfo { device, reached_by, resources, desired, reached } = info;
        let desired = desired.into_iter().zip(reached).map(|(desired, reached)| {
            let time = desired.time.to_string();
            (desired.name.into(), views::DesiredView { value: json(desired.value), time, reached })
        });
        Self {
            device: device.into(),
            reached_by: reached_by.map(|ingress| ingress.to_string()),
            resources: values(resources),
            desired: desired.collect(),
        }
    }
}

pub(crate) fn values(resources: Vec<Resource>) -> BTreeMap<String, views::ValueView> {
    let value = |resource: Resource| {
        let time = resource.time.to_string();
        (resource.name.into(), views::ValueView { value: json(resource.value), time })
    };
    resources.into_iter().map(value).collect()
}

fn json(text: Box<str>) -> Json {
    let null = || RawValue::from_string("null".to_owned()).expect("it is JSON");
    Json(RawValue::from_string(text.into()).unwrap_or_else(|_| null()))
}

impl From<Ordered> for views::OrderedView {
    fn from(Ordered { row, is_sent }: Ordered) -> Self {
        Self {
            id: row.id.to_string(),
            device: row.device.into(),
            name: row.name.into(),
            state: match row.state {
                CommandState::Queued if is_sent => views::CommandStateView::Sent,
                CommandState::Queued => views::CommandStateView::Queued,
                CommandState::Sent => views::CommandStateView::Sent,
                CommandState::Acknowledged => views::CommandStateView::Acknowledged,
                CommandState::Failed => views::CommandStateView::Failed,
                CommandState::Expired => views::CommandStateView::Expired,
                CommandState::Cancelled => views::CommandStateView::Cancelled,
            },
            mode: if row.asks { views::ModeView::Query } else { views::ModeView::Send },
            route: row.route.map(|route| route.to_string()),
            desired: row.desired.map(Into::into),
            created: row.created.to_string(),
            expires: row.expires.map(|expires| expires.to_string()),
            changed: row.changed.to_string(),
            cause: row.cause,
            answer: row.answer.map(|(content_type, answer)| views::CommandAnswerView {
                payload: PayloadView::of(&content_type, &answer),
                content_type: content_type.to_string(),
            }),
        }
    }
}

impl views::DevicesStatus {
    pub(crate) fn new(counts: DeviceCounts, reachable: usize) -> Self {
        Self {
            known: counts.known as u64,
            online: counts.online as u64,
            offline: counts.offline as u64,
            lost: counts.lost as u64,
            max: counts.max as u64,
            unlisted: counts.unlisted,
            changes: counts.changes,
            reachable: reachable as u64,
        }
    }
}

impl From<Traffic> for views::TrafficTotals {
    fn from(traffic: Traffic) -> Self {
        let flow = |flow: Flow| views::FlowView {
            messages: flow.messages,
            bytes: flow.bytes,
            messages_per_second: (flow.messages_per_second * 10.0).round() / 10.0,
            bytes_per_second: (flow.bytes_per_second * 10.0).round() / 10.0,
        };
        Self { received: flow(traffic.received), sent: flow(traffic.sent) }
    }
}

impl From<CommandProblem> for Problem {
    fn from(problem: CommandProblem) -> Self {
        let text = problem.to_string();
        match problem {
            CommandProblem::UnknownDevice(_) | CommandProblem::UnknownCommand => {
                Self::new(Code::NotFound, text)
            }
            CommandProblem::Unreachable(_) => Self::new(Code::Unreachable, text),
            CommandProblem::Unanswered(_) => Self::new(Code::Unanswered, text),
            CommandProblem::TooMany { .. }
            | CommandProblem::Failed { .. }
            | CommandProblem::Connected(_)
            | CommandProblem::Ended => Self::new(Code::Conflict, text),
            CommandProblem::Refused(refused) => refused.into(),
        }
    }
}
