//! The `gps` driver against gpsd, which gpsfake gives a log to, and on a pseudo terminal that the log is written to.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use sandbar_tests::free_port;
use sandbar_tests::host::Host;
use sandbar_tests::tool;
use serde_json::Value;

use crate::{Cable, check_log, host, payload, readings, until};

/// A walk to the north, 111 m in each of so many seconds, and as long without a fix. Written by this test: there is no
/// place to it.
const SECONDS: usize = 12;

fn walk() -> String {
    let mut log = String::new();
    for second in 0..2 * SECONDS {
        let (minutes, time) = (second as f64 * 0.06, format!("10{:02}{:02}.00", second / 60, second % 60));
        let bodies = if second < SECONDS {
            let position = format!("47{minutes:07.4},N,00830.0000,E");
            [
                format!("GPGGA,{time},{position},1,08,1.0,408.0,M,48.0,M,,"),
                "GPGSA,A,3,10,07,05,02,29,04,08,13,,,,,1.7,1.0,1.4".to_owned(),
                format!("GPRMC,{time},A,{position},215.8,000.0,010126,,,A"),
            ]
        } else {
            [
                format!("GPGGA,{time},,,,,0,00,99.9,,M,,M,,"),
                "GPGSA,A,1,,,,,,,,,,,,,99.9,99.9,99.9".to_owned(),
                format!("GPRMC,{time},V,,,,,,,010126,,,N"),
            ]
        };
        for body in bodies {
            log.push_str(&sentence(&body));
        }
    }
    log
}

fn sentence(body: &str) -> String {
    let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${body}*{sum:02X}\r\n")
}

/// The walk with the satellites in view, without which gpsd does not say how many are used.
fn walk_with_satellites() -> String {
    let in_view = [
        "GPGSV,2,1,08,10,63,137,17,07,61,098,15,05,59,290,20,02,54,157,30",
        "GPGSV,2,2,08,29,39,170,40,04,38,220,41,08,20,050,30,13,10,300,20",
    ];
    let in_view = in_view.map(sentence).concat();
    walk().replace("$GPRMC", &format!("{in_view}$GPRMC"))
}

/// gpsfake, and the gpsd that it started; both end with it.
struct Fake(Child);

impl Fake {
    fn play(log: &Path, port: u16) -> Result<Self> {
        let mut gpsfake = Command::new(tool::path("gpsfake"));
        gpsfake.args(["-c", "0.1", "-P", &port.to_string(), "-n", "-q"]).arg(log);
        // It looks for gpsd where administrators have it.
        let path = std::env::var("PATH").unwrap_or_default();
        gpsfake.env("PATH", format!("{path}:/usr/sbin"));
        gpsfake.process_group(0);
        Ok(Self(gpsfake.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // As control-C, to both; then for good.
        let signal = |signal: &str| {
            let group = format!("-{}", self.0.id());
            drop(Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status());
        };
        signal("-INT");
        drop(Command::new("sleep").arg("0.5").status());
        signal("-KILL");
        drop(self.0.wait());
    }
}

async fn fixes(host: &Host) -> Result<Vec<Value>> {
    let readings = readings(host, "gps").await?;
    Ok(readings.iter().filter_map(|reading| serde_json::from_str(&payload(reading)).ok()).collect())
}

fn check_fixes(fixes: &[Value]) -> Result<()> {
    let (with, without): (Vec<_>, Vec<_>) = fixes.iter().partition(|fix| fix["fix"] != "none");
    for fix in &with {
        let latitude = fix["latitude_deg"].as_f64().unwrap_or_default();
        ensure!((47.0..47.02).contains(&latitude) && fix["longitude_deg"] == 8.5, "{fix}");
        ensure!(fix["accuracy_m"].is_f64(), "{fix}");
    }
    // gpsd tells of them now and then.
    ensure!(with.iter().any(|fix| fix["satellites"].is_u64()), "{with:?}");
    ensure!(
        without.iter().all(|fix| fix["latitude_deg"].is_null() && fix["cause"].is_string()),
        "{without:?}"
    );
    let doubled = fixes.windows(2).any(|pair| pair[0]["fix"] == "none" && pair[1]["fix"] == "none");
    ensure!(!doubled, "a lost fix is said once: {fixes:?}");
    ensure!(with.len() > 3 && !without.is_empty(), "{fixes:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gpsd_tells_where_it_is_and_that_it_is_lost() -> Result<()> {
    let (folder, port) = (tempfile::tempdir()?, free_port()?);
    let log = folder.path().join("walk.nmea");
    std::fs::write(&log, walk_with_satellites())?;
    let fake = Fake::play(&log, port)?;
    let configuration = format!(
        "[ingress.gps]\ndriver = \"gps\"\ngpsd = \"127.0.0.1:{port}\"\ninterval_ms = 0\nlost_after_ms = 1000\n"
    );
    let host = host(folder.path(), &configuration).await?;
    until(&host, "gps", |payload| payload.contains("\"none\"")).await?;
    // Round again.
    until(&host, "gps", |payload| payload.contains("\"3d\"")).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    check_fixes(&fixes(&host).await?)?;
    drop(fake);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let last = fixes(&host).await?.pop().unwrap_or_default();
    ensure!(last["fix"] == "none", "gpsd is gone, and so is the fix: {last}");
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_on_a_serial_port_is_read_and_damaged_sentences_are_not() -> Result<()> {
    let (folder, cable) = (tempfile::tempdir()?, Cable::new().await?);
    let configuration = format!(
        "[ingress.gps]\ndriver = \"gps\"\nport = \"{}\"\ninterval_ms = 0\ndistance_m = 300\nlost_after_ms = 1000\n",
        cable.host().display()
    );
    let host = host(folder.path(), &configuration).await?;
    // Elsewhere, with the checksum of what was not changed.
    let damaged = walk().lines().next().unwrap_or_default().replace("00830", "10830");
    for sentences in walk().lines().collect::<Vec<_>>().chunks(3) {
        cable.say(format!("{damaged}\r\n{}\r\n", sentences.join("\r\n")).as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    until(&host, "gps", |payload| payload.contains("\"none\"")).await?;
    let fixes = fixes(&host).await?;
    check_fixes(&fixes)?;
    ensure!(fixes.len() <= 6, "111 m a step, 300 m a reading: {fixes:?}");
    let first = &readings(&host, "gps").await?[0];
    ensure!(first["time"].as_str().is_some_and(|time| time.starts_with("2026-01-01T10:00:")), "{first}");
    check_log(&host)
}
