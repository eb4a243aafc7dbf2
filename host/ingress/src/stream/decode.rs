//! A frame to an inbound. Pure.

use bytes::Bytes;
use sandbar_reading::{ContentType, Inbound};

use super::Far;
use crate::naming::{Named, Naming, NamingError};

/// The frame is the payload as it is.
pub(crate) fn decode(
    naming: &Naming,
    content_type: &ContentType,
    far: &Far,
    frame: Bytes,
) -> Result<Inbound, NamingError> {
    let Named { topic, device } = naming.name(far.remote, &frame)?;
    let attributes = far.attributes.clone();
    Ok(Inbound { device, attributes, ..Inbound::new(topic, content_type.clone(), frame) })
}
