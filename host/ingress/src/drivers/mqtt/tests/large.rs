use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::super::broker::testing::broker;
use super::super::codec::Qos;
use super::super::handshake::{Link, greet};
use super::super::message::Entry;
use super::super::outgoing::tests::entry;
use super::bench;
use super::client::{Client, Hello};
use crate::contract::in_time;

const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01";

fn link() -> Link {
    Link { remote: "127.0.0.1:9".parse().unwrap(), certificate: None, gateway: None }
}

/// Has said how large a packet will be, and no more.
async fn announcing(address: SocketAddr, id: u8, size: usize) -> TcpStream {
    let mut link = Client::link(address).await;
    link.write_all(&[CONNECT, &[id]].concat()).await.unwrap();
    link.read_exact(&mut [0; 4]).await.unwrap();
    let head = [0, 7, 14, 21].map(|shift| (size >> shift) as u8 & 0x7f | if shift < 21 { 0x80 } else { 0 });
    link.write_all(&[&[0x32][..], &head].concat()).await.unwrap();
    link
}

/// Two may be as large as packets can be.
#[tokio::test]
async fn large_packets_are_gathered_only_as_far_as_there_is_room_for_all_of_them() {
    const LARGEST: usize = 20 << 20;
    let bench = bench(json!({ "packet_max": LARGEST })).await;
    let mut small = Client::connect(bench.address, Hello::five("small")).await;
    let mut large = Client::connect(bench.address, Hello::five("large")).await;
    let first = announcing(bench.address, b'a', LARGEST - (64 << 10)).await;
    let _second = announcing(bench.address, b'b', LARGEST - (64 << 10)).await;
    small.expect_nothing().await;
    sleep(Duration::from_millis(50)).await;
    let large = tokio::spawn(async move {
        large.publish(1, 1, "t", &[b'x'; 150 << 10]).await;
        large.hear().await
    });
    sleep(Duration::from_millis(200)).await;
    assert!(!large.is_finished(), "it waits");
    small.publish(1, 1, "t", b"x").await;
    assert_eq!(small.hear().await.0, 0x40);
    drop(first);
    assert_eq!(in_time(large).await.unwrap(), (0x40, vec![0, 1]));
}

/// Sends `each_second` bytes of a packet of 250 KiB; whether it is ended, and after how many seconds.
async fn sending(each_second: usize) -> (bool, u64) {
    let broker = broker(json!({}));
    let (near, mut far) = tokio::io::duplex(1024);
    far.write_all(&[CONNECT, b"c"].concat()).await.unwrap();
    let connection = greet(&broker, Box::new(near), link()).await.unwrap();
    let running = tokio::spawn(Box::pin(connection.run()));
    far.write_all(b"\x32\x80\xD0\x0F\0\x01t\0\x01").await.unwrap();
    let (begun, mut left) = (Instant::now(), (250 << 10) - 5);
    while left > 0 && !running.is_finished() {
        // The broker may have hung up, which is seen then.
        let _ = far.write_all(&b"x".repeat(each_second.min(left))).await;
        left -= each_second.min(left);
        sleep(Duration::from_secs(1)).await;
    }
    (running.is_finished(), begun.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn who_announces_a_large_packet_and_does_not_go_on_with_it_is_ended() {
    for (each_second, is_ended, after) in
        [(0, true, 30..33), (3 << 10, true, 36..40), (7 << 10, false, 35..37)]
    {
        let (ended, seconds) = sending(each_second).await;
        assert!(ended == is_ended && after.contains(&seconds), "{each_second}: {ended} after {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_keeps_the_room_for_large_packets_no_longer_than_others() {
    let broker = broker(json!({}));
    let (near, mut far) = tokio::io::duplex(1024);
    far.write_all(&[CONNECT, b"c"].concat()).await.unwrap();
    let connection = greet(&broker, Box::new(near), link()).await.unwrap();
    let client = Arc::clone(&connection.hold.client);
    let running = tokio::spawn(Box::pin(connection.run()));
    far.write_all(b"\x32\x80\xD0\x0F").await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let mut message = Arc::into_inner(entry(0, Qos::AtMostOnce).message).unwrap();
    message.payload = vec![b'x'; 128 << 10].into();
    assert!(client.push(Entry { message: Arc::new(message), ..entry(0, Qos::AtMostOnce) }).is_ok());
    let begun = Instant::now();
    timeout(Duration::from_secs(600), running).await.unwrap().unwrap();
    assert!((29..33).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}
