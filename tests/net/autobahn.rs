//! Autobahn's fuzzing client: how a WebSocket server must answer what is right, and what is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use sandbar_ingress::contract::StandIn;
use sandbar_ingress::{Supervisor, SupervisorOptions};
use sandbar_tests::tool;
use serde_json::{Value, json};

/// Compression (12, 13) is an extension that is not spoken here.
const LEFT_OUT: [&str; 2] = ["12.*", "13.*"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_passes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = StandIn::with_reading_max(32 << 20);
    host.echo();
    host.forget();
    let settings = json!({ "listen": "127.0.0.1:0", "paths": [{ "path": "/", "topic": "echo" }] });
    let driver = sandbar_ingress::build("websocket", settings)?;
    let ingress =
        Supervisor::start("tested".parse()?, driver, Arc::clone(&host) as _, SupervisorOptions::default());
    let address = ingress.wait_for(|status| status.address.is_some()).await.address.context("no address")?;
    let specification = json!({
        "outdir": folder.path().join("reports"),
        "servers": [{ "agent": "sandbar", "url": format!("ws://{address}"), "options": { "version": 18 } }],
        "cases": ["*"],
        "exclude-cases": LEFT_OUT,
        "exclude-agent-cases": {},
    });
    let file = folder.path().join("fuzzing.json");
    std::fs::write(&file, specification.to_string())?;
    let mut autobahn = tokio::process::Command::new(tool::cached("autobahn/wstest"));
    autobahn.args(["-m", "fuzzingclient", "-s"]).arg(&file).current_dir(folder.path());
    let said = tool::succeeds(autobahn, 400).await?;
    let report = std::fs::read_to_string(folder.path().join("reports/index.json")).context(said)?;
    let report: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&report)?;
    let cases = report.get("sandbar").context("no report")?;
    let failed: Vec<_> = cases.iter().filter(|(_, case)| !passes(case)).collect();
    ensure!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), cases.len());
    println!("{} cases", cases.len());
    ensure!(cases.len() > 200, "only {} cases", cases.len());
    Ok(())
}

/// `NON-STRICT`: right, if not as soon as it might have been. `INFORMATIONAL`: either is right.
fn passes(case: &Value) -> bool {
    let is_one_of =
        |what: &str, allowed: &[&str]| case[what].as_str().is_some_and(|text| allowed.contains(&text));
    is_one_of("behavior", &["OK", "NON-STRICT", "INFORMATIONAL"])
        && is_one_of("behaviorClose", &["OK", "INFORMATIONAL"])
}
