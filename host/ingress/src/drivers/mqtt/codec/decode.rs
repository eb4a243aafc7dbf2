//! Packets of clients, checked as the specification asks (MQTT 5.0, section 3; 3.1.1 likewise).

use bytes::Bytes;

use super::cursor::Cursor;
use super::properties::{
    OF_ACK, OF_AUTH, OF_CONNECT, OF_DISCONNECT, OF_PUBLISH, OF_SUBSCRIBE, OF_UNSUBSCRIBE, OF_WILL, Properties,
};
use super::{
    Ack, Connect, Disconnect, Frame, Packet, Publish, Qos, Retained, Subscribe, Unsubscribe, Version, Wanted,
    Will, Wrong, reason,
};

/// More filters in one packet would keep others waiting who share the processor.
const FILTERS_MAX: usize = 16_384;

/// Reads a packet of a client that speaks `version`; a CONNECT says itself what it speaks.
pub(in super::super) fn decode(frame: Frame, version: Version) -> Result<Packet, Wrong> {
    let Frame { first, body } = frame;
    let flags = first & 0x0f;
    let wanted_flags = match first >> 4 {
        3 => flags,
        6 | 8 | 10 => 2,
        _ => 0,
    };
    if flags != wanted_flags {
        return Err(Wrong::Malformed("reserved flags"));
    }
    match first >> 4 {
        1 => connect(body).map(|connect| Packet::Connect(Box::new(connect))),
        3 => publish(flags, body, version).map(Packet::Publish),
        4 => ack(body, version).map(Packet::PubAck),
        5 => ack(body, version).map(Packet::PubRec),
        6 => ack(body, version).map(Packet::PubRel),
        7 => ack(body, version).map(Packet::PubComp),
        8 => subscribe(body, version).map(Packet::Subscribe),
        10 => unsubscribe(body, version).map(Packet::Unsubscribe),
        12 => Cursor::new(body).end().map(|()| Packet::PingReq),
        14 => disconnect(body, version).map(Packet::Disconnect),
        15 if version == Version::V5 => auth(body).map(|()| Packet::Auth),
        _ => Err(Wrong::Protocol("a packet that no client sends")),
    }
}

fn connect(body: Bytes) -> Result<Connect, Wrong> {
    let mut cursor = Cursor::new(body);
    let name = cursor.text()?;
    let level = cursor.u8()?;
    let version = match (&*name, level) {
        ("MQTT", 4) | ("MQIsdp", 3) => Version::V3,
        ("MQTT", 5) => Version::V5,
        ("MQTT" | "MQIsdp", other) => return Err(Wrong::Version(other)),
        _ => return Err(Wrong::Malformed("not MQTT")),
    };
    let flags = cursor.u8()?;
    let has = |bit: u8| flags & bit != 0;
    let (has_user, has_password, has_will) = (has(0x80), has(0x40), has(0x04));
    if has(0x01) {
        return Err(Wrong::Malformed("a reserved flag of CONNECT"));
    }
    if !has_will && flags & 0x38 != 0 {
        return Err(Wrong::Malformed("flags of a will without a will"));
    }
    if version == Version::V3 && has_password && !has_user {
        return Err(Wrong::Malformed("a password without a user name"));
    }
    let keep_alive = cursor.u16()?;
    let properties = match version {
        Version::V5 => Properties::read(&mut cursor, OF_CONNECT)?,
        Version::V3 => Properties::default(),
    };
    let client = cursor.text()?;
    let will = if has_will { Some(will(&mut cursor, version, flags)?) } else { None };
    let user = if has_user { Some(cursor.text()?) } else { None };
    let password = if has_password { Some(cursor.binary()?) } else { None };
    cursor.end()?;
    Ok(Connect { version, clean: has(0x02), keep_alive, client, properties, will, user, password })
}

fn will(cursor: &mut Cursor, version: Version, flags: u8) -> Result<Will, Wrong> {
    let qos = Qos::of((flags >> 3) & 3).ok_or(Wrong::Malformed("quality of service 3"))?;
    let properties = match version {
        Version::V5 => Properties::read(cursor, OF_WILL)?,
        Version::V3 => Properties::default(),
    };
    let topic = cursor.text()?;
    if topic.is_empty() || topic.contains(['+', '#']) {
        return Err(Wrong::Topic);
    }
    Ok(Will { topic, payload: cursor.binary()?, qos, retain: flags & 0x20 != 0, properties })
}

fn publish(flags: u8, body: Bytes, version: Version) -> Result<Publish, Wrong> {
    let qos = Qos::of((flags >> 1) & 3).ok_or(Wrong::Malformed("quality of service 3"))?;
    if qos == Qos::AtMostOnce && flags & 0x08 != 0 {
        return Err(Wrong::Malformed("quality of service 0 sent again"));
    }
    let mut cursor = Cursor::new(body);
    let topic = cursor.text()?;
    if topic.contains(['+', '#']) {
        return Err(Wrong::Topic);
    }
    let id = if qos == Qos::AtMostOnce { 0 } else { cursor.packet_id()? };
    let properties = match version {
        Version::V5 => {
            Some(Properties::read(&mut cursor, OF_PUBLISH)?).filter(|p| *p != Properties::default())
        }
        Version::V3 => None,
    };
    if topic.is_empty() && properties.as_ref().is_none_or(|properties| properties.topic_alias.is_none()) {
        return Err(if version == Version::V3 {
            Wrong::Topic
        } else {
            Wrong::Protocol("no topic and no alias")
        });
    }
    let retain = flags & 0x01 != 0;
    Ok(Publish { qos, retain, topic, id, properties: properties.map(Box::new), payload: cursor.rest() })
}

fn ack(body: Bytes, version: Version) -> Result<Ack, Wrong> {
    let mut cursor = Cursor::new(body);
    let id = cursor.packet_id()?;
    let mut reason = reason::SUCCESS;
    if version == Version::V5 && !cursor.is_empty() {
        reason = cursor.u8()?;
        if !cursor.is_empty() {
            Properties::read(&mut cursor, OF_ACK)?;
        }
    }
    cursor.end()?;
    Ok(Ack { id, reason })
}

fn subscribe(body: Bytes, version: Version) -> Result<Subscribe, Wrong> {
    let mut cursor = Cursor::new(body);
    let id = cursor.packet_id()?;
    let subscription_id = match version {
        Version::V5 => Properties::read(&mut cursor, OF_SUBSCRIBE)?.subscription_id,
        Version::V3 => None,
    };
    let mut filters = Vec::new();
    while !cursor.is_empty() {
        let filter = cursor.text()?;
        filters.push((filter, wanted(cursor.u8()?, version)?));
        few(filters.len())?;
    }
    if filters.is_empty() {
        return Err(Wrong::Protocol("SUBSCRIBE without a filter"));
    }
    Ok(Subscribe { id, subscription_id, filters })
}

const fn few(filters: usize) -> Result<(), Wrong> {
    if filters > FILTERS_MAX { Err(Wrong::Filters { max: FILTERS_MAX }) } else { Ok(()) }
}

fn wanted(options: u8, version: Version) -> Result<Wanted, Wrong> {
    let qos = Qos::of(options & 3).ok_or(Wrong::Malformed("quality of service 3"))?;
    if version == Version::V3 {
        return match options & 0xfc {
            0 => Ok(Wanted { qos, ..Wanted::default() }),
            _ => Err(Wrong::Malformed("reserved bits of a subscription")),
        };
    }
    let retained = match (options >> 4) & 3 {
        0 => Retained::Always,
        1 => Retained::IfNew,
        2 => Retained::Never,
        _ => return Err(Wrong::Protocol("retain handling 3")),
    };
    if options & 0xc0 != 0 {
        return Err(Wrong::Malformed("reserved bits of a subscription"));
    }
    Ok(Wanted { qos, no_local: options & 0x04 != 0, retain_as_published: options & 0x08 != 0, retained })
}

fn unsubscribe(body: Bytes, version: Version) -> Result<Unsubscribe, Wrong> {
    let mut cursor = Cursor::new(body);
    let id = cursor.packet_id()?;
    if version == Version::V5 {
        Properties::read(&mut cursor, OF_UNSUBSCRIBE)?;
    }
    let mut filters = Vec::new();
    while !cursor.is_empty() {
        filters.push(cursor.text()?);
        few(filters.len())?;
    }
    if filters.is_empty() {
        return Err(Wrong::Protocol("UNSUBSCRIBE without a filter"));
    }
    Ok(Unsubscribe { id, filters })
}

fn disconnect(body: Bytes, version: Version) -> Result<Disconnect, Wrong> {
    let mut cursor = Cursor::new(body);
    let (mut reason, mut session_expiry) = (reason::SUCCESS, None);
    if version == Version::V5 && !cursor.is_empty() {
        reason = cursor.u8()?;
        if !cursor.is_empty() {
            session_expiry = Properties::read(&mut cursor, OF_DISCONNECT)?.session_expiry;
        }
    }
    cursor.end()?;
    Ok(Disconnect { reason, session_expiry })
}

fn auth(body: Bytes) -> Result<(), Wrong> {
    let mut cursor = Cursor::new(body);
    if !cursor.is_empty() {
        cursor.u8()?;
        if !cursor.is_empty() {
            Properties::read(&mut cursor, OF_AUTH)?;
        }
    }
    cursor.end()
}
