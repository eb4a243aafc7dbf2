use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use super::super::broker::testing::{broker, broker_of};
use super::super::handshake::{Link, greet};
use super::*;
use crate::contract::{StandIn, in_time};

/// Counts what is written at once.
struct Counting {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn link() -> Link {
    Link { remote: "127.0.0.1:9".parse().unwrap(), certificate: None, gateway: None }
}

#[tokio::test]
async fn what_one_commit_took_is_acknowledged_in_order_with_one_write() {
    const MESSAGES: u8 = 64;
    let host = StandIn::new();
    let broker = broker_of(Arc::clone(&host), json!({}));
    let (stream, mut far) = tokio::io::duplex(64 << 10);
    let writes = Arc::<AtomicUsize>::default();
    far.write_all(b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c").await.unwrap();
    let io = Counting { stream, writes: Arc::clone(&writes) };
    let connection = greet(&broker, Box::new(io), link()).await.unwrap();
    host.hold();
    let _running = tokio::spawn(Box::pin(connection.run()));
    for id in 1..=MESSAGES {
        far.write_all(&[0x32, 6, 0, 1, b't', 0, id, 0]).await.unwrap();
    }
    host.wait_offered(MESSAGES.into()).await;
    assert_eq!(far.read_u8().await.unwrap(), 0x20, "CONNACK");
    let length = far.read_u8().await.unwrap();
    far.read_exact(&mut vec![0; length.into()]).await.unwrap();
    writes.store(0, Ordering::Relaxed);
    host.release();
    for id in 1..=MESSAGES {
        let mut got = [0; 4];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(got, [0x40, 2, 0, id]);
    }
    assert_eq!(writes.load(Ordering::Relaxed), 1);
}

/// What it has sent beyond what may be under way is read already: nothing more comes to wake the connection.
#[tokio::test]
async fn a_commit_makes_room_for_what_is_held_back() {
    const MESSAGES: u8 = 200;
    let host = StandIn::new();
    let broker = broker_of(Arc::clone(&host), json!({ "receive_maximum": 1 }));
    let (near, mut far) = tokio::io::duplex(64 << 10);
    far.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c").await.unwrap();
    let connection = greet(&broker, Box::new(near), link()).await.unwrap();
    host.hold();
    let publishes: Vec<_> = (1..=MESSAGES).map(|id| [0x32, 5, 0, 1, b't', 0, id]).collect();
    far.write_all(&publishes.concat()).await.unwrap();
    let _running = tokio::spawn(Box::pin(connection.run()));
    host.wait_offered(1 + AHEAD).await;
    host.release();
    let mut got = [[0_u8; 4]; 1 + MESSAGES as usize];
    in_time(far.read_exact(got.as_flattened_mut())).await.unwrap();
    let acknowledged: Vec<_> = (1..=MESSAGES).map(|id| [0x40, 2, 0, id]).collect();
    assert_eq!((got[0], &got[1..]), ([0x20, 2, 0, 0], &acknowledged[..]));
}

/// It is read already then: nothing more comes to wake the connection.
#[tokio::test]
async fn what_came_while_the_client_did_not_read_is_taken_when_it_does() {
    const PINGS: usize = WRITE_AHEAD;
    let broker = broker(json!({}));
    let (from_client, mut to_broker) = tokio::io::simplex(1 << 20);
    let (mut from_broker, to_client) = tokio::io::simplex(256);
    to_broker.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c").await.unwrap();
    let io = tokio::io::join(from_client, to_client);
    let connection = greet(&broker, Box::new(io), link()).await.unwrap();
    to_broker.write_all(&[0xC0_u8, 0].repeat(PINGS)).await.unwrap();
    let _running = tokio::spawn(Box::pin(connection.run()));
    let mut got = vec![0; 4 + 2 * PINGS];
    in_time(from_broker.read_exact(&mut got)).await.unwrap();
    assert!(got[4..] == [0xD0_u8, 0].repeat(PINGS));
}

#[tokio::test]
async fn what_is_acknowledged_with_the_last_words_does_not_wait_any_more() {
    let broker = broker(json!({}));
    let (keeper, session) = (Arc::clone(&broker.keeper), broker.session.clone());
    let keeping = tokio::spawn(async move { keeper.run(&session).await });
    let (near, mut far) = tokio::io::duplex(64 << 10);
    far.write_all(b"\x10\x0d\0\x04MQTT\x04\0\0\0\0\x01c").await.unwrap();
    let connection = greet(&broker, Box::new(near), link()).await.unwrap();
    let running = tokio::spawn(Box::pin(connection.run()));
    // In a session that is kept it publishes to itself.
    far.write_all(b"\x82\x06\0\x01\0\x01t\x01\x32\x05\0\x01t\0\x02").await.unwrap();
    let mut heard = [0; 4 + 5 + 4 + 7];
    in_time(far.read_exact(&mut heard)).await.unwrap();
    assert_eq!(heard[13..], *b"\x32\x05\0\x01t\0\x01");
    assert_eq!(broker.session.kept_names("q").unwrap().len(), 1);
    far.write_all(b"\x40\x02\0\x01\xe0\0").await.unwrap();
    in_time(running).await.unwrap();
    broker.keeper.close();
    in_time(keeping).await.unwrap();
    assert_eq!(broker.session.kept_names("q").unwrap(), []);
}

/// MQTT 5.0, section 3.1.2.10. Its keep-alive is ten seconds.
#[tokio::test(start_paused = true)]
async fn who_neither_says_nor_reads_anything_is_lost() {
    let broker = broker(json!({}));
    let (near, mut far) = tokio::io::duplex(256);
    far.write_all(b"\x10\x0e\0\x04MQTT\x05\x02\0\x0a\0\0\x01c").await.unwrap();
    let connection = greet(&broker, Box::new(near), link()).await.unwrap();
    let running = tokio::spawn(Box::pin(connection.run()));
    // What it publishes it gets back, and that is more than waits to be written before reading pauses.
    far.write_all(b"\x82\x07\0\x01\0\0\x01t\0\x30\x84\x80\x08\0\x01t\0").await.unwrap();
    far.write_all(&vec![b'x'; 128 << 10]).await.unwrap();
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        far.read_exact(&mut [0; 200]).await.unwrap();
        assert!(!running.is_finished(), "it reads, if slowly");
    }
    let begun = Instant::now();
    running.await.unwrap();
    assert!((14..17).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}
