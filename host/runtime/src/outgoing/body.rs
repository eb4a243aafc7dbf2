//! An answer that stops coming is an error after a while.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::Error;

use super::Part;

pub(super) struct Timed {
    incoming: Incoming,
    late: Pin<Box<Sleep>>,
    between: Duration,
}

impl Timed {
    pub(super) fn new(incoming: Incoming, between: Duration) -> Self {
        Self { incoming, late: Box::pin(tokio::time::sleep(between)), between }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(part))) => {
                let next = Instant::now() + self.between;
                self.late.as_mut().reset(next);
                Poll::Ready(Some(Ok(part)))
            }
            Poll::Ready(ended) => Poll::Ready(ended.map(|error| error.map_err(Error::from))),
            Poll::Pending => {
                self.late.as_mut().poll(context).map(|()| Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
