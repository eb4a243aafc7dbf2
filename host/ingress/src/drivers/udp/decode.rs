//! A datagram to an inbound. Pure.

use std::net::SocketAddr;

use bytes::Bytes;
use sandbar_reading::{Attributes, ContentType, Inbound};

use crate::naming::{Named, Naming, NamingError};

/// The datagram is the payload as it is.
pub(crate) fn decode(
    naming: &Naming,
    content_type: &ContentType,
    peer: SocketAddr,
    datagram: Bytes,
) -> Result<Inbound, NamingError> {
    let Named { topic, device } = naming.name(peer, &datagram)?;
    let attributes = Attributes::new().with("peer", peer.to_string());
    Ok(Inbound { device, attributes, ..Inbound::new(topic, content_type.clone(), datagram) })
}
