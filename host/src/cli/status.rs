//! `sandbar status`.

use serde_json::{Value, json};

use super::tables::{INGRESSES, ROUTES, SINKS, Tables};
use crate::client::Client;
use crate::output::{self, at, bytes, line};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    let status = client.get(&["status"], &[]).await?;
    if options.json {
        return Ok(output::json(&status)?);
    }
    line(summary(&status))?;
    for tables in [&INGRESSES, &ROUTES, &SINKS] {
        print_tables(tables, &status[tables.path])?;
    }
    Ok(())
}

fn print_tables(tables: &Tables, items: &Value) -> std::io::Result<()> {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return Ok(());
    }
    // As in the listings, where the status is a table of its own.
    let items: Vec<Value> =
        items.iter().map(|item| json!({ "name": item["name"], "status": item })).collect();
    line("")?;
    output::listing(&json!({ "items": items }), false, "", &tables.status_columns())
}

fn summary(status: &Value) -> String {
    let store = &status["store"];
    let count = |name: &str| store[name].as_u64().unwrap_or_default();
    let size = |name: &str| bytes(count(name));
    let state = if status["ready"].as_bool() == Some(true) { "ready" } else { "NOT READY" };
    let uptime = duration(status["uptime_seconds"].as_u64().unwrap_or_default());
    let mut lines = vec![format!("sandbar {}, up {uptime}, {state}", at(status, "/version"))];
    for problem in status["problems"].as_array().into_iter().flatten() {
        lines.push(format!("problem: {}", output::cell(problem)));
    }
    lines.push(format!(
        "journal: {} readings, {}; the store's file is {}",
        count("journal_readings"),
        size("journal_bytes"),
        size("file_bytes")
    ));
    lines.push(format!(
        "waiting: {} readings for routes, {} deliveries for sinks and devices; {} dead letters",
        count("waiting"),
        count("outbox"),
        count("dead_letters")
    ));
    let devices = &status["devices"];
    lines.push(format!(
        "devices: {} online, {} offline, {} lost; {} connections",
        at(devices, "/online"),
        at(devices, "/offline"),
        at(devices, "/lost"),
        at(status, "/connections")
    ));
    lines.push(format!("commits: {}, the last took {} µs", count("commits"), count("last_commit_us")));
    lines.join("\n")
}

/// The two largest units: `3 d 4 h`, `12 s`.
fn duration(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = UNITS.iter().position(|(size, _)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let (size, unit) = UNITS[first];
    let mut text = format!("{} {unit}", seconds / size);
    if let Some((next, unit)) = UNITS.get(first + 1) {
        text.push_str(&format!(" {} {unit}", seconds % size / next));
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(0), "0 s");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(3_600), "1 h 0 min");
        assert_eq!(duration(3 * 86_400 + 4 * 3_600 + 59), "3 d 4 h");
    }

    #[test]
    fn what_is_wrong_comes_first() {
        let status = json!({
            "version": "0.1.0", "uptime_seconds": 61, "ready": false, "problems": ["the disk is full"],
            "store": { "journal_readings": 7, "journal_bytes": 2048, "waiting": 1, "outbox": 2, "dead_letters": 3,
                       "file_bytes": 4096, "commits": 4, "last_commit_us": 250 },
            "devices": { "online": 5, "offline": 1, "lost": 0 }, "connections": 6,
        });
        expect![[r"
            sandbar 0.1.0, up 1 min 1 s, NOT READY
            problem: the disk is full
            journal: 7 readings, 2.0 KiB; the store's file is 4.0 KiB
            waiting: 1 readings for routes, 2 deliveries for sinks and devices; 3 dead letters
            devices: 5 online, 1 offline, 0 lost; 6 connections
            commits: 4, the last took 250 µs"]]
        .assert_eq(&summary(&status));
    }
}
