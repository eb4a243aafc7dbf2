use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::client::{Client, text};
use super::{Bench, start};
use crate::contract::{StandIn, in_time};

const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c";

async fn bench(anonymous: Option<bool>) -> Bench {
    let listener = json!({ "listen": "127.0.0.1:0", "protocol": "websocket" });
    start(json!({ "listeners": [listener], "anonymous": anonymous }), StandIn::new()).await
}

async fn open(address: SocketAddr, origin: Option<&str>) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://{address}/mqtt").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().unwrap());
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    client_async(request, stream).await.unwrap().0
}

async fn said(socket: &mut WebSocketStream<TcpStream>, packet: Vec<u8>) -> Vec<u8> {
    socket.send(Frame::Binary(packet.into())).await.unwrap();
    match in_time(socket.next()).await {
        Some(Ok(Frame::Binary(answer))) => answer.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_page_of_elsewhere_is_not_of_this_machine() {
    let (page, own) = (Some("https://example.org"), Some("http://localhost:3000"));
    for (anonymous, origin, code) in
        [(None, None, 0), (None, own, 0), (None, page, 5), (None, Some("null"), 5), (Some(true), page, 0)]
    {
        let bench = bench(anonymous).await;
        let mut socket = open(bench.address, origin).await;
        assert_eq!(said(&mut socket, CONNECT.to_vec()).await, [0x20, 2, 0, code], "{anonymous:?} {origin:?}");
    }
}

#[tokio::test]
async fn only_who_is_known_has_large_messages_gathered() {
    let bench = bench(None).await;
    let mut known = open(bench.address, None).await;
    assert_eq!(said(&mut known, CONNECT.to_vec()).await, [0x20, 2, 0, 0]);
    let publish = [&text("t")[..], &[0, 7], &[b'x'; 220 << 10]].concat();
    assert_eq!(said(&mut known, Client::packet(0x32, &publish)).await, [0x40, 2, 0, 7]);
    let mut stranger = open(bench.address, None).await;
    // A frame (RFC 6455, section 5.2) of 300 KiB, that does not come to its end.
    let head = [&[0x82, 0xff][..], &(300_u64 << 10).to_be_bytes(), &[0; 4]].concat();
    let stream = stranger.get_mut();
    stream.write_all(&head).await.unwrap();
    // The broker may have hung up before all is written.
    drop(stream.write_all(&[0x10; 200 << 10]).await);
    let ended = timeout(Duration::from_secs(5), stream.read(&mut [0; 9])).await.expect("it is listened to");
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
}
