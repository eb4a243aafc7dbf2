//! A device's WebSocket.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::{BoxFuture, FutureExt, OptionFuture};
use futures::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use sandbar_control::{
    CommandError, Connection as Listed, DeviceOrder, DeviceSays, PeerInfo, Session, orders,
};
use sandbar_reading::{Attributes, ContentType, Inbound, Refused};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::Face;

/// How long a device may take to take what it is sent.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// How long the end of a closing handshake is waited for.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long a reading that is refused for a time is waited with.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// What is read at once; an idle connection keeps it.
const READ_BUFFER: usize = 4 << 10;

struct Device {
    id: Box<str>,
    kind: Option<Box<str>>,
    name: Option<Box<str>>,
    agent: Option<Box<str>>,
    remote: SocketAddr,
}

impl Device {
    /// As the request's headers name it, in the forms of the connector's versions.
    fn of(headers: &HeaderMap, remote: SocketAddr) -> Option<Self> {
        let text = |names: &[&str]| {
            let value = names.iter().find_map(|name| headers.get(*name))?;
            let text = value.to_str().ok()?.trim();
            (1..=255).contains(&text.len()).then(|| Box::<str>::from(text))
        };
        Some(Self {
            id: text(&["device_id", "device-id"])?,
            kind: text(&["device_type", "device-type"]),
            name: text(&["device_name", "device-name"]),
            agent: text(&["user-agent"]),
            remote,
        })
    }
}

pub(super) async fn connect(
    State(face): State<Arc<Face>>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response {
    let headers = request.headers();
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()))
    else {
        let hint = [(header::UPGRADE, HeaderValue::from_static("websocket"))];
        return (StatusCode::UPGRADE_REQUIRED, hint, "this is a WebSocket").into_response();
    };
    let Some(device) = Device::of(headers, remote) else {
        return (StatusCode::BAD_REQUEST, "the header device_id is missing").into_response();
    };
    if device.topic().is_none() {
        return (StatusCode::BAD_REQUEST, "this device_id makes no topic").into_response();
    }
    let Ok(place) = Arc::clone(&face.places).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "there are too many connections").into_response();
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let tasks = face.connections.clone();
    tasks.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let limit = face.session.reading_max();
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        serve(&face, socket, device).await;
        drop(place);
    });
    let answer = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(key).expect("base 64")),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, answer).into_response()
}

/// How a connection ends.
enum End {
    ByDevice,
    Lost,
    Stopped,
    /// What it sent is too long, or no WebSocket.
    Refused(CloseCode, &'static str),
}

async fn serve<S>(face: &Face, mut socket: WebSocketStream<S>, device: Device)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let session = &face.session;
    let info = DeviceSays { name: device.name.clone(), kind: device.kind.clone(), ..DeviceSays::default() };
    session.device(&device.id).arrived(info);
    let peer = PeerInfo {
        remote: Some(device.remote),
        device: Some(device.id.clone()),
        client: None,
        agent: device.agent.clone(),
    };
    let listed = session.connected(peer);
    let (sender, mut arriving) = orders();
    let joined = face.devices.join(&device.id, sender);
    let mut accepting = None;
    let end = talk(face, &mut socket, &device, &listed, &mut arriving, &mut accepting).await;
    match end {
        End::ByDevice => session.device(&device.id).left(),
        End::Lost => session.device(&device.id).lost(),
        End::Stopped | End::Refused(..) => {}
    }
    drop(joined);
    if let Some(taken) = accepting
        && matches!(end, End::Lost)
    {
        // It was received, and is not lost with its device.
        drop(listed);
        tokio::select! {
            _ = taken => {}
            () = session.stopped() => {}
            () = face.stop.cancelled() => {}
        }
    }
    let close = match end {
        End::Stopped => Some((CloseCode::Away, "shutting down")),
        End::Refused(code, reason) => Some((code, reason)),
        End::ByDevice | End::Lost => None,
    };
    if let Some((code, reason)) = close {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let farewell = async {
            if socket.close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = socket.next().await {}
            }
        };
        // Who does not say farewell is left without one.
        let _ = timeout(FAREWELL, farewell).await;
    }
}

/// The reading that is on its way to the disk; the next one is read when it is there.
type Accepting<'a> = Option<BoxFuture<'a, Result<(), Refused>>>;

async fn talk<'a, S>(
    face: &'a Face,
    socket: &mut WebSocketStream<S>,
    device: &Device,
    listed: &Listed,
    arriving: &mut tokio::sync::mpsc::Receiver<DeviceOrder>,
    accepting: &mut Accepting<'a>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let session = &face.session;
    let mut stopped = pin!(async {
        tokio::select! {
            () = session.stopped() => {}
            () = face.stop.cancelled() => {}
        }
    });
    let mut ping = interval_at(Instant::now() + face.ping_interval, face.ping_interval);
    let mut heard = Instant::now();
    loop {
        let is_free = accepting.is_none();
        tokio::select! {
            () = &mut stopped => return End::Stopped,
            Some(taken) = OptionFuture::from(accepting.as_mut()), if !is_free => {
                *accepting = None;
                heard = Instant::now();
                match taken {
                    Ok(()) => {}
                    Err(Refused::TooLarge { .. }) => return End::Refused(CloseCode::Size, "too large"),
                    Err(_) => return End::Stopped,
                }
            }
            Some(order) = arriving.recv() => {
                let text = wrapped(&order, &session.now().to_string());
                let size = text.len();
                if !send(socket, Message::text(text)).await {
                    order.done(Err(CommandError::Retry("the connection is lost".to_owned())));
                    return End::Lost;
                }
                listed.sent(size, session.now());
                face.traffic.outgoing.fetch_add(1, Ordering::Relaxed);
                order.done(Ok(()));
            }
            frame = socket.next(), if is_free => {
                heard = Instant::now();
                match frame {
                    Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                        listed.received(message.len(), session.now());
                        face.traffic.incoming.fetch_add(1, Ordering::Relaxed);
                        if let Some(inbound) = device.inbound(message) {
                            *accepting = Some(accept(session, inbound).boxed());
                        }
                    }
                    Some(Ok(Message::Close(_))) => {
                        // The answer to it is on its way with the next flush.
                        let _ = timeout(FAREWELL, socket.flush()).await;
                        return End::ByDevice;
                    }
                    Some(Ok(_)) => {}
                    Some(Err(tokio_tungstenite::tungstenite::Error::Capacity(_))) => {
                        return End::Refused(CloseCode::Size, "too large");
                    }
                    Some(Err(_)) | None => return End::Lost,
                }
            }
            _ = ping.tick() => {
                let silent = is_free && heard.elapsed() >= face.ping_interval.mul_f32(2.5);
                if silent || !send(socket, Message::Ping(bytes::Bytes::new())).await {
                    return End::Lost;
                }
            }
        }
    }
}

/// Until it is taken: meanwhile nothing more is read, which the device feels as back-pressure.
async fn accept(session: &Session, inbound: Inbound) -> Result<(), Refused> {
    loop {
        match session.accept(inbound.clone()).await {
            Ok(_) => return Ok(()),
            Err(refused @ (Refused::TooLarge { .. } | Refused::Stopping)) => return Err(refused),
            Err(Refused::Busy { retry_after }) => tokio::time::sleep(retry_after).await,
            Err(_) => tokio::time::sleep(REFUSED_WAIT).await,
        }
    }
}

async fn send<S>(socket: &mut WebSocketStream<S>, message: Message) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    matches!(timeout(WRITE_WITHIN, socket.send(message)).await, Ok(Ok(())))
}

/// `{"id","payload","timestamp"}`
fn wrapped(order: &DeviceOrder, timestamp: &str) -> String {
    let text = || Value::from(String::from_utf8_lossy(&order.command.payload));
    let payload = match order.command.content_type.is_json() {
        true => serde_json::from_slice(&order.command.payload).unwrap_or_else(|_| text()),
        false => text(),
    };
    json!({ "id": order.id.to_string(), "payload": payload, "timestamp": timestamp }).to_string()
}

impl Device {
    fn topic(&self) -> Option<sandbar_reading::Topic> {
        format!("{}/{}", super::INGRESS, self.id).parse().ok()
    }

    fn inbound(&self, message: Message) -> Option<Inbound> {
        let is_text = message.is_text();
        let payload = message.into_data();
        let content_type = match is_text {
            true if serde_json::from_slice::<serde::de::IgnoredAny>(&payload).is_ok() => ContentType::JSON,
            true => ContentType::TEXT,
            false => ContentType::OCTETS,
        };
        let mut attributes = Attributes::new().with("peer", self.remote.to_string());
        for (name, value) in
            [("device_type", &self.kind), ("device_name", &self.name), ("user_agent", &self.agent)]
        {
            if let Some(value) = value {
                attributes.add(name, value.clone());
            }
        }
        let inbound = Inbound::new(self.topic()?, content_type, payload);
        Some(Inbound { device: Some(self.id.clone()), attributes, ..inbound })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(headers: &[(&'static str, &'static str)]) -> Option<Device> {
        let headers = headers.iter().map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), HeaderValue::from_static(value))
        });
        Device::of(&headers.collect(), "127.0.0.1:9".parse().unwrap())
    }

    #[test]
    fn headers_of_every_version_name_the_device() {
        let old = device(&[("device_id", "r1"), ("device_type", "robot"), ("user-agent", "bot/1")]).unwrap();
        assert_eq!(
            (&*old.id, old.kind.as_deref(), old.agent.as_deref()),
            ("r1", Some("robot"), Some("bot/1"))
        );
        let new = device(&[("device-id", "r1"), ("device-name", "Robbie")]).unwrap();
        assert_eq!((new.name.as_deref(), new.kind), (Some("Robbie"), None));
        assert!(device(&[("device_type", "robot")]).is_none() && device(&[("device_id", " ")]).is_none());
    }

    #[test]
    fn what_a_device_sends_is_a_reading_about_it() {
        let robot = device(&[("device_id", "r1"), ("device_type", "robot")]).unwrap();
        let inbound = robot.inbound(Message::text(r#"{"speed":3}"#)).unwrap();
        assert_eq!((inbound.topic.as_str(), inbound.device.as_deref()), ("cloud-connector/r1", Some("r1")));
        assert_eq!(inbound.attributes.get("device_type"), Some("robot"));
        assert!(inbound.content_type.is_json());
        assert_eq!(robot.inbound(Message::text("hello")).unwrap().content_type, ContentType::TEXT);
        assert!(device(&[("device_id", "a/#")]).unwrap().topic().is_none());
    }
}
