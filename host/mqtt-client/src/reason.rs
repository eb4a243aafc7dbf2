//! What a broker means by its codes.

use crate::Version;

/// Codes that can only be of the message itself (2.4): its topic, or its payload.
pub const fn is_of_the_message(code: u8) -> bool {
    matches!(code, 0x90 | 0x95 | 0x99)
}

/// Codes from here on are failures (2.4).
pub const FAILURE: u8 = 0x80;

/// `0x87 not authorized`, with what the broker added.
pub fn text(code: u8, added: Option<&str>) -> String {
    let name = name(code);
    match added {
        Some(added) if !added.is_empty() => format!("{code:#04x} {name}: {added}"),
        _ => format!("{code:#04x} {name}"),
    }
}

/// Of a CONNACK, where 3.1.1 has codes of its own (3.2.2.3 there).
pub fn of_connack(code: u8, version: Version, added: Option<&str>) -> String {
    let name = match (version, code) {
        (_, 1) => "the broker does not speak this version of MQTT",
        (_, 2) => "the client id is refused",
        (_, 3) => "the broker is unavailable",
        (_, 4) => "bad user name or password",
        (_, 5) => "not authorized",
        _ => return text(code, added),
    };
    format!("{code} {name}")
}

const fn name(code: u8) -> &'static str {
    match code {
        0x00 => "success",
        0x04 => "disconnect with will",
        0x10 => "no matching subscribers",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x84 => "unsupported protocol version",
        0x85 => "client id not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorized",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8a => "banned",
        0x8b => "server shutting down",
        0x8c => "bad authentication method",
        0x8d => "keep-alive time-out",
        0x8e => "session taken over",
        0x8f => "topic filter invalid",
        0x90 => "topic name invalid",
        0x91 => "packet identifier in use",
        0x92 => "packet identifier not found",
        0x93 => "receive maximum exceeded",
        0x94 => "topic alias invalid",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9a => "retain not supported",
        0x9b => "QoS not supported",
        0x9c => "use another server",
        0x9d => "server moved",
        0x9e => "shared subscriptions not supported",
        0x9f => "connection rate exceeded",
        0xa0 => "maximum connect time",
        0xa1 => "subscription identifiers not supported",
        0xa2 => "wildcard subscriptions not supported",
        _ => "unknown reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_quoted() {
        assert_eq!(text(0x97, Some("disk full")), "0x97 quota exceeded: disk full");
        assert_eq!(text(0xfe, None), "0xfe unknown reason");
        assert_eq!(of_connack(5, Version::V3, None), "5 not authorized");
        assert_eq!(of_connack(0x87, Version::V5, None), "0x87 not authorized");
    }
}
