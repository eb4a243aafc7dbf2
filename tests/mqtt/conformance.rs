//! What a broker must do, as `python/behaviours.py` spells it out.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use sandbar_tests::tool;
use serde_json::Value;

pub(crate) fn program(name: &str) -> PathBuf {
    sandbar_tests::checkout().join("tests/mqtt").join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_behaviour_is_as_the_specification_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let configuration = "[ingress.mqtt]\ndriver = \"mqtt\"\nlisten = \"127.0.0.1:0\"\n\
                         deny = [{ subscribe = [\"+/nosubscribe\"] }]\n";
    let host = crate::host(folder.path(), configuration).await?;
    let address = host.ingress("mqtt").await?;
    let port = address.rsplit(':').next().unwrap_or_default().to_owned();
    let mut python = tokio::process::Command::new(tool::path("python3"));
    python.arg(program("python/behaviours.py")).args(["127.0.0.1", &port]);
    // Reading its neighbour must not leave a compiled file in the checkout.
    python.env("PYTHONDONTWRITEBYTECODE", "1");
    let said = tool::succeeds(python, 300).await?;
    let results: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(results.len() > 60, "only {} behaviours were tried", results.len());
    let failed: Vec<&Value> = results.iter().filter(|result| result["ok"] != true).collect();
    ensure!(failed.is_empty(), "{} of {} fail: {failed:#?}", failed.len(), results.len());
    println!("{} behaviours", results.len());
    Ok(())
}
