//! The driver `ble`, with BlueZ's D-Bus.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::Host;
use sandbar_tests::mutate::mutate;
use sandbar_tests::receiver::Receiver;
use sandbar_tests::seed::{Random, seed};
use sandbar_tests::sender::all_is_done;
use serde_json::{Value, json};

use crate::bluez::{Bluez, UUID, beacon};
use crate::{check_log, last_error, wait_for};

const ADDRESS: &str = "11:22:33:44:55:66";

async fn readings(host: &Host) -> Result<Vec<Value>> {
    let mut readings = host.all("/v1/readings?ingress=air").await?;
    readings.sort_by_key(|reading| reading["id"].as_str().unwrap_or_default().to_owned());
    Ok(readings)
}

async fn minors(host: &Host) -> Result<Vec<u64>> {
    Ok(readings(host).await?.iter().filter_map(|reading| reading["payload_json"]["minor"].as_u64()).collect())
}

/// Says the beacon again and again until it is heard: whoever comes back may not hear at once.
async fn heard_again(bluez: &mut Bluez, host: &Host, minor: u16) -> Result<()> {
    for _ in 0..150 {
        bluez.beacon(ADDRESS, -60, 1, minor).await?;
        if minors(host).await?.contains(&minor.into()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    anyhow::bail!("not heard: {}\n{}", last_error(host, "air").await?, host.stderr())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_beacons_say_becomes_readings() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut bluez = Bluez::start(folder.path()).await?;
    std::fs::write(folder.path().join("uuids.yaml"), format!("allowed_uuids:\n  - \"{UUID}\"\n"))?;
    let configuration = format!(
        "[ingress.air]\ndriver = \"ble\"\nformats = [\"ibeacon\", \"eddystone\", \"manufacturer\", \"service\"]\n\
         duplicate_window_ms = 600000\nallowed_uuids_file = \"{}/uuids.yaml\"\n",
        folder.path().display()
    );
    let host = bluez.host(folder.path(), &configuration).await?;
    wait_for(&host, "air", "running").await?;
    // The first is heard with the device itself, the others one by one; a repeated one is none.
    for (minor, rssi) in [(1, -60), (1, -61), (2, -62), (1, -63)] {
        bluez.beacon(ADDRESS, rssi, 7, minor).await?;
    }
    let other = beacon("00000000000000000000000000000000", 7, 1);
    bluez.order(&format!("company 11:22:33:44:55:67 -50 76 {other}")).await?;
    bluez.order("company 11:22:33:44:55:67 -50 1177 0512fc").await?;
    let eddystone = "0000feaa-0000-1000-8000-00805f9b34fb";
    bluez.order(&format!("service 11:22:33:44:55:68 -40 {eddystone} 10f0036578616d706c6500")).await?;
    bluez.order(&format!("service 11:22:33:44:55:68 -41 {eddystone} 20000bb815800000010100002710")).await?;
    bluez.order("service 11:22:33:44:55:69 -42 0000181a-0000-1000-8000-00805f9b34fb d709").await?;
    eventually("all are heard", 20, || async { readings(&host).await.is_ok_and(|all| all.len() >= 6) }).await;
    let readings = readings(&host).await?;
    let uuid = "f7826da6-4fa2-4e98-8024-bc5b71e0893e";
    let payloads: Vec<Value> = readings.iter().map(|reading| reading["payload_json"].clone()).collect();
    let beacon = |minor: u16, rssi: i16| json!({ "uuid": uuid, "major": 7, "minor": minor, "tx_power": -59, "rssi": rssi, "address": ADDRESS });
    let first = payloads[0]["rssi"].as_i64().context("no signal")?;
    let expected = [
        beacon(1, i16::try_from(first)?),
        beacon(2, -62),
        json!({ "company": 1177, "data": "0512fc", "rssi": -50, "address": "11:22:33:44:55:67" }),
        json!({ "url": "https://example.com/", "tx_power": -16, "rssi": -40, "address": "11:22:33:44:55:68" }),
        json!({ "battery_mv": 3000, "temperature_c": 21.5, "advertisements": 257, "uptime_s": 1000.0, "rssi": -41, "address": "11:22:33:44:55:68" }),
        json!({ "service": "0000181a-0000-1000-8000-00805f9b34fb", "data": "d709", "rssi": -42, "address": "11:22:33:44:55:69" }),
    ];
    ensure!(payloads == expected, "{payloads:#?}");
    let device = format!("{uuid}:7:1");
    ensure!(
        readings[0]["device"] == device && readings[0]["topic"] == format!("ble/{device}"),
        "{}",
        readings[0]
    );
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_adapter_and_a_killed_bluetoothd_are_missed_and_come_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut bluez = Bluez::start(folder.path()).await?;
    let configuration = "[ingress.air]\ndriver = \"ble\"\nadapter = \"hci0\"\n";
    let host = bluez.host(folder.path(), configuration).await?;
    heard_again(&mut bluez, &host, 1).await?;
    bluez.order("unplug hci0").await?;
    wait_for(&host, "air", "backing-off").await?;
    let error = last_error(&host, "air").await?;
    ensure!(error.contains("hci0"), "{error}");
    bluez.order("adapter hci0").await?;
    heard_again(&mut bluez, &host, 2).await?;
    bluez.kill_bluetoothd().await?;
    wait_for(&host, "air", "backing-off").await?;
    bluez.start_bluetoothd().await?;
    heard_again(&mut bluez, &host, 3).await?;
    // Gone and back before anybody looked.
    bluez.kill_bluetoothd().await?;
    bluez.start_bluetoothd().await?;
    heard_again(&mut bluez, &host, 4).await?;
    bluez.order("off hci0").await?;
    heard_again(&mut bluez, &host, 5).await?;
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_the_air_leaves_the_host_up() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut bluez = Bluez::start(folder.path()).await?;
    let configuration = "[ingress.air]\ndriver = \"ble\"\nduplicate_window_ms = 0\n\
                         formats = [\"ibeacon\", \"eddystone\", \"service\", \"manufacturer\"]\n";
    let mut host = bluez.host(folder.path(), configuration).await?;
    wait_for(&host, "air", "running").await?;
    let mut random = Random::new(seed());
    let pieces: [&[u8]; 4] = [b"\x02\x15", b"\x4c\0", b"\xff\xff\xff\xff", b"\x10\xf0\x03"];
    let right: [&[u8]; 3] = [
        b"\x02\x15\xf7\x82\x6d\xa6\x4f\xa2\x4e\x98\x80\x24\xbc\x5b\x71\xe0\x89\x3e\0\x01\0\x02\xc5",
        b"\x10\xf0\x03example\0a\x08",
        b"\x20\0\x0b\xb8\x15\x80\0\0\x01\x01\0\0\x27\x10",
    ];
    for number in 0..1000 {
        let original = random.one_of(&right);
        let mut bytes = mutate(&mut random, original, &pieces);
        // An advertisement has no more.
        bytes.truncate(254);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let order = match number % 2 {
            0 => format!("company {ADDRESS} -60 76 {hex}"),
            _ => format!("service {ADDRESS} -60 0000feaa-0000-1000-8000-00805f9b34fb {hex}"),
        };
        bluez.order(&order).await?;
    }
    heard_again(&mut bluez, &host, 60_001).await?;
    ensure!(host.is_running(), "{}", host.stderr());
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_before_a_kill_is_delivered() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut bluez = Bluez::start(folder.path()).await?;
    let receiver = Receiver::start().await?;
    let configuration = format!(
        "[ingress.air]\ndriver = \"ble\"\nduplicate_window_ms = 0\n\
         [sink.out]\nkind = \"http\"\nurl = \"{}\"\nbody = \"json\"\n\
         [sink.out.offering]\nfirst_wait_ms = 5\nlongest_wait_ms = 50\n\
         [route.all]\ningress = [\"air\"]\nsinks = [\"out\"]\n",
        receiver.url()
    );
    let mut host = bluez.host(folder.path(), &configuration).await?;
    let (mut taken, mut minor) = (BTreeSet::new(), 0);
    for kill in 0..3 {
        receiver.set_failing(kill % 2 == 0);
        wait_for(&host, "air", "running").await?;
        for _ in 0..30 {
            minor += 1;
            bluez.beacon(ADDRESS, -60, 1, minor).await?;
        }
        eventually("some are taken", 20, || async {
            minors(&host).await.is_ok_and(|all| all.len() > taken.len())
        })
        .await;
        taken.extend(minors(&host).await?);
        host.kill();
        host = bluez.host_again(folder.path()).await?;
    }
    receiver.set_failing(false);
    all_is_done(&host, 30).await;
    let delivered: BTreeSet<u64> =
        receiver.taken().iter().filter_map(|taken| taken.body["payload"]["minor"].as_u64()).collect();
    let missing: Vec<_> = taken.difference(&delivered).collect();
    ensure!(missing.is_empty() && taken.len() > 30, "{missing:?} of {} are lost", taken.len());
    check_log(&host)
}
