//! What goes over the line, byte for byte, all of it little-endian. Pure.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

/// Of a module or router: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(pub(super) u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_hex).map(Self).ok_or(())
    }
}

/// What the router sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Uplink(Uplink),
    /// To a request for a module.
    Module(ModuleAnswer),
    /// To a request for the router itself.
    Router(RouterAnswer),
    /// To a part of a router's firmware.
    Firmware {
        result: u8,
    },
    Error {
        reason: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uplink {
    pub(super) device: Id,
    pub(super) sensor: u16,
    pub(super) rssi: i8,
    pub(super) order: u16,
    pub(super) data: Bytes,
    /// The whole frame.
    pub(super) raw: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModuleAnswer {
    pub(super) device: Id,
    pub(super) order: u16,
    pub(super) command: u8,
    pub(super) result: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouterAnswer {
    pub(super) command: u8,
    pub(super) router: Id,
    pub(super) data: Bytes,
}

/// Commands for modules.
pub(super) mod module {
    pub(crate) const INSTANT_UPLINK: u8 = 0x00;
    pub(crate) const SET_PARAMETERS: u8 = 0x05;
    pub(crate) const GET_PARAMETERS: u8 = 0x0d;
    pub(crate) const CLEAR_COUNTERS: u8 = 0x10;
    pub(crate) const OUTPUT: u8 = 0x11;
    pub(crate) const FIRMWARE: u8 = 0x12;
    pub(crate) const RESTART: u8 = 0xfd;
    pub(crate) const ALL: [u8; 7] =
        [INSTANT_UPLINK, SET_PARAMETERS, GET_PARAMETERS, CLEAR_COUNTERS, OUTPUT, FIRMWARE, RESTART];
}

/// Commands for the router.
pub(super) mod router {
    pub(crate) const STOP: u8 = 0x00;
    pub(crate) const START: u8 = 0x01;
    pub(crate) const VERSION: u8 = 0x02;
    /// Of the first of [`DEVICES_MAX`] places.
    pub(crate) const DEVICE_ID: u8 = 0x03;
    pub(crate) const SCAN_MODE: u8 = 0x67;
    pub(crate) const LONG_RANGE: u8 = 0x69;
    pub(crate) const LEGACY: u8 = 0x6a;
    pub(crate) const REMOVE_ALL: u8 = 0x6b;
    /// From the first of the places.
    pub(crate) const REMOVE: u8 = 0x6c;
    pub(crate) const DEVICE_IDS: u8 = 0xcf;
    pub(crate) const KEEPALIVE: u8 = 0xd0;
    /// Places for modules that a router has.
    pub(crate) const DEVICES_MAX: u8 = 0x67 - DEVICE_ID;
}

/// The router counts its own time in Japan's (UTC+9).
const JAPAN: u32 = 9 * 3600;

/// A request for the router. `now`: seconds since 1970.
pub(super) fn router_request(command: u8, now: u32) -> Vec<u8> {
    let local = now.wrapping_add(JAPAN);
    [&[0x01, 0x01, command][..], &local.to_le_bytes(), &now.to_le_bytes()].concat()
}

/// A request for a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModuleRequest {
    pub(super) device: Id,
    pub(super) sensor: u16,
    pub(super) command: u8,
    pub(super) order: u16,
    pub(super) data: Vec<u8>,
}

impl ModuleRequest {
    pub(super) fn encode(&self, now: u32) -> Vec<u8> {
        let size = u16::try_from(self.data.len()).expect("data of a few hundred bytes");
        [
            &[0x01, 0x00][..],
            &size.to_le_bytes(),
            &now.to_le_bytes(),
            &self.device.0.to_le_bytes(),
            &self.sensor.to_le_bytes(),
            &[self.command],
            &self.order.to_le_bytes(),
            &self.data,
        ]
        .concat()
    }
}

/// How a router's firmware begins.
pub(super) fn firmware_request(size: u32, now: u32) -> Vec<u8> {
    [&[0x01, 0x03][..], &now.to_le_bytes(), &size.to_le_bytes()].concat()
}

/// What a result of a module's answer says.
pub(super) fn result_text(result: u8) -> &'static str {
    match result {
        0 => "done",
        1 => "the module has no such sensor",
        2 => "the module knows no such command",
        3 => "a value is out of its range",
        4 => "the router could not connect to the module",
        5 => "the module did not answer in time",
        7 => "the router knows no such module",
        8 => "the router is busy",
        9 => "the module is busy",
        _ => "the router gave a result that is not known",
    }
}

pub(super) const ROUTER_BUSY: u8 = 8;
pub(super) const MODULE_BUSY: u8 = 9;

/// Whether it may go better later.
pub(super) fn is_busy(result: u8) -> bool {
    matches!(result, ROUTER_BUSY | MODULE_BUSY)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn requests_are_these_bytes() {
        let now = 0x6900_0000;
        expect!["01 01 01 90 7e 00 69 00 00 00 69"].assert_eq(&hex(&router_request(router::START, now)));
        let request = ModuleRequest {
            device: Id(0x2468_0024_0123_4567),
            sensor: 0x0121,
            command: module::GET_PARAMETERS,
            order: 2,
            data: vec![0],
        };
        expect!["01 00 01 00 00 00 00 69 67 45 23 01 24 00 68 24 21 01 0d 02 00 00"]
            .assert_eq(&hex(&request.encode(now)));
        expect!["01 03 00 00 00 69 00 04 00 00"].assert_eq(&hex(&firmware_request(1024, now)));
    }

    #[test]
    fn an_id_is_sixteen_digits() {
        let id = Id(0x2468_0024_0123_4567);
        assert_eq!(id.to_string(), "2468002401234567");
        assert_eq!("2468002401234567".parse(), Ok(id));
        for bad in ["", "246800240123456", "24680024012345678", "+468002401234567", "g468002401234567"] {
            assert_eq!(bad.parse::<Id>(), Err(()), "{bad}");
        }
    }
}
