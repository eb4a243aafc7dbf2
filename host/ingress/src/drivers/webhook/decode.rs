//! A request to an inbound. Pure.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use sandbar_reading::{Attributes, ContentType, Inbound};

use super::paths::Path;
use super::problem::Problem;
use crate::pattern::{Values, percent_decode};
use crate::requester::text;
use crate::trace;

/// What the request says its body is; without a word, octets.
pub(super) fn content_type(headers: &HeaderMap, path: &Path) -> Result<ContentType, Problem> {
    let content_type = match headers.get(CONTENT_TYPE) {
        None => ContentType::OCTETS,
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Problem::content_type(&path.content_types))?,
    };
    let taken = &path.content_types;
    match taken.is_empty() || taken.iter().any(|range| content_type.is_in(range)) {
        true => Ok(content_type),
        false => Err(Problem::content_type(taken)),
    }
}

/// `peer` is the sender's address.
pub(super) fn decode(
    path: &Path,
    values: &Values<'_>,
    parts: &Parts,
    peer: &str,
    content_type: ContentType,
    payload: Bytes,
) -> Result<Inbound, Problem> {
    let device = path.device(parts, values, peer, &payload)?;
    let topic = path.topic(parts, values, device.as_deref())?;
    let attributes = attributes(path, values, parts, peer)?;
    Ok(Inbound { device, attributes, ..Inbound::new(topic, content_type, payload) })
}

fn attributes(path: &Path, values: &Values<'_>, parts: &Parts, peer: &str) -> Result<Attributes, Problem> {
    let mut attributes = Attributes::new();
    attributes.add("http.method", parts.method.as_str());
    attributes.add("http.path", parts.uri.path());
    attributes.add("peer", peer);
    trace::follow(&mut attributes, |name| parts.headers.get(name)?.to_str().ok());
    for (name, value) in path.segments.iter().zip(values) {
        attributes.add(name.clone(), &**value);
    }
    for (header, name) in &path.headers {
        for value in parts.headers.get_all(header) {
            attributes.add(name.clone(), text(value));
        }
    }
    if !path.query.is_empty() {
        for pair in parts.uri.query().unwrap_or_default().split('&') {
            let (parameter, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(parameter) = percent_decode(parameter, true) else { continue };
            if let Some((_, name)) = path.query.iter().find(|(wanted, _)| **wanted == *parameter) {
                let value = percent_decode(value, true).ok_or_else(|| Problem::bad_query(&parameter))?;
                attributes.add(name.clone(), value);
            }
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use http::{HeaderValue, Method, Request};
    use proptest::prelude::*;

    use super::super::paths::find;
    use super::*;

    fn path(settings: serde_json::Value) -> Path {
        Path::new(&sandbar_reading::settings(settings).unwrap()).unwrap()
    }

    fn decoded(paths: &[Path], request: Request<&'static [u8]>) -> Result<Inbound, Problem> {
        let (parts, body) = request.into_parts();
        let (path, values) = find(paths, &parts.method, parts.uri.path())?;
        let content_type = content_type(&parts.headers, path)?;
        decode(path, &values, &parts, "127.0.0.1:5000", content_type, Bytes::from_static(body))
    }

    fn check(settings: serde_json::Value, request: http::request::Builder, expected: &Expect) {
        let request = request.body(&b"{ \"t\" : 1 }"[..]).unwrap();
        let text = match decoded(&[path(settings)], request) {
            Ok(inbound) => {
                let attributes: Vec<_> = inbound.attributes.iter().collect();
                format!("{} {:?} {} {attributes:?}", inbound.topic, inbound.device, inbound.content_type)
            }
            Err(problem) => format!("{problem:?}"),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn a_path_alone_is_the_topic() {
        check(
            serde_json::json!({ "path": "/hooks/{device}" }),
            Request::post("/hooks/boiler%201?x=1"),
            &expect![[
                r#"hooks/boiler 1 Some("boiler 1") application/octet-stream [("http.method", "POST"), ("http.path", "/hooks/boiler%201"), ("peer", "127.0.0.1:5000"), ("http.path.device", "boiler 1")]"#
            ]],
        );
    }

    #[test]
    fn headers_and_parameters_are_attributes_where_asked_for() {
        check(
            serde_json::json!({
                "path": "/in/{*rest}", "topic": "sensors/{rest}", "device": "fixed",
                "headers": ["X-Shop"], "query": ["unit", "n"],
            }),
            Request::put("/in/a/b?unit=%C2%B0C+x&other=%FF&n&n=2")
                .header("x-shop", "s1")
                .header("x-shop", "s2")
                .header("x-other", "no")
                .header("content-type", "application/json; charset=utf-8"),
            &expect![[
                r#"sensors/a/b Some("fixed") application/json; charset=utf-8 [("http.method", "PUT"), ("http.path", "/in/a/b"), ("peer", "127.0.0.1:5000"), ("http.path.rest", "a/b"), ("http.header.x-shop", "s1"), ("http.header.x-shop", "s2"), ("http.query.unit", "°C x"), ("http.query.n", ""), ("http.query.n", "2")]"#
            ]],
        );
    }

    #[test]
    fn the_device_is_named_by_body_header_query_path_or_address() {
        let named = serde_json::json!({
            "path": "/in", "topic": "in/{device}", "device": "{ip}", "device_header": "X-Device",
            "device_query": "dev", "device_pointer": "/id",
        });
        for (uri, header, body, wanted) in [
            ("/in", None, "1", "127.0.0.1"),
            ("/in?dev=q", None, "1", "q"),
            ("/in?dev=q", Some("h"), "{}", "h"),
            ("/in?dev=q", Some("h"), r#"{"id":7}"#, "7"),
        ] {
            let request =
                header.map_or(Request::post(uri), |header| Request::post(uri).header("x-device", header));
            let inbound = decoded(&[path(named.clone())], request.body(body.as_bytes()).unwrap()).unwrap();
            let topic = format!("in/{wanted}");
            assert_eq!((inbound.device.as_deref(), inbound.topic.as_str()), (Some(wanted), &*topic));
        }
        let in_body = path(serde_json::json!({ "path": "/in", "device_pointer": "/id" }));
        let problem = decoded(&[in_body], Request::post("/in").body(&b"{}"[..]).unwrap()).unwrap_err();
        assert_eq!(problem.into_response().status(), 422);
        let by_header = path(serde_json::json!({ "path": "/in", "device_header": "X-Device" }));
        let long = Request::post("/in").header("x-device", "x".repeat(300)).body(&b""[..]).unwrap();
        assert_eq!(decoded(&[by_header], long).unwrap_err().into_response().status(), 400);
    }

    #[test]
    fn a_trace_goes_on() {
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let request = Request::post("/a").header("TraceParent", given).header("tracestate", "a=b");
        let inbound = decoded(&[path(serde_json::json!({ "path": "/a" }))], request.body(&b""[..]).unwrap());
        let attributes = inbound.unwrap().attributes;
        assert_eq!((attributes.get("traceparent"), attributes.get("tracestate")), (Some(given), Some("a=b")));
    }

    #[test]
    fn refuses_what_gives_no_reading() {
        let code = |settings, request: http::request::Builder| {
            let problem = decoded(&[path(settings)], request.body(&b""[..]).unwrap()).unwrap_err();
            let response = problem.into_response();
            (response.status().as_u16(), response.headers().get("allow").cloned())
        };
        let hook =
            || serde_json::json!({ "path": "/{device}", "query": ["q"], "content_types": ["image/*"] });
        let image = |request: http::request::Builder| request.header("content-type", "image/png");
        assert_eq!(code(hook(), image(Request::post("/a%2Bb"))).0, 400);
        assert_eq!(code(hook(), image(Request::post("/a%2Fb"))).0, 400);
        assert_eq!(code(hook(), image(Request::post("/a?q=%FF"))).0, 400);
        assert_eq!(code(hook(), Request::post("/a")).0, 415);
        assert_eq!(code(hook(), Request::post("/a").header("content-type", "image")).0, 415);
        assert_eq!(code(hook(), image(Request::post("/a/b"))), (404, None));
        let (status, allow) = code(hook(), image(Request::get("/a")));
        assert_eq!((status, allow.unwrap().to_str().unwrap()), (405, "POST, PUT"));
    }

    #[test]
    fn the_first_path_that_takes_the_method_gets_the_request() {
        let paths = [
            path(serde_json::json!({ "path": "/a", "methods": ["PUT"], "topic": "put" })),
            path(serde_json::json!({ "path": "/{x}", "methods": ["POST"], "topic": "post" })),
        ];
        let topic = |method: Method| {
            let request = Request::builder().method(method).uri("/a").body(&b""[..]).unwrap();
            decoded(&paths, request).unwrap().topic.to_string()
        };
        assert_eq!((topic(Method::PUT), topic(Method::POST)), ("put".to_owned(), "post".to_owned()));
        let problem = find(&paths, &Method::GET, "/a").err().unwrap().into_response();
        assert_eq!(problem.headers()["allow"], "PUT, POST");
    }

    proptest! {
        /// Whatever hyper lets through gives an inbound or a problem, and the payload is untouched.
        #[test]
        fn garbage_is_decoded_or_refused(target in "/[!-~&&[^#]]{0,40}", value: Vec<u8>, body: Vec<u8>) {
            let paths = [path(serde_json::json!({
                "path": "/{device}", "headers": ["x-any"], "query": ["q"],
            })), path(serde_json::json!({ "path": "/{device}/{*rest}", "topic": "t/{rest}" }))];
            let mut request = Request::post(target);
            for name in ["x-any", "content-type"] {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    request = request.header(name, value);
                }
            }
            let Ok(request) = request.body(()) else { return Ok(()) };
            let (parts, ()) = request.into_parts();
            let Ok((path, values)) = find(&paths, &parts.method, parts.uri.path()) else { return Ok(()) };
            let Ok(content_type) = content_type(&parts.headers, path) else { return Ok(()) };
            let payload = Bytes::from(body);
            if let Ok(inbound) = decode(path, &values, &parts, "peer", content_type, payload.clone()) {
                prop_assert_eq!(inbound.payload, payload);
            }
        }
    }
}
