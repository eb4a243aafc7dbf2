//! Packets to bytes.

use super::wire::{put_binary, put_text, put_two, put_variable};
use super::{
    Ack, AckKind, Connect, Disconnect, Packet, Publish, Qos, SubAck, Subscribe, Unsubscribe, Version, kind,
};

/// Appends the packet to `into`. A text or binary field of more than 65,535 bytes is cut: who makes packets
/// checks that before.
pub fn encode(packet: &Packet, version: Version, into: &mut Vec<u8>) {
    match packet {
        Packet::Publish(publish) => return encode_publish(publish, version, into),
        Packet::PingReq => return into.extend_from_slice(&[kind::PINGREQ << 4, 0]),
        Packet::PingResp => return into.extend_from_slice(&[kind::PINGRESP << 4, 0]),
        _ => {}
    }
    let mut body = Vec::new();
    let first = match packet {
        Packet::Connect(packet) => connect(packet, &mut body),
        Packet::ConnAck(packet) => {
            body.extend_from_slice(&[u8::from(packet.session_present), packet.code]);
            if version == Version::V5 {
                packet.properties.encode(&mut body);
            }
            kind::CONNACK << 4
        }
        Packet::Ack(packet) => ack(packet, version, &mut body),
        Packet::Subscribe(packet) => subscribe(packet, version, &mut body),
        Packet::SubAck(packet) => suback(packet, version, &mut body),
        Packet::Unsubscribe(packet) => unsubscribe(packet, version, &mut body),
        // It has a code for each filter with 5.0; whoever plays a broker has had one filter.
        Packet::UnsubAck(packet_id) => {
            put_two(*packet_id, &mut body);
            if version == Version::V5 {
                body.extend_from_slice(&[0, 0]);
            }
            kind::UNSUBACK << 4
        }
        Packet::Disconnect(packet) => disconnect(packet, version, &mut body),
        Packet::Publish(_) | Packet::PingReq | Packet::PingResp => unreachable!("encoded above"),
    };
    into.push(first);
    put_variable(body.len(), into);
    into.append(&mut body);
}

/// How many bytes a PUBLISH has.
pub fn publish_size(publish: &Publish, version: Version) -> usize {
    let mut head = Vec::new();
    publish_head(publish, version, &mut head);
    let length = head.len() + publish.payload.len();
    let mut length_field = Vec::with_capacity(4);
    put_variable(length, &mut length_field);
    1 + length_field.len() + length
}

fn encode_publish(publish: &Publish, version: Version, into: &mut Vec<u8>) {
    let mut head = Vec::with_capacity(publish.topic.len() + 8);
    publish_head(publish, version, &mut head);
    let flags = u8::from(publish.duplicate) << 3 | publish.qos.bits() << 1 | u8::from(publish.retain);
    into.reserve(head.len() + publish.payload.len() + 5);
    into.push(kind::PUBLISH << 4 | flags);
    put_variable(head.len() + publish.payload.len(), into);
    into.append(&mut head);
    into.extend_from_slice(&publish.payload);
}

fn publish_head(publish: &Publish, version: Version, into: &mut Vec<u8>) {
    put_text(&publish.topic, into);
    if publish.qos > Qos::AtMostOnce {
        put_two(publish.packet_id, into);
    }
    if version == Version::V5 {
        publish.properties.encode(into);
    }
}

fn connect(packet: &Connect, into: &mut Vec<u8>) -> u8 {
    put_text("MQTT", into);
    into.push(match packet.version {
        Version::V3 => 4,
        Version::V5 => 5,
    });
    let flags = u8::from(packet.clean_start) << 1
        | u8::from(packet.password.is_some()) << 6
        | u8::from(packet.user.is_some()) << 7;
    into.push(flags);
    put_two(packet.keep_alive, into);
    if packet.version == Version::V5 {
        packet.properties.encode(into);
    }
    put_text(&packet.client_id, into);
    if let Some(user) = &packet.user {
        put_text(user, into);
    }
    if let Some(password) = &packet.password {
        put_binary(password, into);
    }
    kind::CONNECT << 4
}

fn ack(packet: &Ack, version: Version, into: &mut Vec<u8>) -> u8 {
    put_two(packet.packet_id, into);
    if version == Version::V5 && (packet.code != 0 || packet.reason.is_some()) {
        into.push(packet.code);
        if let Some(reason) = &packet.reason {
            super::Properties { reason: Some(reason.clone()), ..Default::default() }.encode(into);
        }
    }
    match packet.kind {
        AckKind::PubAck => kind::PUBACK << 4,
        AckKind::PubRec => kind::PUBREC << 4,
        AckKind::PubRel => kind::PUBREL << 4 | 2,
        AckKind::PubComp => kind::PUBCOMP << 4,
    }
}

fn subscribe(packet: &Subscribe, version: Version, into: &mut Vec<u8>) -> u8 {
    put_two(packet.packet_id, into);
    if version == Version::V5 {
        into.push(0);
    }
    for filter in &packet.filters {
        put_text(&filter.filter, into);
        into.push(match version {
            Version::V3 => filter.qos.bits(),
            Version::V5 => {
                filter.qos.bits()
                    | u8::from(filter.no_local) << 2
                    | u8::from(filter.retain_as_published) << 3
                    | (filter.retain_handling & 3) << 4
            }
        });
    }
    kind::SUBSCRIBE << 4 | 2
}

fn unsubscribe(packet: &Unsubscribe, version: Version, into: &mut Vec<u8>) -> u8 {
    put_two(packet.packet_id, into);
    if version == Version::V5 {
        into.push(0);
    }
    for filter in &packet.filters {
        put_text(filter, into);
    }
    kind::UNSUBSCRIBE << 4 | 2
}

fn suback(packet: &SubAck, version: Version, into: &mut Vec<u8>) -> u8 {
    put_two(packet.packet_id, into);
    if version == Version::V5 {
        into.push(0);
    }
    into.extend_from_slice(&packet.codes);
    kind::SUBACK << 4
}

fn disconnect(packet: &Disconnect, version: Version, into: &mut Vec<u8>) -> u8 {
    if version == Version::V5 && *packet != Disconnect::default() {
        into.push(packet.code);
        packet.properties.encode(into);
    }
    kind::DISCONNECT << 4
}
