//! For those who throw garbage at the server: `tests/fuzz`.

use bytes::Bytes;
use http::Request;
use serde_json::json;

use super::decode::{content_type, decode};
use super::paths::{Path, find};

/// Method and target, headers, and behind an empty line the body: what hyper makes of a request, in lines.
pub(crate) const REQUESTS: &[&[u8]] = &[
    b"POST /hooks/boiler%201?unit=%C2%B0C+x&n\ncontent-type:application/json; charset=utf-8\nx-any:s\nx-any:\xe9\n\
      traceparent:00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\ntracestate:a=b\n\n{\"t\":1}",
    b"PUT /a/b/c%20d?unit\ncontent-type:text/plain\n\n21.5",
    b"POST /left/alone\n\n\0\xff",
];

/// Whether it gives an inbound.
pub(crate) fn decodes(bytes: &[u8]) -> bool {
    let paths = [
        json!({ "path": "/hooks/{device}", "headers": ["x-any"], "query": ["unit"], "content_types": ["application/*"] }),
        json!({ "path": "/a/{device}/{*rest}", "topic": "t/{rest}", "methods": ["PUT"], "query": ["unit"] }),
        json!({ "path": "/{*rest}" }),
    ]
    .map(|settings| {
        Path::new(&sandbar_reading::settings(settings).expect("settings that can be read"))
            .expect("settings that work")
    });
    request(bytes).is_some_and(|request| {
        let (parts, body) = request.into_parts();
        let Ok((path, values)) = find(&paths, &parts.method, parts.uri.path()) else { return false };
        let Ok(content_type) = content_type(&parts.headers, path) else { return false };
        match decode(path, &values, &parts, "127.0.0.1:5000", content_type, body.clone()) {
            Ok(inbound) => {
                assert_eq!(inbound.payload, body, "as it came");
                true
            }
            Err(_) => false,
        }
    })
}

/// What is none, hyper answers itself.
fn request(bytes: &[u8]) -> Option<Request<Bytes>> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n")?;
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let (method, target) = cut(lines.next()?, b' ')?;
    let mut request = Request::builder().method(method).uri(target);
    for line in lines {
        let (name, value) = cut(line, b':')?;
        request = request.header(name, value);
    }
    request.body(Bytes::copy_from_slice(&bytes[end + 2..])).ok()
}

fn cut(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = line.iter().position(|byte| *byte == at)?;
    Some((&line[..position], &line[position + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_garbage_is_made_from_is_none() {
        assert_eq!(REQUESTS.iter().filter(|request| decodes(request)).count(), REQUESTS.len());
    }
}
