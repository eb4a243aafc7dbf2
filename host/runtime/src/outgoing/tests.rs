//! Against a server on loopback.

use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wasmtime_wasi_http::{Error, RequestOptions};

use super::{HttpAccess, HttpPermission};

/// Answers every request with `answer` and leaves the connection open; the port.
async fn server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    port
}

fn access(url: &str, addresses: &[&str], at_once: usize) -> HttpAccess {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let permission = HttpPermission::parse(url, &[], &addresses).unwrap();
    HttpAccess::new(vec![permission], at_once, Duration::from_millis(200), 1 << 20)
}

async fn ask(access: &HttpAccess, method: &str, url: &str) -> Result<(u16, Vec<u8>), Error> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::builder().method(method).uri(url).header("host", "x").body(body).unwrap();
    let (answer, rest) =
        access.send(request, RequestOptions::default()).await.map_err(|failed| failed.error)?;
    let rest = tokio::spawn(Box::into_pin(rest));
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    rest.abort();
    Ok((status, body.to_vec()))
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_permitted_request_is_sent() {
    let port = server(HELLO).await;
    let url = format!("http://localhost:{port}/a");
    let access = access(&url, &["127.0.0.0/8", "::1"], 1);
    assert_eq!(ask(&access, "GET", &url).await.unwrap(), (200, b"hello".to_vec()));
    // The first one has made room.
    assert_eq!(ask(&access, "POST", &url).await.unwrap().0, 200);
    let trial = access.for_trial();
    assert!(matches!(ask(&trial, "POST", &url).await, Err(Error::HttpRequestDenied)));
    assert_eq!(ask(&trial, "GET", &url).await.unwrap().0, 200);
}

#[tokio::test]
async fn what_is_not_permitted_is_not_sent() {
    let port = server(HELLO).await;
    let nothing = HttpAccess::default();
    let url = format!("http://127.0.0.1:{port}/a");
    assert!(matches!(ask(&nothing, "GET", &url).await, Err(Error::HttpRequestDenied)));
    let other = access(&format!("http://127.0.0.1:{port}/b"), &[], 1);
    assert!(matches!(ask(&other, "GET", &url).await, Err(Error::HttpRequestDenied)));
}

/// A permitted name may stand for any address, also for another one than a moment ago.
#[tokio::test]
async fn a_name_that_stands_for_this_machine_does_not_reach_it() {
    let port = server(HELLO).await;
    let url = format!("http://localhost:{port}/");
    let error = ask(&access(&url, &[], 1), "GET", &url).await.unwrap_err();
    assert!(matches!(error, Error::DestinationIpProhibited), "{error}");
}

/// The first that covered a request was the only one whose addresses counted.
#[tokio::test]
async fn an_address_is_reached_that_one_of_the_permissions_names() {
    let port = server(HELLO).await;
    let url = format!("http://localhost:{port}/a");
    let parse = |url: &str, addresses: &[String]| HttpPermission::parse(url, &[], addresses).unwrap();
    let loopback = ["127.0.0.0/8".to_owned(), "::1".to_owned()];
    let permissions = vec![parse(&url, &[]), parse(&format!("http://localhost:{port}/"), &loopback)];
    let access = HttpAccess::new(permissions, 1, Duration::from_millis(200), 1 << 20);
    assert_eq!(ask(&access, "GET", &url).await.unwrap().0, 200);
}

#[tokio::test]
async fn slow_answers_and_too_many_requests_are_errors() {
    let port = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await;
    let url = format!("http://127.0.0.1:{port}/");
    let error = ask(&access(&url, &[], 1), "GET", &url).await.unwrap_err();
    assert!(matches!(error, Error::ConnectionReadTimeout), "{error}");
    let silent = server("").await;
    let url = format!("http://127.0.0.1:{silent}/");
    let error = ask(&access(&url, &[], 1), "GET", &url).await.unwrap_err();
    assert!(matches!(error, Error::ConnectionReadTimeout), "{error}");
    let error = ask(&access(&url, &[], 0), "GET", &url).await.unwrap_err();
    assert!(matches!(error, Error::ConnectionLimitReached), "{error}");
}
