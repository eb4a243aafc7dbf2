//! A frame to an inbound. Pure.

use std::net::SocketAddr;

use bytes::Bytes;
use sandbar_reading::{Attributes, ContentType, Inbound};

use crate::naming::{Named, Naming, NamingError};

/// The frame is the payload as it is.
pub(crate) fn decode(
    naming: &Naming,
    content_type: &ContentType,
    peer: SocketAddr,
    frame: Bytes,
) -> Result<Inbound, NamingError> {
    let Named { topic, device } = naming.name(peer, &frame)?;
    let attributes = Attributes::new().with("peer", peer.to_string());
    Ok(Inbound { device, attributes, ..Inbound::new(topic, content_type.clone(), frame) })
}
