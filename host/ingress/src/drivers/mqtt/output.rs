//! What is to be written to a connection. Short packets are gathered; large payloads are written from where
//! they are, shared by all who get them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::io::Io;
use bytes::{Buf, Bytes, BytesMut};

/// Payloads from this size on are not copied.
const SHARED_FROM: usize = 8 << 10;

/// An idle connection keeps a buffer of this size, at most.
const KEPT: usize = 256;

#[derive(Default)]
pub(super) struct Output {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    waiting: usize,
    unflushed: bool,
}

impl Output {
    /// To write the head of a packet to.
    pub(super) fn head(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.waiting += self.tail.len() - before;
    }

    pub(super) fn payload(&mut self, payload: &Bytes) {
        self.waiting += payload.len();
        if payload.len() < SHARED_FROM {
            return self.tail.extend_from_slice(payload);
        }
        if !self.tail.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.tail).freeze());
        }
        self.chunks.push_back(payload.clone());
    }

    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Writes until nothing waits.
    pub(super) fn poll_write(&mut self, io: &mut dyn Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting > 0 {
            let next = self.chunks.front().map_or(&self.tail[..], |chunk| &chunk[..]);
            let count = ready!(Pin::new(&mut *io).poll_write(cx, next))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            match self.chunks.front_mut() {
                Some(chunk) => chunk.advance(count),
                None if count == self.tail.len() => self.tail.clear(),
                None => {
                    let mut rest = std::mem::take(&mut self.tail).freeze();
                    rest.advance(count);
                    self.chunks.push_back(rest);
                }
            }
            if self.chunks.front().is_some_and(Bytes::is_empty) {
                self.chunks.pop_front();
            }
            self.waiting -= count;
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
            self.unflushed = false;
            if self.tail.capacity() > KEPT {
                self.tail = BytesMut::new();
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_in_pieces_keeps_its_order() {
        for room in [7, 64 << 10] {
            let (mut near, mut far) = tokio::io::duplex(room);
            let mut output = Output::default();
            let large = Bytes::from(vec![b'x'; SHARED_FROM]);
            let expected = [&b"one, two, three"[..], &large[..], b"four, five, six", b"seven"].concat();
            output.head(|out| out.extend_from_slice(b"one, "));
            output.head(|out| out.extend_from_slice(b"two, three"));
            output.payload(&large);
            output.head(|out| out.extend_from_slice(b"four, "));
            output.payload(&Bytes::from_static(b"five, six"));
            let write = async {
                poll_fn(|cx| output.poll_write(&mut near, cx)).await.unwrap();
                output.head(|out| out.extend_from_slice(b"seven"));
                assert_eq!(output.waiting(), 5);
                poll_fn(|cx| output.poll_write(&mut near, cx)).await.unwrap();
                assert_eq!((output.waiting(), output.chunks.len()), (0, 0));
            };
            let mut got = vec![0; expected.len()];
            let ((), read) = tokio::join!(write, far.read_exact(&mut got));
            read.unwrap();
            assert!(got == expected, "{room}");
        }
    }

    #[tokio::test]
    async fn an_acknowledgement_takes_no_buffer_of_its_own() {
        let (mut near, _far) = tokio::io::duplex(64 << 10);
        let mut output = Output::default();
        output.head(|out| out.extend_from_slice(&[0x40, 2, 0, 1]));
        let buffer = output.tail.as_ptr();
        for _ in 0..3 {
            poll_fn(|cx| output.poll_write(&mut near, cx)).await.unwrap();
            output.head(|out| out.extend_from_slice(&[0x40, 2, 0, 1]));
            assert_eq!(output.tail.as_ptr(), buffer);
        }
        output.head(|out| out.extend_from_slice(&[0; 1000]));
        poll_fn(|cx| output.poll_write(&mut near, cx)).await.unwrap();
        assert_eq!(output.tail.capacity(), 0, "a large one is not kept");
    }
}
