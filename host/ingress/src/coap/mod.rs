//! CoAP (RFC 7252, with RFC 7641 and RFC 7959), as far as it is the same for every driver that speaks it.
//!
//! [`layer`] is the protocol's state and waits for nothing; [`endpoint`] is a socket with it; [`call`] is what a
//! client does over an endpoint.

pub(crate) mod answers;
pub(crate) mod blocks;
pub(crate) mod call;
pub(crate) mod dtls;
pub(crate) mod endpoint;
pub(crate) mod formats;
pub(crate) mod layer;
#[cfg(test)]
mod layer_tests;
pub(crate) mod links;
pub(crate) mod packet;
mod timers;

pub(crate) use self::call::Caller;
pub(crate) use self::endpoint::{Endpoint, Service};
pub(crate) use self::packet::{Code, Method, Opt, Packet};
