//! From a new link to a connection: CONNECT, who it is, its session, CONNACK (MQTT 5.0, section 3.1 and 3.2).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::future::poll_fn;
use tokio::io::AsyncReadExt;

use super::broker::Broker;
use super::codec::{self, ConnAck, Connect, Packet, Version, reason};
use super::connection::{Begin, Connection, Limits};
use super::inbound::By;
use super::io::Io;
use super::output::Output;
use super::sessions::Wanted;
use super::will::Will;
use crate::PeerInfo;

/// How long a client identifier may be.
const CLIENT_ID_MAX: usize = 1024;

/// What the transport knows of the far end.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) remote: SocketAddr,
    /// The common name of the client's certificate.
    pub(super) certificate: Option<Box<str>>,
    /// What the client speaks, if a gateway of this process stands between, which watches by itself for how long the
    /// client is silent.
    pub(super) gateway: Option<&'static str>,
}

/// What the client is told instead of being taken.
struct Refusal {
    version: Version,
    code: u8,
    text: &'static str,
}

/// Takes a client, or tells it why not. `None` ends the link.
pub(super) async fn greet(broker: &Arc<Broker>, io: Box<dyn Io>, link: Link) -> Option<Connection> {
    greet_page(broker, io, link, false).await
}

/// The same, where a browser may have brought it from a page of elsewhere: then that it comes from this machine means
/// nothing.
pub(super) async fn greet_page(
    broker: &Arc<Broker>,
    mut io: Box<dyn Io>,
    link: Link,
    is_foreign: bool,
) -> Option<Connection> {
    let mut input = BytesMut::with_capacity(512);
    let limit = broker.settings.connect_timeout;
    let connect = tokio::time::timeout(limit, read_connect(broker, &mut io, &mut input)).await;
    let refusal = match connect {
        // It may be a scanner, or a client of something else: it is told nothing.
        Err(_) | Ok(Err(None)) => return None,
        Ok(Err(Some(refusal))) => refusal,
        Ok(Ok(connect)) => {
            let version = connect.version;
            match take(broker, connect, &link, is_foreign).await {
                Ok(taken) => return Some(taken.connection(broker, io, input, &link)),
                Err((code, text)) => Refusal { version, code, text },
            }
        }
    };
    let (ingress, remote) = (broker.session.ingress(), link.remote);
    tracing::debug!(%ingress, %remote, code = refusal.code, cause = refusal.text, "a client was refused");
    let mut output = Output::default();
    let text = Some(refusal.text).filter(|text| !text.is_empty());
    let connack = ConnAck { reason: refusal.code, text, ..ConnAck::default() };
    output.head(|out| codec::connack(out, refusal.version, &connack));
    let farewell = async {
        poll_fn(|cx| output.poll_write(&mut *io, cx)).await?;
        poll_fn(|cx| std::pin::Pin::new(&mut *io).poll_shutdown(cx)).await
    };
    drop(tokio::time::timeout(Duration::from_secs(1), farewell).await);
    None
}

/// An error of `None` is no MQTT, or the end of the link.
async fn read_connect(
    broker: &Broker,
    io: &mut Box<dyn Io>,
    input: &mut BytesMut,
) -> Result<Connect, Option<Refusal>> {
    /// Who has not said who it is needs no more.
    const CONNECT_MAX: usize = 128 << 10;
    loop {
        let limit = broker.packet_max.min(CONNECT_MAX);
        if let Some(frame) = codec::frame(input, limit).map_err(|_| None)? {
            if frame.first != 0x10 {
                return Err(None);
            }
            return match codec::decode(frame, Version::V5) {
                Ok(Packet::Connect(connect)) => Ok(*connect),
                Ok(_) => Err(None),
                Err(wrong @ codec::Wrong::Version(level)) => {
                    let version = if level > 5 { Version::V5 } else { Version::V3 };
                    Err(Some(Refusal {
                        version,
                        code: wrong.reason(),
                        text: "3.1, 3.1.1 and 5.0 are spoken here",
                    }))
                }
                Err(_) => Err(None),
            };
        }
        // What is sent before CONNECT is not read on and on.
        if input.first().is_some_and(|first| *first != 0x10) {
            return Err(None);
        }
        match io.read_buf(input).await {
            Ok(0) | Err(_) => return Err(None),
            Ok(_) => {}
        }
    }
}

/// A client whose session is open.
struct Taken {
    hold: super::sessions::Hold,
    by: By,
    version: Version,
    limits: Limits,
    will: Option<Will>,
    assigned: bool,
    /// To be told, where it is not what was asked for.
    session_expiry: Option<u32>,
    server_keep_alive: Option<u16>,
}

async fn take(
    broker: &Arc<Broker>,
    connect: Connect,
    link: &Link,
    is_foreign: bool,
) -> Result<Taken, (u8, &'static str)> {
    let Connect { version, clean, keep_alive, client, properties, will, user, password } = connect;
    let settings = &broker.settings;
    if properties.authentication_method.is_some() {
        return Err((reason::BAD_AUTHENTICATION_METHOD, "no enhanced authentication is offered"));
    }
    let who = who(broker, link, is_foreign, user, password.as_deref());
    let busy = (reason::SERVER_UNAVAILABLE, "too many passwords are to be checked");
    let user = tokio::time::timeout(settings.connect_timeout, who).await.map_err(|_| busy)??;
    let assigned = client.is_empty();
    if assigned && version == Version::V3 && !clean || client.len() > CLIENT_ID_MAX {
        return Err((reason::CLIENT_ID, "this client identifier cannot be taken"));
    }
    let id = if assigned { format!("auto-{:032x}", rand::random::<u128>()).into() } else { client };
    let asked_s = match version {
        Version::V5 => properties.session_expiry.unwrap_or(0),
        Version::V3 if clean => 0,
        Version::V3 => u32::MAX,
    };
    let expiry_s = asked_s.min(settings.session_expiry_max_s);
    let grants = Arc::new(settings.access.of(&id, user.as_deref()));
    if let Some(will) = &will
        && !will.topic.parse().is_ok_and(|topic| grants.may_publish(&topic))
    {
        return Err((reason::NOT_AUTHORIZED, "the will's topic is not for this client"));
    }
    let wanted = Wanted { id: id.clone(), user: user.clone(), clean, expiry_s, grants };
    let mut by = By { client: id, user, number: 0 };
    let of = by.clone();
    let make = |number| will.and_then(|will| Will::new(will, By { number, ..of }));
    let (hold, will) = broker.open(wanted, make).await.map_err(|code| (code, "no session can be had now"))?;
    by.number = hold.client.number;
    let is_asked = version == Version::V5 && link.gateway.is_none();
    let keep_alive_max =
        settings.keep_alive_max_s.filter(|max| is_asked && !(1..=*max).contains(&keep_alive));
    let keep_alive = keep_alive_max.unwrap_or(keep_alive);
    let limits = Limits {
        window: properties.receive_maximum.unwrap_or(u16::MAX).min(settings.send_maximum).into(),
        packet_max: properties.maximum_packet_size.map_or(usize::MAX, |max| max as usize),
        topic_aliases: properties.topic_alias_maximum.unwrap_or(0).min(settings.topic_alias_max),
        // MQTT 5.0, section 3.1.2.10: one and a half times as long.
        keep_alive: (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500)),
    };
    let session_expiry = (expiry_s != asked_s).then_some(expiry_s);
    Ok(Taken { hold, by, version, limits, will, assigned, session_expiry, server_keep_alive: keep_alive_max })
}

/// The user: of the certificate, or by name and password.
async fn who(
    broker: &Broker,
    link: &Link,
    is_foreign: bool,
    user: Option<Box<str>>,
    password: Option<&[u8]>,
) -> Result<Option<Box<str>>, (u8, &'static str)> {
    if let Some(certificate) = &link.certificate {
        return Ok(Some(certificate.clone()));
    }
    let settings = &broker.settings;
    if let Some(name) = user.filter(|_| settings.users.are_any()) {
        return match settings.users.check(&name, password.unwrap_or_default(), link.remote.ip()).await {
            true => Ok(Some(name)),
            false => Err((reason::BAD_CREDENTIALS, "user name or password is wrong")),
        };
    }
    // A name that nobody checked is none.
    let local = !is_foreign && link.remote.ip().to_canonical().is_loopback();
    match settings.anonymous.unwrap_or(local) {
        true => Ok(None),
        false => Err((reason::NOT_AUTHORIZED, "anonymous clients are not taken here")),
    }
}

impl Taken {
    fn connection(self, broker: &Arc<Broker>, io: Box<dyn Io>, input: BytesMut, link: &Link) -> Connection {
        let Self { hold, by, version, limits, will, assigned, session_expiry, server_keep_alive } = self;
        let settings = &broker.settings;
        let connack = ConnAck {
            reason: reason::SUCCESS,
            session_present: hold.present,
            text: None,
            session_expiry,
            receive_maximum: Some(settings.receive_maximum),
            maximum_packet_size: u32::try_from(broker.packet_max).ok(),
            assigned_client: assigned.then_some(&*by.client),
            topic_alias_maximum: Some(settings.topic_alias_max),
            server_keep_alive,
        };
        let mut output = Output::default();
        output.head(|out| codec::connack(out, version, &connack));
        let agent = link.gateway.unwrap_or(match version {
            Version::V3 => "MQTT 3.1.1",
            Version::V5 => "MQTT 5.0",
        });
        let listed = broker.session.connected(PeerInfo {
            remote: Some(link.remote),
            device: None,
            client: Some(by.client.clone()),
            agent: Some(agent.into()),
        });
        let broker = Arc::clone(broker);
        Connection::new(Begin { broker, hold, by, version, io, input, output, limits, will, listed })
    }
}

#[cfg(test)]
mod tests {
    use argon2::Argon2;
    use argon2::password_hash::PasswordHasher;
    use serde_json::{Value, json};
    use tokio::io::AsyncWriteExt;

    use super::super::broker::testing::broker;
    use super::*;

    /// Whether a client without a name is taken that comes from there.
    async fn is_taken(settings: Value, remote: &str) -> bool {
        let broker = broker(settings);
        let (near, mut far) = tokio::io::duplex(256);
        far.write_all(b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c").await.unwrap();
        let link = Link { remote: remote.parse().unwrap(), certificate: None, gateway: None };
        if greet(&broker, Box::new(near), link).await.is_some() {
            return true;
        }
        let mut told = [0; 4];
        far.read_exact(&mut told).await.unwrap();
        assert_eq!((told[0], told[3]), (0x20, reason::NOT_AUTHORIZED));
        false
    }

    /// Others come with passwords to be checked, too.
    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_to_come_again() {
        let quick = argon2::Params::new(8, 1, 1, None).unwrap();
        let hash = Argon2::from(quick).hash_password(b"a").unwrap().to_string();
        let broker = broker(json!({ "users": [{ "name": "ann", "password_hash": hash }] }));
        let _held = broker.settings.users.hold();
        let (near, mut far) = tokio::io::duplex(256);
        far.write_all(b"\x10\x16\0\x04MQTT\x05\xc2\0\0\0\0\x01c\0\x03ann\0\x01a").await.unwrap();
        let link = Link { remote: "192.0.2.7:5000".parse().unwrap(), certificate: None, gateway: None };
        assert!(greet(&broker, Box::new(near), link).await.is_none());
        let mut told = [0; 4];
        far.read_exact(&mut told).await.unwrap();
        assert_eq!((told[0], told[3]), (0x20, reason::SERVER_UNAVAILABLE));
    }

    #[tokio::test]
    async fn who_has_no_name_is_taken_from_this_machine_unless_configured() {
        let (near, mapped, far) = ("[::1]:5000", "[::ffff:127.0.0.1]:5000", "192.0.2.7:5000");
        for (settings, remote, wanted) in [
            (json!({}), near, true),
            (json!({}), mapped, true),
            (json!({}), far, false),
            (json!({ "anonymous": true }), far, true),
            (json!({ "anonymous": false }), near, false),
        ] {
            assert_eq!(is_taken(settings.clone(), remote).await, wanted, "{settings} {remote}");
        }
    }
}
