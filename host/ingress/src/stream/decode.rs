//! A frame to an inbound. Pure.

use bytes::Bytes;
use sandbar_reading::{ContentType, Inbound};

use super::Far;
use crate::naming::{Named, Naming, NamingError, Peer};
use crate::tls;

/// As readings are named by it.
pub(super) fn peer(far: &Far) -> Peer<'_> {
    Peer { address: far.remote, certificate: far.attributes.get(tls::CERTIFICATE) }
}

/// The frame is the payload as it is.
pub(crate) fn decode(
    naming: &Naming,
    content_type: &ContentType,
    far: &Far,
    frame: Bytes,
) -> Result<Inbound, NamingError> {
    let Named { topic, device } = naming.name(peer(far), &frame)?;
    let attributes = far.attributes.clone();
    Ok(Inbound { device, attributes, ..Inbound::new(topic, content_type.clone(), frame) })
}
