//! What may be asked of devices.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sandbar_control::{CommandProblem, ConnectionStatus, Correlation, Order};
use sandbar_reading::{ContentType, Topic};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Face, INGRESS};

#[derive(Serialize)]
struct DeviceStatus {
    /// Seconds since its oldest connection began.
    uptime: u64,
    incoming_messages: u64,
    /// Over that time.
    incoming_messages_per_second: f64,
    outgoing_messages: u64,
    outgoing_messages_per_second: f64,
}

#[derive(Serialize)]
struct Connection {
    connection_id: u64,
    device_id: Option<Box<str>>,
    device_type: Option<Box<str>>,
    user_agent: Option<Box<str>>,
    remote_address: Option<String>,
    created: String,
    last_received: Option<String>,
    last_sent: Option<String>,
    received: u64,
    sent: u64,
}

/// Of this face, those of one device or all; oldest first.
pub(super) fn connections(face: &Face, device: Option<&str>) -> Vec<ConnectionStatus> {
    const AT_ONCE: usize = 1000;
    let ingress = INGRESS.parse().expect("it is a name");
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = face.control.connections(Some(&ingress), cursor, AT_ONCE);
        let wanted = |connection: &ConnectionStatus| {
            device.is_none_or(|device| connection.peer.device.as_deref() == Some(device))
        };
        found.extend(page.items.into_iter().filter(wanted));
        match page.next {
            Some(next) => cursor = Some(next),
            None => return found,
        }
    }
}

pub(super) async fn devices(State(face): State<Arc<Face>>) -> Response {
    let mut devices: Vec<_> =
        connections(&face, None).into_iter().filter_map(|connection| connection.peer.device).collect();
    devices.sort_unstable();
    devices.dedup();
    Json(json!({ "devices": devices })).into_response()
}

pub(super) async fn status(State(face): State<Arc<Face>>, Path(id): Path<String>) -> Response {
    let connections = connections(&face, Some(&id));
    let Some(first) = connections.iter().map(|connection| connection.created).min() else {
        return not_found();
    };
    let uptime = face.control.now().since(first);
    let per_second = |count: u64| count as f64 / uptime.as_secs_f64().max(1.0);
    let incoming = connections.iter().map(|connection| connection.received.messages).sum();
    let outgoing = connections.iter().map(|connection| connection.sent.messages).sum();
    let status = DeviceStatus {
        uptime: uptime.as_secs(),
        incoming_messages: incoming,
        incoming_messages_per_second: per_second(incoming),
        outgoing_messages: outgoing,
        outgoing_messages_per_second: per_second(outgoing),
    };
    Json(status).into_response()
}

pub(super) async fn show(State(face): State<Arc<Face>>, Path(id): Path<String>) -> Response {
    let connections = connections(&face, Some(&id));
    if connections.is_empty() {
        return not_found();
    }
    let kinds = face.control.device_kinds(&connections);
    let connection = |connection: ConnectionStatus| Connection {
        connection_id: connection.id,
        device_type: connection.peer.device.as_ref().and_then(|device| kinds.get(device)).cloned(),
        device_id: connection.peer.device,
        user_agent: connection.peer.agent,
        remote_address: connection.peer.remote.map(|remote| remote.to_string()),
        created: connection.created.to_string(),
        last_received: connection.received.last.map(|time| time.to_string()),
        last_sent: connection.sent.last.map(|time| time.to_string()),
        received: connection.received.messages,
        sent: connection.sent.messages,
    };
    let connections: Vec<_> = connections.into_iter().map(connection).collect();
    Json(json!({ "device_id": id, "connections": connections })).into_response()
}

pub(super) async fn command(state: State<Arc<Face>>, id: Path<String>, body: Bytes) -> Response {
    ask(state, id, "command", body).await
}

pub(super) async fn query(state: State<Arc<Face>>, id: Path<String>, body: Bytes) -> Response {
    ask(state, id, "query", body).await
}

/// Both wait until the device has echoed the id.
async fn ask(
    State(face): State<Arc<Face>>,
    Path(id): Path<String>,
    name: &'static str,
    payload: Bytes,
) -> Response {
    if connections(&face, Some(&id)).is_empty() {
        return not_found();
    }
    let is_json = serde_json::from_slice::<Value>(&payload).is_ok();
    let order = Order {
        device: id.into(),
        name: name.parse::<Topic>().expect("it is a topic"),
        content_type: if is_json { ContentType::JSON } else { ContentType::TEXT },
        payload,
        within: None,
        at_once: true,
    };
    match face.control.query_device(order, face.query_timeout, Correlation::Id).await {
        Ok(ordered) => {
            let answer = ordered.row.answer.map(|(_, answer)| answer).unwrap_or_default();
            Json(unwrapped(&answer)).into_response()
        }
        Err(CommandProblem::UnknownDevice(_) | CommandProblem::Unreachable(_)) => not_found(),
        Err(problem @ CommandProblem::Unanswered(_)) => failed(StatusCode::REQUEST_TIMEOUT, &problem),
        Err(problem @ CommandProblem::Refused(_)) => failed(StatusCode::SERVICE_UNAVAILABLE, &problem),
        Err(problem) => failed(StatusCode::CONFLICT, &problem),
    }
}

/// What a device said beside the id.
fn unwrapped(answer: &[u8]) -> Value {
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(answer) else {
        return json!({ "response": String::from_utf8_lossy(answer), "errors": [] });
    };
    answer.remove("id");
    answer.remove("timestamp");
    let errors = answer.remove("errors").unwrap_or_else(|| json!([]));
    let said = ["response", "payload"].into_iter().find_map(|key| answer.remove(key));
    json!({ "response": said.unwrap_or(Value::Object(answer)), "errors": errors })
}

fn failed(status: StatusCode, problem: &CommandProblem) -> Response {
    (status, Json(json!({ "response": null, "errors": [problem.to_string()] }))).into_response()
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "Device not found").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_what_the_device_said_beside_the_id() {
        let check = |answer: &str, expected: Value| assert_eq!(unwrapped(answer.as_bytes()), expected);
        check(r#"{"id":"x","payload":{"on":true}}"#, json!({ "response": { "on": true }, "errors": [] }));
        check(r#"{"id":"x","response":1,"errors":["hot"]}"#, json!({ "response": 1, "errors": ["hot"] }));
        check(r#"{"id":"x","on":true}"#, json!({ "response": { "on": true }, "errors": [] }));
        check("plain", json!({ "response": "plain", "errors": [] }));
    }
}
