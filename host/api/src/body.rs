//! Request bodies: bounded in bytes and in time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::views::{Code, Problem};

/// The largest JSON body, but for a reading's payload.
pub(crate) const JSON_MAX: usize = 1 << 20;

/// Nothing may pause for longer.
const PAUSE_MAX: Duration = Duration::from_secs(20);
/// What every client can reach: 64 MiB take about 17 minutes at this rate.
const BYTES_PER_SECOND_MIN: usize = 64 << 10;

/// The whole body. One that is announced to be too large is refused before any of it is read.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Code::TooLarge, format!("the body may have {limit} bytes"));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|announced: u64| announced > limit as u64) {
        return Err(too_large());
    }
    refuse_encoded(headers)?;
    let begun = Instant::now();
    let mut body = body;
    let mut whole = BytesMut::new();
    loop {
        let allowed = PAUSE_MAX + Duration::from_secs((whole.len() / BYTES_PER_SECOND_MIN) as u64);
        let deadline = (begun + allowed).min(Instant::now() + PAUSE_MAX);
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(Problem::new(Code::Timeout, "the body came too slowly")),
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(Err(error))) => return Err(Problem::new(Code::InvalidBody, error.to_string())),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Some(data) = frame.data_ref() {
            if data.len() > limit - whole.len() {
                return Err(too_large());
            }
            whole.extend_from_slice(data);
        }
    }
}

fn refuse_encoded(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(Problem::new(Code::UnsupportedMediaType, "a body with a Content-Encoding is not understood"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    async fn code(headers: HeaderMap, body: Body, limit: usize) -> Option<Code> {
        read(&headers, body, limit).await.err().map(|problem| problem.code)
    }

    #[tokio::test]
    async fn what_is_announced_or_turns_out_too_large_is_refused() {
        let announced = HeaderMap::from_iter([(header::CONTENT_LENGTH, "11".parse().unwrap())]);
        let never = || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(code(announced, never(), 10).await, Some(Code::TooLarge));
        let endless = Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>("abc")));
        assert_eq!(code(HeaderMap::new(), endless, 10).await, Some(Code::TooLarge));
        assert_eq!(code(HeaderMap::new(), Body::from("0123456789"), 10).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_runs_into_the_time_out() {
        let drip = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("x")).then(async |byte| {
            tokio::time::sleep(PAUSE_MAX / 4).await;
            byte
        });
        assert_eq!(code(HeaderMap::new(), Body::from_stream(drip), 1000).await, Some(Code::Timeout));
        let stalled = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(code(HeaderMap::new(), stalled, 1000).await, Some(Code::Timeout));
    }

    #[tokio::test]
    async fn a_compressed_body_is_not_taken_for_json() {
        let encoded = HeaderMap::from_iter([(header::CONTENT_ENCODING, "gzip".parse().unwrap())]);
        assert_eq!(code(encoded, Body::from("x"), 10).await, Some(Code::UnsupportedMediaType));
    }
}
