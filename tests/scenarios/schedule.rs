//! A schedule has no peers: what it must come through is being killed, and the time in which it does not run.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use sandbar_reading::Timestamp;
use sandbar_tests::eventually;
use sandbar_tests::host::Host;
use sandbar_tests::receiver::Receiver;
use sandbar_tests::seed::{Random, seed};
use sandbar_tests::sender::all_is_done;

const INTERVAL: u64 = 50;
const KILLS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_time_is_made_up_for_once_whenever_it_was_killed() -> Result<()> {
    let (folder, receiver) = (tempfile::tempdir()?, Receiver::start().await?);
    let configuration = format!(
        "[api]\nlisten = \"127.0.0.1:0\"\n\
         [ingress.it]\ndriver = \"schedule\"\ninterval_ms = {INTERVAL}\nmissed = \"catch_up\"\ncatch_up_max = 10000\n\
         [sink.out]\nkind = \"http\"\nurl = \"{}\"\nbody = \"json\"\n\
         [sink.out.offering]\nfirst_wait_ms = 5\nlongest_wait_ms = 50\n\
         [route.all]\ningress = [\"it\"]\nsinks = [\"out\"]\n",
        receiver.url(),
    );
    std::fs::write(folder.path().join("sandbar.toml"), &configuration)?;
    let mut random = Random::new(seed());
    for kill in 0..KILLS {
        let host = Host::start(folder.path()).await?;
        receiver.set_failing(kill % 2 == 0);
        let before = host.all("/v1/readings").await?.len();
        eventually("it goes on", 20, || async {
            host.all("/v1/readings").await.is_ok_and(|readings| readings.len() > before + 2)
        })
        .await;
        tokio::time::sleep(Duration::from_millis(random.below(2 * INTERVAL))).await;
        host.kill();
        tokio::time::sleep(Duration::from_millis(3 * INTERVAL)).await;
    }
    receiver.set_failing(false);
    let host = Host::start(folder.path()).await?;
    // It makes no more, and what it made is delivered.
    let quiet = configuration.replace("driver = \"schedule\"", "driver = \"simulator\"");
    let quiet = quiet.replace("missed = \"catch_up\"\ncatch_up_max = 10000\n", "count = 0\n");
    let log = host.stderr();
    ensure!(host.terminate().await? == Some(0), "{log}");
    std::fs::write(folder.path().join("sandbar.toml"), quiet)?;
    let host = Host::start(folder.path()).await?;
    all_is_done(&host, 30).await;
    let mut times = Vec::new();
    let mut ids = BTreeSet::new();
    for taken in receiver.taken() {
        if ids.insert(taken.idempotency_id.clone()) {
            let time: Timestamp = taken.body["payload"]["time"].as_str().unwrap_or_default().parse()?;
            times.push(time.millis());
        }
    }
    times.sort_unstable();
    ensure!(times.len() > KILLS * 3, "only {} readings", times.len());
    let broken: Vec<_> = times.windows(2).filter(|pair| pair[1] - pair[0] != INTERVAL).collect();
    ensure!(broken.is_empty(), "not once each: {broken:?}");
    ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}
