//! A file, a part of it or a line of it to an inbound. Pure.

use std::path::Path;

use bytes::Bytes;
use sandbar_reading::{Attributes, ContentType, Inbound, Timestamp};

use super::config::Settings;
use super::file::Signature;
use super::naming;
use super::seen::Event;

/// Which file, and as what it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    pub(super) key: &'a str,
    pub(super) path: &'a Path,
    pub(super) signature: Signature,
    pub(super) event: Event,
}

/// Which part of a file that is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) offset: u64,
    pub(super) size: usize,
}

/// The parts of a file from `offset` on, in order.
pub(super) fn chunks(size: u64, offset: u64, most: usize) -> impl Iterator<Item = Chunk> {
    let most_wide = most as u64;
    (0..)
        .map(move |number| offset + number * most_wide)
        .take_while(move |at| *at < size)
        .map(move |at| Chunk { offset: at, size: usize::try_from(size - at).unwrap_or(usize::MAX).min(most) })
}

pub(super) fn decode(
    settings: &Settings,
    of: Of<'_>,
    chunk: Option<(Chunk, usize)>,
    payload: Bytes,
) -> Inbound {
    let mut attributes = attributes(of.path)
        .with("file.event", of.event.name())
        .with("file.size", of.signature.size.to_string())
        .with("file.modified", Timestamp::from_nanos(of.signature.modified).to_string());
    if let Some((chunk, most)) = chunk {
        let most = most as u64;
        attributes.add("file.chunk", (chunk.offset / most + 1).to_string());
        attributes.add("file.chunks", of.signature.size.div_ceil(most).to_string());
        attributes.add("file.offset", chunk.offset.to_string());
    }
    let content_type = settings.content_type.clone().unwrap_or_else(|| naming::content_type(of.key));
    inbound(settings, of.key, content_type, attributes, payload)
}

/// A line begins at `offset`.
pub(super) fn decode_line(settings: &Settings, key: &str, path: &Path, offset: u64, line: Bytes) -> Inbound {
    let attributes = attributes(path).with("file.event", "line").with("file.offset", offset.to_string());
    let content_type = settings.content_type.clone().unwrap_or(ContentType::TEXT);
    inbound(settings, key, content_type, attributes, line)
}

fn attributes(path: &Path) -> Attributes {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Attributes::new().with("file.path", path.to_string_lossy()).with("file.name", name)
}

fn inbound(
    settings: &Settings,
    key: &str,
    content_type: ContentType,
    attributes: Attributes,
    payload: Bytes,
) -> Inbound {
    Inbound {
        device: settings.naming.device(key),
        attributes,
        ..Inbound::new(settings.naming.topic(key), content_type, payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_into_parts_of_a_size() {
        let parts = |size, offset, most| {
            chunks(size, offset, most).map(|chunk| (chunk.offset, chunk.size)).collect::<Vec<_>>()
        };
        assert_eq!(parts(10, 0, 4), [(0, 4), (4, 4), (8, 2)]);
        assert_eq!(parts(10, 8, 4), [(8, 2)]);
        assert_eq!(parts(8, 0, 4), [(0, 4), (4, 4)]);
        assert_eq!(parts(8, 8, 4), []);
    }
}
