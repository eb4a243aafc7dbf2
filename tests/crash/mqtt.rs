//! The same under MQTT: 64 connections with 20 messages on their way each, QoS 1 and 2, sessions that go on after
//! every kill, a subscriber that takes everything of QoS 2, and retained messages.
//!
//! `SANDBAR_KILLS` says how often (5 in CI).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_mqtt_client::codec::{Filter, Subscribe};
use sandbar_mqtt_client::{Link, Packet, Publish, Qos, Session};
use sandbar_tests::host::Host;
use sandbar_tests::publisher::{KEPT, Publisher, Watcher, broker};
use sandbar_tests::seed::{Random, seed};

const CONNECTIONS: usize = 64;
const WINDOW: usize = 20;
/// What a connection publishes between two kills, at most.
const EACH: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_loses_and_doubles_nothing_and_keeps_its_sessions() -> Result<()> {
    let kills =
        std::env::var("SANDBAR_KILLS").map_or(5, |text| text.parse().expect("SANDBAR_KILLS is a number"));
    let mut random = Random::new(seed());
    let folder = tempfile::tempdir()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    std::fs::write(folder.path().join("sandbar.toml"), configuration(port))?;

    let mut publishers: Vec<_> = (0..CONNECTIONS)
        .map(|n| {
            let (who, qos) = (format!("c{n}"), if n % 2 == 0 { Qos::AtLeastOnce } else { Qos::ExactlyOnce });
            let version = if n % 4 < 2 { "5" } else { "3.1.1" };
            Publisher::new(who.clone(), broker(port, &who, version), qos, WINDOW)
        })
        .collect();
    let mut watcher = Watcher::new(broker(port, "watcher", "5"), "load/2/+");
    let mut retained = Retained::default();
    for kill in 0..=kills {
        let mut host = Some(start(folder.path()).await.with_context(|| format!("start after {kill} kills"))?);
        if kill == 0 {
            // Its session has to be there before what it is to get.
            let subscribing = watcher.watch(|_| false);
            drop(tokio::time::timeout(Duration::from_millis(500), subscribing).await);
        }
        retained.check(port).await.with_context(|| format!("after {kill} kills"))?;
        retained.set(port, kill as u64).await;
        let count = if kill == kills { 1 } else { EACH };
        let mut running: Vec<_> = publishers
            .drain(..)
            .map(|mut publisher| {
                tokio::spawn(async move { publisher.publish(count).await.map(|()| publisher) })
            })
            .collect();
        if kill < kills {
            let watching = watcher.watch(|_| false);
            let wait = Duration::from_millis(10 + random.below(250));
            tokio::select! {
                watched = watching => watched?,
                () = tokio::time::sleep(wait) => {}
            }
            if let Some(host) = host.take() {
                host.kill();
            }
        }
        for task in running.drain(..) {
            publishers.push(task.await?.with_context(|| format!("after {kill} kills"))?);
        }
        // The last one lives, and everything comes to its end.
        if let Some(host) = host {
            finish(&host, &publishers, &mut watcher).await?;
        }
    }
    let count: usize = publishers.iter().map(|publisher| publisher.acknowledged.len()).sum();
    println!("{kills} kills, {count} messages acknowledged");
    ensure!(count > kills * CONNECTIONS, "only {count} messages were acknowledged: that was no load");
    Ok(())
}

async fn start(folder: &std::path::Path) -> Result<Host> {
    let host = Host::start(folder).await?;
    host.ingress("mqtt").await?;
    Ok(host)
}

fn configuration(port: u16) -> String {
    format!(
        r#"
[host]
journal_mib = 4096
[api]
listen = "127.0.0.1:0"
[ingress.mqtt]
driver = "mqtt"
listen = "127.0.0.1:{port}"
content_type = "application/json"
queue_max = 10000000
queue_bytes = 1000000000
absent_bytes = 1000000000
"#
    )
}

async fn finish(host: &Host, publishers: &[Publisher], watcher: &mut Watcher) -> Result<()> {
    check_journal(host, publishers).await?;
    let wanted: HashSet<String> = publishers
        .iter()
        .enumerate()
        .filter(|(index, _)| index % 2 == 1)
        .flat_map(|(index, publisher)| publisher.acknowledged.iter().map(move |n| message(index, *n)))
        .collect();
    let watching = watcher.watch(|payloads| payloads.len() >= wanted.len());
    tokio::time::timeout(Duration::from_secs(120), watching).await.context("the watcher waits in vain")??;
    let mut got = HashMap::new();
    for payload in &watcher.payloads {
        *got.entry(String::from_utf8_lossy(payload).into_owned()).or_insert(0_u32) += 1;
    }
    let doubled: Vec<_> = got.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(doubled.is_empty(), "the subscriber got twice, with QoS 2: {doubled:?}");
    let missing: Vec<_> = wanted.iter().filter(|message| !got.contains_key(*message)).collect();
    ensure!(missing.is_empty(), "the subscriber misses {} of {}: {missing:?}", missing.len(), wanted.len());
    Ok(())
}

fn message(index: usize, n: u64) -> String {
    format!("{{\"who\":\"c{index}\",\"n\":{n}}}")
}

/// Every acknowledged message is a reading, and with QoS 2 exactly one.
async fn check_journal(host: &Host, publishers: &[Publisher]) -> Result<()> {
    let mut journal: HashMap<(String, u64), u32> = HashMap::new();
    for reading in host.all("/v1/readings?ingress=mqtt").await? {
        let payload = &reading["payload_json"];
        if let (Some(who), Some(n)) = (payload["who"].as_str(), payload["n"].as_u64()) {
            *journal.entry((who.to_owned(), n)).or_default() += 1;
        }
    }
    for (index, publisher) in publishers.iter().enumerate() {
        for n in &publisher.acknowledged {
            let count = journal.get(&(format!("c{index}"), *n)).copied().unwrap_or(0);
            ensure!(count > 0, "acknowledged and missing: {}", message(index, *n));
        }
        for n in (0..publisher.sent()).filter(|_| index % 2 == 1) {
            let count = journal.get(&(format!("c{index}"), n)).copied().unwrap_or(0);
            ensure!(count <= 1, "{count} readings with QoS 2: {}", message(index, n));
        }
    }
    Ok(())
}

/// One retained message, set anew before every kill.
#[derive(Default)]
struct Retained {
    acknowledged: Option<u64>,
    sent: u64,
}

const TOPIC: &str = "kept";

impl Retained {
    async fn set(&mut self, port: u16, value: u64) {
        let session = Session { clean_start: true, expiry_s: 0, ..KEPT };
        let Ok((mut link, _)) = Link::open(&broker(port, "keeper", "5"), session).await else { return };
        self.sent = value;
        link.send(&Packet::Publish(Publish {
            qos: Qos::AtLeastOnce,
            retain: true,
            topic: TOPIC.into(),
            packet_id: 1,
            payload: value.to_string().into(),
            ..Publish::default()
        }));
        if let Ok(Packet::Ack(_)) = link.next().await {
            self.acknowledged = Some(value);
        }
        link.close().await;
    }

    /// It is what was acknowledged last, or what was sent since.
    async fn check(&self, port: u16) -> Result<()> {
        let Some(acknowledged) = self.acknowledged else { return Ok(()) };
        let session = Session { clean_start: true, expiry_s: 0, ..KEPT };
        let (mut link, _) = Link::open(&broker(port, "reader", "5"), session).await?;
        let filters = vec![Filter::new(TOPIC, Qos::AtMostOnce)];
        link.send(&Packet::Subscribe(Subscribe { packet_id: 1, filters }));
        let getting = async {
            loop {
                if let Packet::Publish(publish) = link.next().await? {
                    return anyhow::Ok(publish);
                }
            }
        };
        let publish = tokio::time::timeout(Duration::from_secs(5), getting).await;
        let publish = publish.context("the retained message is lost")??;
        let value: u64 = std::str::from_utf8(&publish.payload)?.parse()?;
        let range = acknowledged..=self.sent;
        ensure!(publish.retain && range.contains(&value), "retained is {value}, not {range:?}");
        Ok(())
    }
}
