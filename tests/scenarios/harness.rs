//! The scenarios themselves, the same for every protocol.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use sandbar_tests::eventually;
use sandbar_tests::host::Host;
use sandbar_tests::mutate::mutate;
use sandbar_tests::receiver::{Receiver, Taken};
use sandbar_tests::seed::{Random, seed};
use tokio::task::JoinSet;

use crate::protocol::{Client, Protocol, Told, marker};

const MUTATIONS: usize = 1000;
/// At once.
const THROWERS: usize = 32;
const LOST_PEERS: usize = 40;
const KILLS: usize = 4;
/// With a host that is slow.
const ARRIVED_WITHIN: Duration = Duration::from_secs(60);
const CLIENTS: usize = 4;

/// A host with the protocol's ingress, whose readings go to an HTTP receiver.
struct Stage<P> {
    folder: tempfile::TempDir,
    protocol: P,
    receiver: Receiver,
    markers: AtomicU64,
}

impl<P: Protocol> Stage<P> {
    async fn set() -> Result<Self> {
        let (protocol, receiver) = (P::start().await?, Receiver::start().await?);
        let folder = tempfile::tempdir()?;
        let configuration = format!(
            "[api]\nlisten = \"127.0.0.1:0\"\n\
             [ingress.it]\ndriver = \"{}\"\n{}\n\
             [sink.out]\nkind = \"http\"\nurl = \"{}\"\nbody = \"json\"\n\
             [sink.out.offering]\nfirst_wait_ms = 5\nlongest_wait_ms = 50\n\
             [route.all]\ningress = [\"it\"]\nsinks = [\"out\"]\n",
            P::DRIVER,
            protocol.settings(),
            receiver.url(),
        );
        std::fs::write(folder.path().join("sandbar.toml"), configuration)?;
        Ok(Self { folder, protocol, receiver, markers: AtomicU64::new(1) })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn marker(&self) -> String {
        marker(self.markers.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends one reading over a connection of its own.
    async fn acknowledged(&self, host: &Host, address: &str) -> Result<String> {
        let mut client = self.protocol.connect(address).await?;
        self.acknowledged_over(&mut client, host).await
    }

    async fn acknowledged_over(&self, client: &mut P::Client, host: &Host) -> Result<String> {
        let marker = self.marker();
        match client.send(&marker).await? {
            Told::Acknowledged => {}
            Told::Refused(why) => anyhow::bail!("{marker} was refused: {why}"),
            Told::Nothing => {
                let is_taken =
                    || async { journaled::<P>(host, 100).await.is_ok_and(|taken| taken.contains(&marker)) };
                eventually("it is in the journal", 30, is_taken).await;
            }
        }
        Ok(marker)
    }

    /// All of these come to the receiver. What keeps saying the same is never done: that nothing waits is not asked.
    async fn check_arrived(&self, markers: &BTreeSet<String>) -> Result<()> {
        let until = Instant::now() + ARRIVED_WITHIN;
        let mut taken = arrived::<P>(&self.receiver.taken());
        while !markers.is_subset(&taken) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(100)).await;
            taken = arrived::<P>(&self.receiver.taken());
        }
        let missing: Vec<_> = markers.difference(&taken).collect();
        ensure!(
            missing.is_empty(),
            "{} of {} acknowledged readings are lost: {missing:?}",
            missing.len(),
            markers.len()
        );
        Ok(())
    }
}

/// Where the ingress listens; nothing if it does not.
async fn address(host: &Host) -> Result<String> {
    for _ in 0..1000 {
        let status = host.get("/v1/ingresses/it").await?["status"].clone();
        if let Some(address) = status["address"].as_str() {
            return Ok(address.to_owned());
        }
        if status["state"] == "running" {
            return Ok(String::new());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the ingress does not run: {}", host.stderr())
}

/// The markers in what the receiver took.
fn arrived<P: Protocol>(taken: &[Taken]) -> BTreeSet<String> {
    taken.iter().flat_map(|taken| markers_of::<P>(&taken.body)).collect()
}

/// The markers in the latest so many readings.
async fn journaled<P: Protocol>(host: &Host, most: usize) -> Result<BTreeSet<String>> {
    let page = host.get(&format!("/v1/readings?ingress=it&limit={most}")).await?;
    let readings = page["items"].as_array().context("no items")?;
    Ok(readings.iter().flat_map(markers_of::<P>).collect())
}

fn markers_of<P: Protocol>(body: &serde_json::Value) -> Vec<String> {
    match body["payload_base64"].as_str() {
        Some(text) => P::markers(&String::from_utf8_lossy(&STANDARD.decode(text).unwrap_or_default())),
        None => P::markers(&body.to_string()),
    }
}

fn check_log(host: &Host) -> Result<()> {
    let log = host.stderr();
    ensure!(!log.contains("panicked") && !log.contains("bug in"), "{log}");
    Ok(())
}

pub(crate) async fn bad_input<P: Protocol>() -> Result<()> {
    let stage = Arc::new(Stage::<P>::set().await?);
    let mut host = Host::start(stage.path()).await?;
    let address = address(&host).await?;
    let mut markers = BTreeSet::from([stage.acknowledged(&host, &address).await?]);
    let mut random = Random::new(seed());
    let mut bad = stage.protocol.wrong();
    let right = stage.protocol.conversations();
    for _ in 0..MUTATIONS {
        let conversation = &right[random.below(right.len() as u64) as usize];
        bad.push(mutate(&mut random, conversation, stage.protocol.pieces()));
    }
    for _ in 0..20 {
        let count = random.below(5000) as usize;
        bad.push(random.bytes(count));
    }
    let mut throws = JoinSet::new();
    for (number, bytes) in bad.into_iter().enumerate() {
        let (thrower, to) = (Arc::clone(&stage), address.clone());
        throws.spawn(async move {
            let answer = thrower.protocol.throw(&to, bytes.clone()).await?;
            let checked = thrower.protocol.check_answer(&answer);
            checked
                .with_context(|| format!("to {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(500)])))
        });
        if throws.len() >= THROWERS.min(P::CONNECTIONS) {
            throws.join_next().await.context("no throw")???;
        }
        // Who does it right is served all the while.
        if number % 100 == 0 {
            markers.insert(stage.acknowledged(&host, &address).await?);
        }
    }
    while let Some(thrown) = throws.join_next().await {
        thrown??;
    }
    markers.insert(stage.acknowledged(&host, &address).await?);
    ensure!(host.is_running(), "{}", host.stderr());
    stage.check_arrived(&markers).await?;
    check_log(&host)
}

pub(crate) async fn lost_peers<P: Protocol>() -> Result<()> {
    let stage = Stage::<P>::set().await?;
    let mut host = Host::start(stage.path()).await?;
    let address = address(&host).await?;
    let (mut halves, mut markers) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..LOST_PEERS {
        let half = stage.marker();
        if let Some(bytes) = stage.protocol.half(&half) {
            stage.protocol.lose(&address, bytes).await?;
            halves.insert(half);
        }
        // One that has another connection half-way is none the worse.
        markers.insert(stage.acknowledged(&host, &address).await?);
        let mut client = stage.protocol.connect(&address).await?;
        markers.insert(stage.acknowledged_over(&mut client, &host).await?);
    }
    ensure!(host.is_running(), "{}", host.stderr());
    stage.check_arrived(&markers).await?;
    let arrived = arrived::<P>(&stage.receiver.taken());
    ensure!(halves.is_disjoint(&arrived), "half a message became a reading");
    check_log(&host)
}

/// What clients were told, all the while.
#[derive(Default)]
struct Load {
    stopped: AtomicBool,
    acknowledged: Mutex<BTreeSet<String>>,
    /// Nobody is told: what was taken is looked up.
    is_silent: AtomicBool,
}

impl Load {
    async fn look<P: Protocol>(&self, host: &Host) {
        if self.is_silent.load(Ordering::Relaxed)
            && let Ok(taken) = journaled::<P>(host, 1000).await
        {
            self.acknowledged.lock().extend(taken);
        }
    }
}

pub(crate) async fn kills<P: Protocol>() -> Result<()> {
    let stage = Arc::new(Stage::<P>::set().await?);
    let load = Arc::new(Load::default());
    let mut random = Random::new(seed());
    for kill in 0..KILLS {
        let host = Host::start(stage.path()).await.with_context(|| format!("start after {kill} kills"))?;
        // What is not delivered before the kill has to come from the disk.
        stage.receiver.set_failing(kill % 2 == 0);
        let address = address(&host).await?;
        load.stopped.store(false, Ordering::Relaxed);
        let before = load.acknowledged.lock().len();
        let clients: Vec<_> = (0..CLIENTS.min(P::CONNECTIONS))
            .map(|_| tokio::spawn(client(Arc::clone(&stage), Arc::clone(&load), address.clone())))
            .collect();
        eventually("readings are acknowledged", 30, || async {
            load.look::<P>(&host).await;
            load.acknowledged.lock().len() > before + CLIENTS
        })
        .await;
        tokio::time::sleep(Duration::from_millis(20 + random.below(200))).await;
        load.look::<P>(&host).await;
        host.kill();
        load.stopped.store(true, Ordering::Relaxed);
        for client in clients {
            client.await?;
        }
    }
    stage.receiver.set_failing(false);
    let host = Host::start(stage.path()).await?;
    let acknowledged = load.acknowledged.lock().clone();
    eprintln!("{KILLS} kills, {} readings acknowledged", acknowledged.len());
    stage.check_arrived(&acknowledged).await?;
    ensure!(host.all("/v1/dead-letters").await?.is_empty(), "something was given up on");
    check_log(&host)
}

/// One connection, one reading on its way at a time, until the host is gone.
async fn client<P: Protocol>(stage: Arc<Stage<P>>, load: Arc<Load>, address: String) {
    let Ok(mut client) = stage.protocol.connect(&address).await else { return };
    while !load.stopped.load(Ordering::Relaxed) {
        let marker = stage.marker();
        let sent = tokio::time::timeout(Duration::from_secs(10), client.send(&marker)).await;
        match sent {
            Ok(Ok(Told::Acknowledged)) => drop(load.acknowledged.lock().insert(marker)),
            Ok(Ok(Told::Refused(_))) => {}
            Ok(Ok(Told::Nothing)) => {
                load.is_silent.store(true, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
