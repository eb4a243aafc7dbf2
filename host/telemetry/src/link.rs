//! One request to the collector, and what follows from its answer.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use sandbar_reading::with_causes;

use crate::proto;

/// What a collector made of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All but so many.
    Taken { rejected: u64 },
    /// It is not there, or busy: the same may be sent again.
    Later { after: Option<Duration>, cause: String },
    /// It will never take it.
    Refused { cause: String },
}

pub(crate) async fn send(client: &Client, url: &Url, body: Bytes) -> Answer {
    let request = client.post(url.clone()).header(CONTENT_TYPE, "application/x-protobuf").body(body);
    match request.send().await {
        Ok(answer) => {
            let (status, after) = (answer.status(), retry_after(&answer));
            let body = answer.bytes().await.unwrap_or_default();
            judge(status, after, body)
        }
        Err(error) => Answer::Later { after: None, cause: with_causes(&error) },
    }
}

/// As the protocol has it: these four are tried again, and no others.
fn judge(status: StatusCode, after: Option<Duration>, body: Bytes) -> Answer {
    match status.as_u16() {
        200..300 => {
            let answer = proto::Answer::decode(body).unwrap_or_default();
            let rejected = answer.partial_success.map_or(0, |partial| partial.rejected);
            Answer::Taken { rejected: u64::try_from(rejected).unwrap_or(0) }
        }
        429 | 502 | 503 | 504 => Answer::Later { after, cause: status.to_string() },
        _ => Answer::Refused { cause: status.to_string() },
    }
}

fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_busy_collector_is_asked_again() {
        let judged = |status: u16| judge(StatusCode::from_u16(status).unwrap(), None, Bytes::new());
        assert_eq!(judged(200), Answer::Taken { rejected: 0 });
        assert!(matches!(judged(503), Answer::Later { .. }));
        assert!(matches!(judged(429), Answer::Later { .. }));
        for status in [301, 400, 401, 404, 500] {
            assert!(matches!(judged(status), Answer::Refused { .. }), "{status}");
        }
    }

    #[test]
    fn what_is_taken_in_part_is_counted_so() {
        let partial = proto::PartialSuccess { rejected: 3, error_message: "too old".to_owned() };
        let body = proto::Answer { partial_success: Some(partial) }.encode_to_vec().into();
        assert_eq!(judge(StatusCode::OK, None, body), Answer::Taken { rejected: 3 });
    }
}
