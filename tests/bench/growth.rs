//! What must not grow: the cost of a reading with the routes there are, the time of a restart with the
//! readings that are journaled.

use std::fmt::Write;

use anyhow::{Context, Result};

use crate::load::{Measured, wrk};
use crate::{ROUNDS, start};

const WEB: &str = r#"
[api]
listen = "127.0.0.1:0"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{ path = "/{*topic}", topic = "{topic}" }]
"#;

pub(crate) async fn routes() -> Result<()> {
    println!("## Readings/s over 64 connections by how many routes there are (one takes each reading)\n");
    println!("| routes | readings/s | ÷ 10 routes | resident MB |\n|---|---|---|---|");
    let mut first = None;
    for count in [10, 1_000, 10_000] {
        let folder = tempfile::tempdir()?;
        let mut text = WEB.to_owned();
        for n in 0..count {
            writeln!(text, "[route.r{n}]\ntopic = \"site/{n}/+\"")?;
        }
        std::fs::write(folder.path().join("sandbar.toml"), text)?;
        let host = start(folder.path()).await?;
        let url = format!("{}/site/{}/temp", host.ingress("web").await?, count / 2);
        let mut runs = Vec::new();
        for _ in 0..ROUNDS {
            runs.push(wrk(&url, 64).await?);
        }
        let per_second = Measured::median(runs).per_second;
        let first = *first.get_or_insert(per_second);
        let resident = crate::load::resident_mb(host.id())?;
        println!("| {count} | {per_second:.0} | {:.2} | {resident:.1} |", per_second / first);
    }
    println!();
    Ok(())
}

/// A kill, then the time from nothing to ready.
pub(crate) async fn restart() -> Result<()> {
    println!("## Restart after `kill -9`, by journaled readings\n");
    println!("| readings | journal MB | start to ready, ms |\n|---|---|---|");
    for count in [1_000, 1_000_000] {
        let folder = tempfile::tempdir()?;
        let text = format!("[host]\njournal_mib = 4096\n{WEB}");
        std::fs::write(folder.path().join("sandbar.toml"), text)?;
        let mut host = start(folder.path()).await?;
        let url = format!("{}/a", host.ingress("web").await?);
        loop {
            let status = host.get("/v1/status").await?;
            let journaled =
                status["store"]["readings"].as_u64().context("no store.readings in the status")?;
            if journaled >= count {
                break;
            }
            wrk(&url, 256).await?;
        }
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            host.kill();
            let began = std::time::Instant::now();
            host = start(folder.path()).await?;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        let size = std::fs::metadata(folder.path().join("sandbar-data/store"))?.len();
        println!("| ≥ {count} | {:.0} | {:.0} |", size as f64 / 1e6, times[ROUNDS / 2]);
    }
    println!();
    Ok(())
}
