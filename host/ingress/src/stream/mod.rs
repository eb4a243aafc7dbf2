//! Streams of bytes in frames, both ways: what a TCP connection and a serial line have in common.

mod connection;
pub(crate) mod decode;
#[cfg(any(test, feature = "contract-test"))]
pub(crate) mod garbage;
mod settings;

use std::net::SocketAddr;

use sandbar_reading::Attributes;

pub(crate) use self::connection::{Ended, Shared, serve};
pub(crate) use self::settings::{Nature, Options, Settings};

/// The far end of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Far {
    pub(crate) remote: Option<SocketAddr>,
    /// As the log has it.
    pub(crate) name: String,
    /// Of its readings.
    pub(crate) attributes: Attributes,
}

impl Far {
    /// Of a connection.
    pub(crate) fn at(peer: SocketAddr) -> Self {
        let name = peer.to_string();
        Self { remote: Some(peer), attributes: Attributes::new().with("peer", &*name), name }
    }

    /// Of a serial line.
    pub(crate) fn on(port: &str) -> Self {
        let attributes = Attributes::new().with("serial.port", port);
        Self { remote: None, name: port.to_owned(), attributes }
    }
}
