//! Takes a request's body in, within bounds of size, memory and time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use sandbar_reading::Refused;

use super::problem::Problem;
use crate::Session;

/// What all bodies that are being taken may have together.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
}

/// A body's part of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

/// A body that is copied keeps no buffer of its connection alive while it waits to be handled.
const COPIED_MAX: usize = 32 << 10;

const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Budget {
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let taken =
            self.budget.left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        if taken.is_err() {
            return Err(Problem::refused(&Refused::Busy { retry_after: RETRY_AFTER }));
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// What bounds the taking of one body.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) time: Duration,
    pub(super) budget: Arc<Budget>,
}

/// The whole body; the share is to be kept for as long as the body is.
pub(super) async fn take(
    body: Incoming,
    limits: &Limits,
    session: &Session,
) -> Result<(Bytes, Share), Problem> {
    if body.size_hint().lower() > limits.bytes as u64 {
        return Err(Problem::too_large(limits.bytes));
    }
    let mut taking = pin!(collect(body, limits));
    // Most bodies came with their head: no timer for those.
    if let std::task::Poll::Ready(body) = futures::poll!(taking.as_mut()) {
        return body;
    }
    tokio::select! {
        body = taking => body,
        () = tokio::time::sleep(limits.time) => Err(Problem::timeout()),
        () = session.stopped() => Err(Problem::refused(&Refused::Stopping)),
    }
}

async fn collect(mut body: Incoming, limits: &Limits) -> Result<(Bytes, Share), Problem> {
    let mut share = limits.budget.share();
    let mut first = Bytes::new();
    let mut whole: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::cut_off())?.into_data() else { continue };
        if data.len() > limits.bytes - share.bytes {
            return Err(Problem::too_large(limits.bytes));
        }
        share.grow(data.len())?;
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
        if body.is_end_stream() {
            break;
        }
    }
    let payload = match first.len() {
        0 => Bytes::from(whole),
        1..=COPIED_MAX => Bytes::copy_from_slice(&first),
        _ => first,
    };
    Ok((payload, share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back() {
        let budget = Budget::new(10);
        let mut share = budget.share();
        share.grow(6).unwrap();
        share.grow(4).unwrap();
        let response = budget.share().grow(1).unwrap_err().into_response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
        drop(share);
        budget.share().grow(10).unwrap();
    }
}
