//! Bytes to packets.

use bytes::{Buf, BytesMut};

use super::wire::{Fields, variable};
use super::{
    Ack, AckKind, ConnAck, Connect, Disconnect, Filter, Malformed, Packet, Properties, Publish, Qos, SubAck,
    Subscribe, Unsubscribe, Version, kind,
};

/// Takes the packet at the front of `input`, once all of it is there. `limit`: the most bytes of one packet,
/// known from its first bytes on.
pub fn decode(input: &mut BytesMut, version: Version, limit: usize) -> Result<Option<Packet>, Malformed> {
    let Some((&first, behind)) = input.split_first() else { return Ok(None) };
    let Some((length, length_size)) = variable(behind)? else { return Ok(None) };
    let size = 1 + length_size + length as usize;
    if size > limit {
        return Err(Malformed::TooLarge { size, limit });
    }
    if input.len() < size {
        return Ok(None);
    }
    input.advance(1 + length_size);
    let mut fields = Fields(input.split_to(length as usize).freeze());
    let packet = packet(first, &mut fields, version)?;
    fields.end()?;
    Ok(Some(packet))
}

fn packet(first: u8, fields: &mut Fields, version: Version) -> Result<Packet, Malformed> {
    let (packet, flags) = (first >> 4, first & 0x0f);
    let wanted = match packet {
        kind::PUBLISH => flags,
        kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => 2,
        _ => 0,
    };
    if flags != wanted {
        return Err(Malformed::Flags { packet, flags });
    }
    Ok(match packet {
        kind::CONNECT => Packet::Connect(Box::new(connect(fields)?)),
        kind::CONNACK => Packet::ConnAck(Box::new(connack(fields, version)?)),
        kind::PUBLISH => Packet::Publish(publish(flags, fields, version)?),
        kind::PUBACK => Packet::Ack(ack(AckKind::PubAck, fields, version)?),
        kind::PUBREC => Packet::Ack(ack(AckKind::PubRec, fields, version)?),
        kind::PUBREL => Packet::Ack(ack(AckKind::PubRel, fields, version)?),
        kind::PUBCOMP => Packet::Ack(ack(AckKind::PubComp, fields, version)?),
        kind::SUBSCRIBE => Packet::Subscribe(subscribe(fields, version)?),
        kind::SUBACK => Packet::SubAck(suback(fields, version)?),
        kind::UNSUBSCRIBE => Packet::Unsubscribe(unsubscribe(fields, version)?),
        kind::UNSUBACK => Packet::UnsubAck(suback(fields, version)?.packet_id),
        kind::PINGREQ => Packet::PingReq,
        kind::PINGRESP => Packet::PingResp,
        kind::DISCONNECT => Packet::Disconnect(Box::new(disconnect(fields, version)?)),
        other => return Err(Malformed::Type(other)),
    })
}

fn properties(fields: &mut Fields, version: Version) -> Result<Properties, Malformed> {
    match version {
        Version::V3 => Ok(Properties::default()),
        Version::V5 => Properties::decode(fields),
    }
}

fn connect(fields: &mut Fields) -> Result<Connect, Malformed> {
    const CLEAN: u8 = 0x02;
    const WILL: u8 = 0x04;
    const PASSWORD: u8 = 0x40;
    const USER: u8 = 0x80;
    let protocol = fields.text()?;
    let version = match (&*protocol, fields.byte()?) {
        ("MQTT", 4) => Version::V3,
        ("MQTT", 5) => Version::V5,
        _ => return Err(Malformed::Protocol),
    };
    let flags = fields.byte()?;
    if flags & (0x01 | WILL) != 0 {
        return Err(Malformed::Flags { packet: kind::CONNECT, flags });
    }
    let keep_alive = fields.two()?;
    let properties = properties(fields, version)?;
    Ok(Connect {
        version,
        clean_start: flags & CLEAN != 0,
        keep_alive,
        properties,
        client_id: fields.text()?,
        user: if flags & USER == 0 { None } else { Some(fields.text()?) },
        password: if flags & PASSWORD == 0 { None } else { Some(fields.binary()?) },
    })
}

fn connack(fields: &mut Fields, version: Version) -> Result<ConnAck, Malformed> {
    let flags = fields.byte()?;
    if flags > 1 {
        return Err(Malformed::Flags { packet: kind::CONNACK, flags });
    }
    let code = fields.byte()?;
    // A broker that does not know 5.0 refuses it in the words of 3.1.1.
    let properties = if fields.is_empty() { Properties::default() } else { properties(fields, version)? };
    Ok(ConnAck { session_present: flags == 1, code, properties })
}

fn publish(flags: u8, fields: &mut Fields, version: Version) -> Result<Publish, Malformed> {
    let qos = Qos::from_bits((flags >> 1) & 3).ok_or(Malformed::Qos)?;
    let topic = fields.text()?;
    let packet_id = if qos == Qos::AtMostOnce { 0 } else { fields.packet_id()? };
    let properties = properties(fields, version)?;
    let payload = fields.rest();
    let (duplicate, retain) = (flags & 8 != 0, flags & 1 != 0);
    Ok(Publish { duplicate, qos, retain, topic, packet_id, properties, payload })
}

/// Without a code it is 0, and without properties it has none (3.4.2.1, 3.4.2.2.1).
fn ack(kind: AckKind, fields: &mut Fields, version: Version) -> Result<Ack, Malformed> {
    let mut ack = Ack::new(kind, fields.packet_id()?);
    if version == Version::V5 && !fields.is_empty() {
        ack.code = fields.byte()?;
        if !fields.is_empty() {
            ack.reason = Properties::decode(fields)?.reason;
        }
    }
    Ok(ack)
}

fn subscribe(fields: &mut Fields, version: Version) -> Result<Subscribe, Malformed> {
    let packet_id = fields.packet_id()?;
    properties(fields, version)?;
    let mut filters = Vec::new();
    while !fields.is_empty() {
        let filter = fields.text()?;
        let options = fields.byte()?;
        filters.push(Filter {
            filter,
            qos: Qos::from_bits(options & 3).ok_or(Malformed::Qos)?,
            no_local: options & 4 != 0,
            retain_as_published: options & 8 != 0,
            retain_handling: (options >> 4) & 3,
        });
    }
    Ok(Subscribe { packet_id, filters })
}

fn unsubscribe(fields: &mut Fields, version: Version) -> Result<Unsubscribe, Malformed> {
    let packet_id = fields.packet_id()?;
    properties(fields, version)?;
    let mut filters = Vec::new();
    while !fields.is_empty() {
        filters.push(fields.text()?);
    }
    Ok(Unsubscribe { packet_id, filters })
}

fn suback(fields: &mut Fields, version: Version) -> Result<SubAck, Malformed> {
    let packet_id = fields.packet_id()?;
    properties(fields, version)?;
    Ok(SubAck { packet_id, codes: fields.rest().to_vec() })
}

fn disconnect(fields: &mut Fields, version: Version) -> Result<Disconnect, Malformed> {
    let mut disconnect = Disconnect::default();
    if version == Version::V5 && !fields.is_empty() {
        disconnect.code = fields.byte()?;
        if !fields.is_empty() {
            disconnect.properties = Properties::decode(fields)?;
        }
    }
    Ok(disconnect)
}
