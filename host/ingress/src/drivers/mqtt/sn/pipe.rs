//! A client's connection to the broker: a pipe within this process. Nothing waits here for the broker to read. It does
//! not while too much waits for the client, and what the client says next may be what changes that.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use sandbar_mqtt_client::codec::{self, Malformed, Packet, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use super::super::client::Link;

/// What the pipe holds each way.
const HOLDS: usize = 16 << 10;

/// What is read at once, about.
const READ: usize = 2 << 10;

/// With less room than that there is to be more before something is read.
const READ_MIN: usize = 256;

/// While more waits to be written, nothing is taken that the client will say again.
const AHEAD: usize = 64 << 10;

/// No client that waits for answers has so much to say.
const OUTPUT_MAX: usize = 4 * AHEAD;

/// How long the broker may take to read the last words.
const FAREWELL: Duration = Duration::from_secs(10);

/// What others can do to the broker's connection, once it is one.
pub(super) type Held = Arc<OnceLock<Arc<Link>>>;

pub(super) struct Pipe {
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
    input: BytesMut,
    output: BytesMut,
    held: Held,
}

impl Pipe {
    /// With the broker's end, and where the broker's connection is to be put.
    pub(super) fn new() -> (Self, DuplexStream, Held) {
        let (near, far) = tokio::io::duplex(HOLDS);
        let (reader, writer) = tokio::io::split(near);
        let held = Held::default();
        let (input, output) = (BytesMut::new(), BytesMut::new());
        (Self { reader, writer, input, output, held: Arc::clone(&held) }, far, held)
    }

    /// Puts a packet behind those that are yet to be written.
    pub(super) fn give(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        codec::encode(packet, Version::V5, &mut bytes);
        self.give_bytes(&bytes);
    }

    pub(super) fn give_bytes(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// The broker does not read as fast as the client speaks.
    pub(super) fn is_behind(&self) -> bool {
        self.output.len() >= AHEAD
    }

    pub(super) fn is_overrun(&self) -> bool {
        self.output.len() > OUTPUT_MAX
    }

    /// A packet that was read.
    pub(super) fn next(&mut self, limit: usize) -> Result<Option<Packet>, Malformed> {
        codec::decode(&mut self.input, Version::V5, limit)
    }

    /// Reads or writes something. May be dropped and called again: nothing is lost.
    pub(super) async fn drive(&mut self, reads: bool) -> io::Result<()> {
        if reads && self.input.capacity() - self.input.len() < READ_MIN {
            self.input.reserve(READ);
        }
        let writes = !self.output.is_empty();
        tokio::select! {
            read = self.reader.read_buf(&mut self.input), if reads => match read? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            },
            wrote = self.writer.write_buf(&mut self.output), if writes => wrote.map(drop),
            else => std::future::pending().await,
        }
    }

    /// What waits for a client that sleeps waits as for one that is away.
    pub(super) fn sleeps(&self, asleep: bool) {
        if let Some(link) = self.held.get() {
            link.sleeps(asleep);
        }
    }

    /// Says farewell, so that no will is published. Returns once the broker has let go of its end; what it says until
    /// then is for nobody.
    pub(super) async fn part(mut self) {
        self.give(&Packet::Disconnect(Box::default()));
        let parting = async {
            while self.drive(true).await.is_ok() {
                self.input.clear();
            }
        };
        drop(tokio::time::timeout(FAREWELL, parting).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_come_is_read_at_once() {
        let (mut pipe, mut far, _held) = Pipe::new();
        far.write_all(&[0; 1500]).await.unwrap();
        pipe.drive(true).await.unwrap();
        assert_eq!(pipe.input.len(), 1500);
    }
}
