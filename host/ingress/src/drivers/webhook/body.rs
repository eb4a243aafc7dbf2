//! Takes a request's body in, within bounds of size, memory and time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
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

/// How much of a refused body is read, and for how long.
const SKIPPED_MAX: usize = 64 << 10;
const SKIPPED_WITHIN: Duration = Duration::from_millis(500);

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
    body: &mut Incoming,
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

async fn collect(body: &mut Incoming, limits: &Limits) -> Result<(Bytes, Share), Problem> {
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

/// Takes in what is still to come of a body that was refused, if that is little: the connection can be kept, and
/// who is still sending gets to see the answer. Says whether it was all.
pub(super) async fn skip(headers: &HeaderMap, body: &mut Incoming) -> bool {
    if body.is_end_stream() {
        return true;
    }
    // Reading would tell who asks whether to send it to go on.
    if headers.contains_key(EXPECT) || body.size_hint().lower() > SKIPPED_MAX as u64 {
        return false;
    }
    let all = async {
        let mut left = SKIPPED_MAX;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    };
    tokio::time::timeout(SKIPPED_WITHIN, all).await.unwrap_or(false)
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
