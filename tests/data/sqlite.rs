//! SQLite, asked with its own program while the host writes.

use std::path::Path;

use anyhow::{Result, ensure};
use sandbar_tests::tool;

use crate::stage::Stage;

async fn ask(file: &Path, sql: &str) -> Result<String> {
    let mut sqlite = tokio::process::Command::new(tool::path("sqlite3"));
    sqlite.arg("-cmd").arg(".timeout 5000").arg(file).arg(sql);
    Ok(tool::succeeds(sqlite, 20).await?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_arrive_once_also_after_a_kill_while_others_read_and_lock() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("deeper/readings.db");
    let sink = format!(
        r#"kind = "sql"
url = "sqlite:{}"
create = """CREATE TABLE IF NOT EXISTS readings
  (id TEXT PRIMARY KEY, time TEXT, n INTEGER NOT NULL, celsius REAL CHECK (celsius < 1000), payload TEXT)"""
statement = "INSERT INTO readings VALUES (:id, :time, :n, :celsius, :payload_json) ON CONFLICT (id) DO NOTHING"
parameters.n = {{ pointer = "/n", type = "integer" }}
parameters.celsius = {{ pointer = "/celsius", type = "float" }}"#,
        file.display()
    );
    let mut stage = Stage::set(&sink).await?;
    for round in 0..4 {
        stage.send_numbers(round * 50..(round + 1) * 50).await?;
        stage = stage.again().await?;
    }
    stage.send("boiler", r#"{"celsius":1}"#).await?;
    stage.send("boiler", r#"{"n":1000,"celsius":1001}"#).await?;
    // Another program holds the lock for a while.
    let locked = ask(
        &file,
        "BEGIN IMMEDIATE; UPDATE readings SET payload = NULL WHERE n = 0; COMMIT; SELECT changes();",
    );
    stage.send_numbers(200..220).await?;
    ensure!(locked.await? == "1");
    let mut causes = stage.settle().await?;
    causes.sort();
    ensure!(causes.len() == 2 && causes[0].contains("CHECK") && causes[1].contains("NOT NULL"), "{causes:?}");
    let sums = ask(&file, "SELECT count(*), count(DISTINCT n), sum(celsius) FROM readings").await?;
    ensure!(sums == "220|220|24200.0", "{sums}");
    ensure!(ask(&file, "PRAGMA integrity_check").await? == "ok");
    Ok(())
}
