use std::net::SocketAddr;

use sandbar_api::{Token, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Host, TOKEN};

async fn listen(host: &Host) -> (SocketAddr, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = serve(listener, host.control.clone(), Token::new(TOKEN), host.stop.clone());
    (address, tokio::spawn(serving))
}

/// All that comes until the connection ends.
async fn exchange(address: SocketAddr, text: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end too.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn answers_over_a_socket_and_returns_when_it_is_stopped() {
    let host = Host::start().await;
    let (address, serving) = listen(&host).await;
    let answer = exchange(address, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    // Prior knowledge of HTTP/2: its settings come back.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "SETTINGS");
    host.stop.cancel();
    serving.await.unwrap().unwrap();
    host.end().await;
}

#[tokio::test]
async fn a_refusal_that_does_not_wait_for_the_body_ends_the_connection() {
    let host = Host::start().await;
    let (address, serving) = listen(&host).await;
    // What follows of the body looks like a request, and must not be answered as one.
    let request = b"PUT /v1/modules/m HTTP/1.1\r\nhost: x\r\ncontent-length: 400\r\n\r\n\
                    GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = exchange(address, request).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close"), "{answer}");
    assert!(!answer.contains("200 OK"), "{answer}");
    host.stop.cancel();
    serving.await.unwrap().unwrap();
    host.end().await;
}

#[tokio::test]
async fn a_tail_over_a_socket_does_not_hold_the_stop_up() {
    let host = Host::start().await;
    let (address, serving) = listen(&host).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /v1/tail HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    host.stop.cancel();
    serving.await.unwrap().unwrap();
    host.end().await;
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_request_is_dropped() {
    let host = Host::start().await;
    let (address, serving) = listen(&host).await;
    tokio::time::pause();
    // Time passes by itself here while everybody waits.
    for beginning in [&b""[..], b"P", b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a"] {
        let answer = exchange(address, beginning).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    // After one answer the next request must begin in time, too.
    let answer = exchange(address, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    tokio::time::resume();
    host.stop.cancel();
    serving.await.unwrap().unwrap();
    host.end().await;
}
