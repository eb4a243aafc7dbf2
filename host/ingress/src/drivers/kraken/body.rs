//! Messages while they arrive: all together may take so much memory, and each so much time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use tokio::time::{Sleep, sleep};
use tonic::Status;

/// Bytes that messages may take while they arrive.
pub(super) struct Room {
    max: usize,
    taken: AtomicUsize,
}

impl Room {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: AtomicUsize::new(0) })
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.max;
        if !fits {
            self.taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

pub(super) struct Metered {
    body: Incoming,
    room: Arc<Room>,
    taken: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Metered {
    pub(super) fn new(body: Incoming, room: Arc<Room>, patience: Duration) -> Self {
        Self { body, room, taken: 0, deadline: Box::pin(sleep(patience)) }
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() && self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Status::deadline_exceeded("the message did not arrive in time"))));
        }
        let frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => {
                return Poll::Ready(Some(Err(Status::cancelled("the message did not arrive whole"))));
            }
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref() {
            if !self.room.take(data.len()) {
                let full = Status::unavailable("busy: too many messages are arriving");
                return Poll::Ready(Some(Err(full)));
            }
            self.taken += data.len();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.taken, Ordering::Relaxed);
    }
}
