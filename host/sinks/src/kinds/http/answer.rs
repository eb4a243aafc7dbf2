//! What an answer means for the message.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use reqwest::Response;
use sandbar_reading::Timestamp;

use crate::Cause;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Taken,
    Later { after: Option<Duration>, cause: Cause },
    Never { cause: Cause },
}

pub(super) fn decide(
    status: StatusCode,
    headers: &HeaderMap,
    reject: &[StatusCode],
    now: Timestamp,
) -> Answer {
    if status.is_success() {
        return Answer::Taken;
    }
    let cause = Cause::new(match status.as_u16() {
        401 | 403 => format!("{status}: check the credentials"),
        300..=399 if headers.contains_key(LOCATION) => {
            format!("{status}: not followed, set the address it names")
        }
        _ => status.to_string(),
    });
    match reject.contains(&status) {
        true => Answer::Never { cause },
        false => Answer::Later { after: retry_after(headers, now), cause },
    }
}

/// RFC 9110, section 10.2.3: seconds, or a date. How much of it is waited for is the outbox's to say.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    Some(match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
            Timestamp::from_millis(u64::try_from(until.as_millis()).ok()?).since(now)
        }
    })
}

impl Answer {
    /// Adds who answered and the beginning of what they said, and reads the answer to its end (if it is not
    /// long), so that the connection can be used again.
    pub(super) async fn explained(self, whom: &str, mut response: Response) -> Self {
        const READ_MAX: usize = 64 << 10;
        let mut body = Vec::new();
        while body.len() < READ_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
        let explain = |cause: Cause| match excerpt(&body) {
            said if said.is_empty() => Cause::new(format!("{whom}: {cause}")),
            said => Cause::new(format!("{whom}: {cause}: {said}")),
        };
        match self {
            Self::Taken => Self::Taken,
            Self::Later { after, cause } => Self::Later { after, cause: explain(cause) },
            Self::Never { cause } => Self::Never { cause: explain(cause) },
        }
    }
}

/// The first words of a body, on one line.
fn excerpt(body: &[u8]) -> String {
    const CHARS_MAX: usize = 200;
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * CHARS_MAX)]);
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn answer(status: u16, headers: &[(http::HeaderName, &str)]) -> Answer {
        let reject = [400, 413, 415, 422].map(|code| StatusCode::from_u16(code).unwrap());
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        decide(StatusCode::from_u16(status).unwrap(), &headers, &reject, NOW)
    }

    #[test]
    fn a_wrong_token_or_address_delays_and_a_bad_message_is_buried() {
        for status in [200, 201, 202, 204] {
            assert_eq!(answer(status, &[]), Answer::Taken);
        }
        for status in [301, 303, 401, 403, 404, 405, 408, 409, 410, 429, 500, 503] {
            assert!(matches!(answer(status, &[]), Answer::Later { after: None, .. }), "{status}");
        }
        for status in [400, 413, 415, 422] {
            assert!(matches!(answer(status, &[]), Answer::Never { .. }), "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (text, seconds) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("Tue, 14 Nov 2023 22:14:20 GMT", Some(60)),
            ("Tue, 14 Nov 2000 22:14:20 GMT", Some(0)),
            ("99999999999", Some(99_999_999_999)),
            ("soon", None),
            ("-1", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            match answer(503, &[(RETRY_AFTER, text)]) {
                Answer::Later { after, .. } => assert_eq!(after, expected, "{text}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(b" {\"error\":\r\n \"no\"}\n"), "{\"error\":   \"no\"}");
        assert_eq!(excerpt(&[b'x'; 5000]).len(), 200);
    }
}
