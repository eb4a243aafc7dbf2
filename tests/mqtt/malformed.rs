//! Malformed packets of every type and both versions: the host stays up, and other clients feel nothing.
//!
//! `SANDBAR_MALFORMED` says how many of each type (100 in CI; `make fuzz` sends 10,000).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_ingress::decoders::{DECODERS, Decoder};
use sandbar_mqtt_client::codec::{Ack, AckKind, Filter, Subscribe};
use sandbar_mqtt_client::{Link, Packet, Publish, Qos, Session};
use sandbar_tests::mutate::mutate;
use sandbar_tests::publisher::{KEPT, broker};
use sandbar_tests::seed::{Random, seed};
use sandbar_tests::targets::packets::{PIECES, TYPES, by_type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const AT_ONCE: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_packets_leave_the_host_up_and_others_untouched() -> Result<()> {
    let count = std::env::var("SANDBAR_MALFORMED")
        .map_or(100, |text| text.parse().expect("SANDBAR_MALFORMED is a number"));
    let seed = seed();
    let folder = tempfile::tempdir()?;
    let configuration = "[ingress.mqtt]\ndriver = \"mqtt\"\nlisten = \"127.0.0.1:0\"\n";
    let mut host = crate::host(folder.path(), configuration).await?;
    let address = host.ingress("mqtt").await?;
    let port: u16 = address.rsplit(':').next().context("no port")?.parse()?;
    let mut others =
        [Other::connect(port, "three", "3.1.1").await?, Other::connect(port, "five", "5").await?];
    for (name, connect) in [
        ("mqtt 3.1.1", &b"\x10\x11\0\x04MQTT\x04\x02\0\x3c\0\x05noise"[..]),
        ("mqtt 5.0", b"\x10\x12\0\x04MQTT\x05\x02\0\x3c\0\0\x05noise"),
    ] {
        let decoder = DECODERS.iter().find(|decoder| decoder.name == name).context("no such decoder")?;
        for (kind, packets) in by_type(decoder.seeds) {
            let mut random = Random::new(seed ^ u64::from(kind));
            throw(port, connect, count, || malformed(&mut random, decoder, &packets)).await?;
            for other in &mut others {
                other
                    .is_well()
                    .await
                    .with_context(|| format!("after {name} {}", TYPES[usize::from(kind)]))?;
            }
        }
        println!("{name}: {count} malformed packets of each type");
    }
    ensure!(host.is_running(), "the host is gone:\n{}", host.stderr());
    ensure!(!host.stderr().contains("panicked"), "{}", host.stderr());
    Ok(())
}

/// A packet that the decoder refuses, or that never ends.
fn malformed(random: &mut Random, decoder: &Decoder, packets: &[&'static [u8]]) -> Vec<u8> {
    loop {
        let packet = random.one_of(packets);
        let mut bytes = mutate(random, packet, PIECES);
        // Of its type it stays; what is behind its type is anybody's.
        match bytes.first_mut() {
            Some(first) => *first = packet[0] & 0xf0 | *first & 0x0f,
            None => continue,
        }
        if !(decoder.decode)(&bytes) {
            return bytes;
        }
    }
}

/// Each over a connection of its own.
async fn throw(port: u16, connect: &[u8], count: usize, mut make: impl FnMut() -> Vec<u8>) -> Result<()> {
    let room = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let permit = Arc::clone(&room).acquire_owned().await?;
        let bytes = make();
        let is_connect = bytes[0] >> 4 == 1;
        let whole = if is_connect { bytes } else { [connect, &bytes].concat() };
        tasks.spawn(async move {
            let _permit = permit;
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            // The broker may have hung up before all is written.
            drop(stream.write_all(&whole).await);
            drop(stream.shutdown().await);
            let mut heard = Vec::new();
            let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut heard)).await;
            ensure!(
                ended.is_ok(),
                "the broker keeps a connection whose client has said its last: {whole:x?}"
            );
            Ok(())
        });
        while let Some(done) = tasks.try_join_next() {
            done??;
        }
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// A client that is connected all the time.
struct Other {
    link: Link,
    topic: String,
    sent: u16,
}

impl Other {
    async fn connect(port: u16, name: &str, version: &str) -> Result<Self> {
        let session = Session { clean_start: true, expiry_s: 0, ..KEPT };
        let (mut link, _) = Link::open(&broker(port, name, version), session).await?;
        // Nothing that garbage may publish to.
        let topic = format!("others/{name}");
        let filters = vec![Filter::new(topic.as_str(), Qos::AtLeastOnce)];
        link.send(&Packet::Subscribe(Subscribe { packet_id: 60_000, filters }));
        let Packet::SubAck(_) = link.next().await? else { anyhow::bail!("no SUBACK") };
        Ok(Self { link, topic, sent: 0 })
    }

    /// What it publishes comes back, over the connection that it had from the beginning.
    async fn is_well(&mut self) -> Result<()> {
        self.sent += 1;
        self.link.send(&Packet::Publish(Publish {
            qos: Qos::AtLeastOnce,
            topic: self.topic.as_str().into(),
            packet_id: self.sent,
            payload: self.sent.to_string().into(),
            ..Publish::default()
        }));
        let (mut acknowledged, mut came) = (false, false);
        while !(acknowledged && came) {
            let next = tokio::time::timeout(Duration::from_secs(60), self.link.next()).await;
            match next.context("nothing comes")?? {
                Packet::Ack(Ack { kind: AckKind::PubAck, packet_id, .. }) => {
                    acknowledged = packet_id == self.sent;
                }
                Packet::Publish(publish) => {
                    came = publish.payload == self.sent.to_string().as_bytes();
                    self.link.send(&Packet::Ack(Ack::new(AckKind::PubAck, publish.packet_id)));
                }
                other => anyhow::bail!("{other:?}"),
            }
        }
        Ok(())
    }
}
