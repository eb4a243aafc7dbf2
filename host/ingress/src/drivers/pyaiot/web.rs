//! Where dashboards, gateways and WebSocket nodes connect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Web;
use super::decode::{self, Datum, FromClient, Invalid};
use super::hub::{Hub, Via, uid};
use super::line::{End, Line};
use crate::bearer::Bearer;
use crate::pattern::percent_decode;

/// From the first byte to the end of the opening handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Beside the payload of the largest reading.
const MESSAGE_MORE: usize = 4 << 10;

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    Client {
        /// It may write resources.
        controls: bool,
    },
    Gateway,
    Node {
        uid: Box<str>,
    },
}

/// From the first byte to the end.
pub(super) async fn serve<S>(web: Arc<Web>, hub: Arc<Hub>, stream: S, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limit = hub.session().reading_max() + MESSAGE_MORE;
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    let mut role = None;
    #[expect(clippy::result_large_err, reason = "tungstenite asks for this type")]
    let door = |request: &Request, response: Response| open(&web, request, response, &mut role);
    let shaking =
        tokio::time::timeout(HANDSHAKE_TIMEOUT, accept_hdr_async_with_config(stream, door, Some(config)));
    let shaken = tokio::select! {
        () = hub.session().stopped() => return,
        shaken = shaking => shaken,
    };
    let (Ok(Ok(socket)), Some(role)) = (shaken, role) else { return };
    let line = Line::new(socket, hub.session().clone());
    match role {
        Role::Client { controls } => client(&hub, line, controls, peer).await,
        Role::Gateway => gateway(&hub, line, peer).await,
        Role::Node { uid } => node(&hub, line, &uid, peer).await,
    }
}

#[expect(clippy::result_large_err, reason = "tungstenite asks for this type")]
fn open(
    web: &Web,
    request: &Request,
    mut response: Response,
    role: &mut Option<Role>,
) -> Result<Response, ErrorResponse> {
    let refuse = |status: StatusCode| {
        let mut response = ErrorResponse::new(None);
        *response.status_mut() = status;
        response
    };
    let (uri, headers) = (request.uri(), request.headers());
    let bears = |token: &Option<Bearer>| token.as_ref().is_none_or(|token| is_borne(token, uri, headers));
    match uri.path() {
        "/ws" => *role = Some(Role::Client { controls: bears(&web.control_token) }),
        "/gw" => {
            let is_admitted = match (&web.keys, token(headers)) {
                (Some(keys), Some(token)) => keys.admits(&token),
                _ => false,
            };
            if !is_admitted {
                return Err(refuse(StatusCode::UNAUTHORIZED));
            }
            // What was offered must be chosen from, or some clients hang up.
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("token"));
            *role = Some(Role::Gateway);
        }
        "/node" => {
            if !bears(&web.node_token) {
                return Err(refuse(StatusCode::UNAUTHORIZED));
            }
            let id = query(uri, "id").filter(|id| (1..=255).contains(&id.len()));
            *role = Some(Role::Node { uid: id.map_or_else(uid, Into::into) });
        }
        _ => return Err(refuse(StatusCode::NOT_FOUND)),
    }
    Ok(response)
}

/// `token,<token>` as sub-protocols: a browser's only way to send something of its own.
fn token(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut words = values.flat_map(|value| value.split(',')).map(str::trim);
    (words.next() == Some("token")).then(|| words.next().map(str::to_owned)).flatten()
}

fn is_borne(token: &Bearer, uri: &Uri, headers: &HeaderMap) -> bool {
    token.is_in(headers) || query(uri, "access_token").is_some_and(|given| token.is(given.as_bytes()))
}

fn query(uri: &Uri, name: &str) -> Option<String> {
    uri.query()?.split('&').find_map(|pair| {
        let (parameter, value) = pair.split_once('=').unwrap_or((pair, ""));
        (parameter == name).then(|| percent_decode(value, true))?
    })
}

/// What ends a connection, as a code: what was said is not to be understood, or not allowed.
fn invalid(hub: &Hub, peer: SocketAddr, error: Invalid) -> End {
    hub.complaints.note("invalid", peer, error, hub.session().now());
    End::Unsupported
}

async fn client<S>(hub: &Hub, mut line: Line<S>, controls: bool, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (uid, mut messages) = hub.join_client();
    let end = loop {
        let text = match line.next(&mut messages).await {
            Ok(text) => text,
            Err(end) => break end,
        };
        match decode::client(&text) {
            Ok(FromClient::New(data)) => {
                if let Err(end) = line.send_all(hub.introduce(&uid, &data)).await {
                    break end;
                }
            }
            Ok(FromClient::Write { uid: node, endpoint, payload }) if controls => {
                hub.write(&node, &endpoint, payload, &uid, None);
            }
            Ok(FromClient::Write { .. }) => break End::Forbidden,
            Err(error) => break invalid(hub, peer, error),
        }
    };
    hub.leave_client(&uid);
    line.close(end).await;
}

async fn gateway<S>(hub: &Hub, mut line: Line<S>, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (uid, mut messages) = hub.join_gateway();
    let end = loop {
        let text = match line.next(&mut messages).await {
            Ok(text) => text,
            Err(end) => break end,
        };
        match decode::gateway(&text) {
            Ok(message) => hub.take_from_gateway(&uid, message).await,
            Err(error) => break invalid(hub, peer, error),
        }
    };
    hub.leave_gateway(&uid);
    line.close(end).await;
}

async fn node<S>(hub: &Hub, mut line: Line<S>, uid: &str, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (writes, mut messages) = mpsc::channel::<Utf8Bytes>(64);
    let end = match hub.arrive(uid, Via::WebSocket(writes), Some(peer)) {
        Ok(true) => converse(hub, &mut line, uid, &mut messages, peer).await,
        // Another connection has that name; it keeps it.
        Ok(false) | Err(_) => return line.close(End::Forbidden).await,
    };
    hub.leave(uid, end == End::Gone { farewell: true });
    line.close(end).await;
}

async fn converse<S>(
    hub: &Hub,
    line: &mut Line<S>,
    uid: &str,
    messages: &mut mpsc::Receiver<Utf8Bytes>,
    peer: SocketAddr,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let discover = vec![Utf8Bytes::from_static(r#"{"request":"discover"}"#)];
    if let Err(end) = line.send_all(discover).await {
        return end;
    }
    hub.describe(uid, "protocol", "WebSocket");
    hub.describe(uid, "ip", peer.ip().to_canonical().to_string());
    loop {
        let text = match line.next(messages).await {
            Ok(text) => text,
            Err(end) => return end,
        };
        match decode::node(&text) {
            Ok(values) => {
                for (resource, value) in values {
                    hub.update_held(uid, &resource, Datum::Json(value)).await;
                }
            }
            Err(error) => return invalid(hub, peer, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_among_the_sub_protocols() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(SEC_WEBSOCKET_PROTOCOL, value.parse().unwrap());
            }
            token(&headers)
        };
        assert_eq!(of(&["token,gAAA=="]).as_deref(), Some("gAAA=="));
        assert_eq!(of(&["token, gAAA=="]).as_deref(), Some("gAAA=="));
        assert_eq!(of(&["token", "gAAA=="]).as_deref(), Some("gAAA=="));
        assert_eq!((of(&[]), of(&["token"]), of(&["gAAA==,token"])), (None, None, None));
    }
}
