//! Devices: what is known of them, commands for them, what their resources should be.

use std::time::Duration;

use axum::Json as Respond;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sandbar_control::{Correlation, DeviceQuery, LABELS_MAX, Order, ReadingQuery, TEXT_MAX};
use sandbar_reading::{ConfigError, ContentType, DeliveryId, Reading, Topic};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Answer;
use crate::app::App;
use crate::extract::{Json, Path, Query};
use crate::params::{
    CommandParam, CursorParam, DeviceParam, LabelParam, LimitParam, PresenceParam, ResourceParam, SinceParam,
};
use crate::views::{
    AnswerView, Code, DeviceDetailView, DeviceView, ModeView, NewCommandView, OrderedView, Page, Problem,
    PutDesired, PutDevice, ReadingView, WhenOfflineView,
};

/// How long a query waits by default, and at most.
const QUERY_WITHIN: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(120));

/// Those left out do not restrict.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    /// Has this label, as `key` or `key:value`; several are separated by commas.
    label: Option<LabelParam>,
    presence: Option<PresenceParam>,
    /// Is of this type.
    #[serde(rename = "type")]
    kind: Option<DeviceParam>,
    /// The most to return.
    limit: LimitParam,
    /// `next` of the part before.
    cursor: Option<CursorParam>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WantedReadings {
    /// Accepted then or later. RFC 3339.
    since: Option<SinceParam>,
    /// The most to return.
    limit: LimitParam,
    /// `next` of the part before.
    cursor: Option<CursorParam>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WantedCommands {
    /// The most to return.
    limit: LimitParam,
    /// `next` of the part before.
    cursor: Option<CursorParam>,
}

/// `/…/{device}`
#[derive(Deserialize)]
pub(crate) struct Of {
    device: DeviceParam,
}

/// `/…/{device}/commands/{command}`
#[derive(Deserialize)]
pub(crate) struct OfCommand {
    device: DeviceParam,
    command: CommandParam,
}

/// `/…/{device}/desired/{resource}`
#[derive(Deserialize)]
pub(crate) struct OfResource {
    device: DeviceParam,
    resource: ResourceParam,
}

pub(crate) async fn list(State(app): State<App>, Query(wanted): Query<Wanted>) -> Answer<Page<DeviceView>> {
    let query = DeviceQuery {
        presence: wanted.presence.map(|presence| presence.0),
        kind: wanted.kind.map(|kind| kind.0),
        labels: wanted.label.map(|labels| labels.0).unwrap_or_default(),
        after: wanted.cursor.map(|cursor| cursor.0.into()),
        limit: wanted.limit.0,
    };
    let page = app.control.devices(&query);
    let items = page.items.into_iter().map(Into::into).collect();
    Ok(Respond(Page { items, next: page.next.map(Into::into) }))
}

pub(crate) async fn show(State(app): State<App>, Path(of): Path<Of>) -> Answer<DeviceDetailView> {
    Ok(Respond(app.control.device(&of.device.0).await?.into()))
}

pub(crate) async fn put(
    State(app): State<App>,
    Path(of): Path<Of>,
    Json(put): Json<PutDevice>,
) -> Result<(StatusCode, Respond<DeviceView>), Problem> {
    let sized = |setting: &str, text: String| match text.len() {
        1..=TEXT_MAX => Ok(Box::<str>::from(text)),
        _ => Err(wrong(setting, format!("must have 1 to {TEXT_MAX} bytes"))),
    };
    let name = put.name.map(|name| sized("name", name)).transpose()?;
    let kind = put.kind.map(|kind| sized("type", kind)).transpose()?;
    if put.labels.len() > LABELS_MAX {
        return Err(wrong("labels", format!("must be at most {LABELS_MAX}")));
    }
    let label = |(key, value): (String, String)| match value.len() {
        0..=TEXT_MAX => Ok((sized("labels", key)?, value.into())),
        _ => Err(wrong("labels", format!("must have at most {TEXT_MAX} bytes"))),
    };
    let labels = put.labels.into_iter().map(label).collect::<Result<_, _>>()?;
    let (device, is_new) = app.control.put_device(&of.device.0, name, kind, labels)?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Respond(device.into())))
}

pub(crate) async fn remove(State(app): State<App>, Path(of): Path<Of>) -> Result<StatusCode, Problem> {
    app.control.remove_device(&of.device.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn readings(
    State(app): State<App>,
    Path(of): Path<Of>,
    Query(wanted): Query<WantedReadings>,
) -> Answer<Page<ReadingView>> {
    let cursor = wanted.cursor.map(|cursor| cursor.0.parse().map_err(|_| bad_cursor())).transpose()?;
    let (device, since) = (of.device.0, wanted.since.map(|since| since.0));
    let ask = |limit, cursor| {
        let device = Some(device.clone());
        app.control.readings(ReadingQuery {
            device,
            since,
            cursor,
            newest_first: true,
            limit,
            ..ReadingQuery::default()
        })
    };
    let size = |reading: &Reading| reading.payload.len() + reading.attributes.size();
    let (items, next) = super::page(wanted.limit.0, cursor, ask, size).await?;
    Ok(Respond(Page { items: items.iter().map(Into::into).collect(), next: next.map(|id| id.to_string()) }))
}

pub(crate) async fn order(
    State(app): State<App>,
    Path(of): Path<Of>,
    Json(new): Json<NewCommandView>,
) -> Result<(StatusCode, Respond<OrderedView>), Problem> {
    let (mode, answer) = (new.mode, new.answer);
    let order = read_order(of.device.0, new)?;
    if mode == ModeView::Send {
        let ordered = app.control.order(order).await?;
        return Ok((StatusCode::ACCEPTED, Respond(ordered.into())));
    }
    let within = order.within.unwrap_or(QUERY_WITHIN.0).min(QUERY_WITHIN.1);
    let correlation = match answer {
        AnswerView::Next => Correlation::Next,
        AnswerView::Id => Correlation::Id,
    };
    let answered = app.control.query_device(order, within, correlation).await?;
    Ok((StatusCode::OK, Respond(answered.into())))
}

fn read_order(device: Box<str>, new: NewCommandView) -> Result<Order, Problem> {
    let name: Topic =
        new.name.parse().map_err(|error: sandbar_reading::TopicError| wrong("name", error.to_string()))?;
    let given = new
        .content_type
        .map(|text| text.parse::<ContentType>().map_err(|error| wrong("content_type", error.to_string())));
    let given = given.transpose()?;
    let (content_type, payload) = match (new.payload, new.payload_base64) {
        (Some(_), Some(_)) => return Err(wrong("payload_base64", "is instead of `payload`".to_owned())),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text).map_err(|error| wrong("payload_base64", error.to_string()))?;
            (ContentType::OCTETS, Bytes::from(bytes))
        }
        (Some(json), None) => match serde_json::from_str(json.0.get()) {
            Ok(Value::String(text)) if given.as_ref().is_none_or(|given| !given.is_json()) => {
                (ContentType::TEXT, text.into())
            }
            _ => (ContentType::JSON, json.0.get().to_owned().into()),
        },
        (None, None) => (ContentType::TEXT, Bytes::new()),
    };
    let within = new.timeout.map(|seconds| {
        let bad = || wrong("timeout", "must be seconds, above 0 and at most a year".to_owned());
        let within = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
        let most = Duration::from_secs(31_536_000);
        (within > Duration::ZERO && within <= most).then_some(within).ok_or_else(bad)
    });
    Ok(Order {
        device,
        name,
        content_type: given.unwrap_or(content_type),
        payload,
        within: within.transpose()?,
        at_once: new.when_offline == WhenOfflineView::Refuse,
    })
}

pub(crate) async fn commands(
    State(app): State<App>,
    Path(of): Path<Of>,
    Query(wanted): Query<WantedCommands>,
) -> Answer<Page<OrderedView>> {
    let cursor = wanted.cursor.map(|cursor| cursor.0.parse::<DeliveryId>().map_err(|_| bad_cursor()));
    let page = app.control.commands(&of.device.0, cursor.transpose()?, wanted.limit.0).await?;
    let next = page.next.map(|id| id.to_string());
    Ok(Respond(Page { items: page.items.into_iter().map(Into::into).collect(), next }))
}

pub(crate) async fn command(State(app): State<App>, Path(of): Path<OfCommand>) -> Answer<OrderedView> {
    Ok(Respond(app.control.command(&of.device.0, of.command.0)?.into()))
}

pub(crate) async fn cancel(State(app): State<App>, Path(of): Path<OfCommand>) -> Answer<OrderedView> {
    Ok(Respond(app.control.cancel_command(&of.device.0, of.command.0).await?.into()))
}

pub(crate) async fn desire(
    State(app): State<App>,
    Path(of): Path<OfResource>,
    Json(put): Json<PutDesired>,
) -> Answer<DeviceDetailView> {
    let value = put.value.ok_or_else(|| wrong("value", "is missing".to_owned()))?;
    if value.0.get().len() > 4096 {
        return Err(wrong("value", "must have at most 4096 bytes".to_owned()));
    }
    of.resource.0.parse::<Topic>().map_err(|error| wrong("resource", error.to_string()))?;
    app.control.desire(&of.device.0, &of.resource.0, Some(value.0.get().into())).await?;
    Ok(Respond(app.control.device(&of.device.0).await?.into()))
}

pub(crate) async fn desire_no_more(
    State(app): State<App>,
    Path(of): Path<OfResource>,
) -> Result<StatusCode, Problem> {
    app.control.desire(&of.device.0, &of.resource.0, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn wrong(setting: &str, problem: String) -> Problem {
    Problem::at(Code::InvalidJson, ConfigError::at(setting, problem))
}

fn bad_cursor() -> Problem {
    Problem::at(Code::InvalidParameter, ConfigError::at("cursor", "must be `next` of the part before"))
}
