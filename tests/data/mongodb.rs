//! MongoDB's wire protocol, spoken by MockupDB; see `main.rs` for what that shows.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use sandbar_tests::free_port;
use serde_json::Value;

use crate::python::Program;
use crate::server::Server;
use crate::stage::Stage;

async fn start(folder: &Path, port: u16) -> Result<Server> {
    let mut command = Program::MongoDb.command();
    command.arg(port.to_string()).arg(folder.join("documents"));
    Server::start(command, port, &folder.join("log")).await
}

/// Extended JSON, a line each, in the order in which they were written.
fn documents(folder: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(folder.join("documents"))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_arrive_once_also_when_the_server_was_gone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let server = start(folder.path(), port).await?;
    let url = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
    let stage = Stage::set(&format!(
        "kind = \"mongodb\"\nurl = \"{url}\"\ndatabase = \"plant\"\ncollection = \"readings\"\ntimeout_ms = 1000"
    ))
    .await?;
    stage.send_numbers(0..50).await?;
    stage.send("boiler", r#"{"n":1,"celsius":5000}"#).await?;
    stage.send_numbers(50..100).await?;
    let causes = stage.settle().await?;
    ensure!(causes == ["mongodb: Document failed validation"], "{causes:?}");
    let seen = documents(folder.path())?;
    ensure!(seen.len() == 100, "{}", seen.len());
    let first = &seen[0];
    ensure!(first["payload"] == serde_json::json!({ "n": 0, "celsius": 0.5 }), "{first}");
    ensure!(first["topic"] == "plant/boiler" && first["device"] == "boiler", "{first}");
    ensure!(
        first["_id"].as_str().context("no id")?.len() == 26 && first["time"]["$date"].is_number()
            || first["time"]["$date"].is_string(),
        "{first}"
    );
    let attributes = first["attributes"].as_array().context("no attributes")?;
    ensure!(attributes.contains(&serde_json::json!({ "k": "http.header.x-unit", "v": "C" })), "{first}");

    server.kill();
    stage.send_numbers(100..120).await?;
    stage.complaint().await?;
    let stage = stage.again().await?;
    stage.send_numbers(120..130).await?;
    let _server = start(folder.path(), port).await?;
    stage.settle().await?;
    let seen = documents(folder.path())?;
    let ids: std::collections::BTreeSet<_> =
        seen.iter().map(|document| document["_id"].to_string()).collect();
    ensure!((seen.len(), ids.len()) == (130, 130), "{} documents, {} ids", seen.len(), ids.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upsert_replaces_the_document_of_its_device() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let _server = start(folder.path(), port).await?;
    let stage = Stage::set(&format!(
        "kind = \"mongodb\"\nurl = \"mongodb://127.0.0.1:{port}\"\ndatabase = \"plant\"\ncollection = \"latest\"\n\
         mode = \"upsert\"\nid = \"{{{{ device }}}}\""
    ))
    .await?;
    stage.send_numbers(0..30).await?;
    ensure!(stage.settle().await?.is_empty());
    let seen = documents(folder.path())?;
    ensure!(seen.iter().all(|document| document["_id"] == "boiler"), "{seen:?}");
    ensure!(seen.last().context("nothing")?["payload"]["n"] == 29, "{seen:?}");
    Ok(())
}
