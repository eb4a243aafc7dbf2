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
        self.chunks.push_back(self.tail.split().freeze());
        self.chunks.push_back(payload.clone());
    }

    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Writes until nothing waits.
    pub(super) fn poll_write(&mut self, io: &mut dyn Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting > 0 {
            if self.chunks.is_empty() {
                self.chunks.push_back(self.tail.split().freeze());
            }
            let Some(first) = self.chunks.front_mut() else { break };
            if !first.is_empty() {
                let count = ready!(Pin::new(&mut *io).poll_write(cx, first))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                first.advance(count);
                self.waiting -= count;
                self.unflushed = true;
            }
            if first.is_empty() {
                self.chunks.pop_front();
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
            self.unflushed = false;
            // An idle connection keeps no buffer.
            self.tail = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}
