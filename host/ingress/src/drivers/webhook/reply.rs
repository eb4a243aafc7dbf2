//! What is answered when a request was taken: its id, or what the handler replies.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use sandbar_reading::{ConfigError, ContentType, Message, ReadingId};

use super::config::AnswerConfig;
use super::problem::Problem;

/// Of the connection, not of the answer (RFC 9110, section 7.6.1); and what the server says itself.
const NOT_THE_HANDLERS: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-type",
    "date",
];

/// An answer that the settings give in place of the usual one.
#[derive(Debug)]
pub(super) struct Fixed {
    status: StatusCode,
    content_type: HeaderValue,
    body: Box<str>,
}

impl Fixed {
    /// Errors name the setting within the path's entry.
    pub(super) fn new(config: &AnswerConfig) -> Result<Self, ConfigError> {
        let at = |setting: &str, problem: &str| ConfigError::at(format!("answer.{setting}"), problem);
        let status = StatusCode::from_u16(config.status).ok().filter(StatusCode::is_success);
        let is_type = config.content_type.parse::<ContentType>().is_ok();
        let content_type = HeaderValue::from_str(&config.content_type).ok().filter(|_| is_type);
        Ok(Self {
            status: status.ok_or_else(|| at("status", "must be from 200 to 299"))?,
            content_type: content_type
                .ok_or_else(|| at("content_type", "must be like `application/json`"))?,
            body: config.body.as_str().into(),
        })
    }

    fn response(&self, id: Option<ReadingId>) -> Response<Full<Bytes>> {
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        let mut response = Response::new(Full::from(self.body.replace("{id}", &id)));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, self.content_type.clone());
        response
    }
}

/// `202 {"id": "…"}`, unless there is something else to say; an id that is not known is null.
pub(super) fn accepted(fixed: Option<&Fixed>, id: Option<ReadingId>) -> Response<Full<Bytes>> {
    fixed.map_or_else(|| usual(id), |fixed| fixed.response(id))
}

fn usual(id: Option<ReadingId>) -> Response<Full<Bytes>> {
    use std::fmt::Write;
    let mut body = String::with_capacity(36);
    let written = match id {
        Some(id) => write!(body, "{{\"id\":\"{id}\"}}"),
        None => write!(body, "{{\"id\":null}}"),
    };
    debug_assert!(written.is_ok(), "writing to a string");
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The handler's reply: `http.status` (default 200), `http.header.<name>`, and the payload.
pub(super) fn of_handler(id: ReadingId, message: Message) -> Result<Response<Full<Bytes>>, Problem> {
    let status = status(message.attributes.get("http.status")).map_err(|bad| Problem::bad_reply(id, bad))?;
    let has_body =
        ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    let mut response = Response::new(if has_body { Full::new(message.payload) } else { Full::default() });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if has_body && let Ok(content_type) = HeaderValue::from_str(message.content_type.as_str()) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    for (key, value) in message.attributes.iter() {
        let name = key.strip_prefix("http.header.").and_then(|name| name.parse::<HeaderName>().ok());
        // What is no header is dropped: a handler cannot break the connection.
        if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes()))
            && !NOT_THE_HANDLERS.contains(&name.as_str())
        {
            headers.append(name, value);
        }
    }
    debug_assert!(!headers.contains_key(CONTENT_LENGTH));
    Ok(response)
}

fn status(text: Option<&str>) -> Result<StatusCode, &str> {
    let Some(text) = text else { return Ok(StatusCode::OK) };
    match text.parse::<u16>() {
        Ok(number @ 200..=599) => StatusCode::from_u16(number).map_err(|_| text),
        _ => Err(text),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use sandbar_reading::Attributes;

    use super::*;

    fn reply(attributes: Attributes) -> Response<Full<Bytes>> {
        let message = Message {
            topic: "reply".parse().unwrap(),
            device: None,
            content_type: ContentType::TEXT,
            attributes,
            payload: Bytes::from_static(b"hello"),
        };
        match of_handler(ReadingId::from_u128(1), message) {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        }
    }

    #[test]
    fn a_handler_says_status_and_headers() {
        let response = reply(
            Attributes::new()
                .with("http.status", "418")
                .with("http.header.X-Any", "1")
                .with("http.header.x-any", "2")
                .with("http.header.Connection", "close")
                .with("http.header.content-length", "9000")
                .with("http.header.transfer-encoding", "chunked")
                .with("http.header.a b", "no name")
                .with("http.header.x-split", "a\r\nset-cookie: b")
                .with("other", "no header"),
        );
        expect![[r#"418 {"content-type": "text/plain", "x-any": "1", "x-any": "2"}"#]].assert_eq(&format!(
            "{} {:?}",
            response.status().as_u16(),
            response.headers()
        ));
    }

    #[test]
    fn a_status_must_be_a_final_one() {
        for bad in ["", "abc", "100", "101", "199", "600", "-1"] {
            assert_eq!(reply(Attributes::new().with("http.status", bad)).status().as_u16(), 502, "{bad}");
        }
        assert_eq!(reply(Attributes::new()).status().as_u16(), 200);
        let empty = reply(Attributes::new().with("http.status", "204"));
        assert!(!empty.headers().contains_key(CONTENT_TYPE));
    }

    #[test]
    fn the_settings_may_say_something_else() {
        let config = |text: &str| toml::from_str::<AnswerConfig>(text).unwrap();
        let fixed = Fixed::new(&config("body = \"OK {id}\"\ncontent_type = \"text/plain\"")).unwrap();
        let answer = accepted(Some(&fixed), Some(ReadingId::from_u128(1)));
        assert_eq!(
            (answer.status(), &answer.headers()[CONTENT_TYPE]),
            (StatusCode::OK, &"text/plain".parse().unwrap())
        );
        assert!(format!("{:?}", answer.into_body()).contains("OK 00000000000000000000000001"));
        for (text, at) in
            [("body = \"\"\nstatus = 404", "status"), ("body = \"\"\ncontent_type = \"x\"", "content_type")]
        {
            assert_eq!(Fixed::new(&config(text)).unwrap_err().setting, format!("answer.{at}"));
        }
    }

    #[test]
    fn an_id_is_given_as_json() {
        let body = |id| format!("{:?}", accepted(None, id).into_body());
        assert!(body(Some(ReadingId::from_u128(1))).contains(r#"{\"id\":\"00000000000000000000000001\"}"#));
        assert!(body(None).contains(r#"{\"id\":null}"#));
    }
}
