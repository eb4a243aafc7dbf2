//! Reason codes (MQTT 5.0, section 2.4), as far as a broker says them or heeds them.

pub(in super::super) const SUCCESS: u8 = 0x00;
pub(in super::super) const DISCONNECT_WITH_WILL: u8 = 0x04;
pub(in super::super) const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
pub(in super::super) const UNSPECIFIED: u8 = 0x80;
pub(in super::super) const MALFORMED: u8 = 0x81;
pub(in super::super) const PROTOCOL_ERROR: u8 = 0x82;
pub(in super::super) const IMPLEMENTATION: u8 = 0x83;
pub(in super::super) const UNSUPPORTED_VERSION: u8 = 0x84;
pub(in super::super) const CLIENT_ID: u8 = 0x85;
pub(in super::super) const BAD_CREDENTIALS: u8 = 0x86;
pub(in super::super) const NOT_AUTHORIZED: u8 = 0x87;
pub(in super::super) const SERVER_UNAVAILABLE: u8 = 0x88;
pub(in super::super) const SHUTTING_DOWN: u8 = 0x8B;
pub(in super::super) const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;
pub(in super::super) const KEEP_ALIVE: u8 = 0x8D;
pub(in super::super) const TAKEN_OVER: u8 = 0x8E;
pub(in super::super) const FILTER_INVALID: u8 = 0x8F;
pub(in super::super) const TOPIC_NAME_INVALID: u8 = 0x90;
pub(in super::super) const PACKET_ID_NOT_FOUND: u8 = 0x92;
pub(in super::super) const RECEIVE_MAXIMUM: u8 = 0x93;
pub(in super::super) const TOPIC_ALIAS_INVALID: u8 = 0x94;
pub(in super::super) const PACKET_TOO_LARGE: u8 = 0x95;
pub(in super::super) const QUOTA: u8 = 0x97;
pub(in super::super) const PAYLOAD_FORMAT_INVALID: u8 = 0x99;

/// What 3.1.1's CONNACK says instead (section 3.2.2.3).
pub(super) const fn connect_return_code(reason: u8) -> u8 {
    match reason {
        SUCCESS => 0,
        UNSUPPORTED_VERSION => 1,
        CLIENT_ID => 2,
        BAD_CREDENTIALS => 4,
        NOT_AUTHORIZED => 5,
        _ => 3,
    }
}
