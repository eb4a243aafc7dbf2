//! `sandbar trace` and `sandbar logs`: what became of a reading, and what handlers said.

use serde_json::{Value, json};

use super::query;
use super::tail::follow;
use crate::client::Client;
use crate::output::{self, at, line, payload};
use crate::sse::Sent;

#[derive(Debug, clap::Args)]
pub(crate) struct TraceOptions {
    /// The reading's id
    id: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogsOptions {
    /// The route whose handler's lines are shown
    route: String,
    /// Then show lines as they come
    #[arg(long, short)]
    follow: bool,
    /// Only lines about this reading
    #[arg(long, value_name = "ID")]
    reading: Option<String>,
    /// Only lines that are that urgent: trace, debug, info, warn, error, critical
    #[arg(long)]
    level: Option<String>,
    /// At most so many of those that there are
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// As JSON; with --follow one object a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn trace(client: &Client, options: TraceOptions) -> anyhow::Result<()> {
    let trace = client.get(&["readings", &options.id, "trace"], &[]).await?;
    if options.json {
        return Ok(output::json(&trace)?);
    }
    Ok(line(told(&trace))?)
}

/// The whole life, a line each.
fn told(trace: &Value) -> String {
    let mut lines = Vec::new();
    let reading = &trace["reading"];
    lines.push(match reading.is_null() {
        true => format!("{}  no longer in the journal", at(trace, "/id")),
        false => format!(
            "{}  {}  {}  {}  {}",
            at(trace, "/id"),
            at(reading, "/time"),
            at(reading, "/ingress"),
            at(reading, "/topic"),
            payload(reading, 120)
        ),
    });
    let all = |name: &str| trace[name].as_array().map(Vec::as_slice).unwrap_or_default();
    for route in all("routes") {
        let took = if route["took"] == true { "took it" } else { "did not take it" };
        let why = route["why"].as_str().map(|_| format!(": {}", at(route, "/why"))).unwrap_or_default();
        lines.push(format!("route {}  {took}{why}", at(route, "/route")));
        if let Some(waits) = route.get("waits") {
            let (attempts, due) = (at(waits, "/attempts"), at(waits, "/due"));
            lines.push(format!("  waits: {attempts} attempts failed, next not before {due}"));
        }
    }
    for attempt in all("attempts") {
        let again = attempt["again"].as_str().map(|again| format!(" at {again}")).unwrap_or_default();
        lines.push(format!(
            "{}  route {}  {}{again}",
            at(attempt, "/time"),
            at(attempt, "/route"),
            at(attempt, "/outcome")
        ));
        for call in attempt["calls"].as_array().into_iter().flatten() {
            let fault =
                call["fault"].as_str().map(|_| format!(": {}", at(call, "/fault"))).unwrap_or_default();
            let (version, part, took) = (at(call, "/version"), at(call, "/part"), at(call, "/elapsed_us"));
            lines.push(format!("  version {version} ({part})  {took} µs{fault}"));
            for log in call["logs"].as_array().into_iter().flatten() {
                lines.push(format!(
                    "    {}  {}  {}",
                    at(log, "/level"),
                    at(log, "/context"),
                    at(log, "/message")
                ));
            }
        }
        for chained in attempt["chained"].as_array().into_iter().flatten() {
            lines.push(format!("  → reading {}", output::cell(chained)));
        }
    }
    for delivery in all("deliveries") {
        lines.push(format!("delivery {}  to {}", at(delivery, "/id"), at(delivery, "/target")));
        for offer in delivery["offers"].as_array().into_iter().flatten() {
            let cause =
                offer["cause"].as_str().map(|_| format!(": {}", at(offer, "/cause"))).unwrap_or_default();
            lines.push(format!("  {}  {}{cause}", at(offer, "/time"), at(offer, "/outcome")));
        }
        if let Some(waits) = delivery.get("waits") {
            lines.push(format!(
                "  waits: {} attempts failed, {}",
                at(waits, "/attempts"),
                at(waits, "/last_cause")
            ));
        }
    }
    for (name, what) in [("redriven", "redriven at"), ("dead_letters", "dead letter")] {
        lines.extend(all(name).iter().map(|value| format!("{what} {}", output::cell(value))));
    }
    lines.join("\n")
}

pub(crate) async fn logs(client: &Client, options: LogsOptions) -> anyhow::Result<()> {
    let filter = query(&[("reading", &options.reading), ("level", &options.level)]);
    if options.follow {
        return follow_logs(client, &options, &filter).await;
    }
    let asked = [&filter[..], &[("limit", options.limit.to_string())]].concat();
    let kept = client.get(&["routes", &options.route, "logs"], &asked).await?;
    if options.json {
        return Ok(output::json(&kept)?);
    }
    for record in kept["items"].as_array().into_iter().flatten() {
        line(shown(record, false))?;
    }
    Ok(())
}

/// Begins with what is kept; a connection that is made again goes on with what comes.
async fn follow_logs(
    client: &Client,
    options: &LogsOptions,
    filter: &[(&'static str, String)],
) -> anyhow::Result<()> {
    let path = ["routes", &options.route, "logs", "tail"];
    let asked = [filter, &[("last", options.limit.to_string())]].concat();
    let first = client.stream(&path, &asked).await?;
    follow(client, first, &path, filter, |sent: &Sent| {
        let record: Value = serde_json::from_str(&sent.data)?;
        Ok(match sent.kind.as_str() {
            "missed" if options.json => json!({ "missed": record["count"] }).to_string(),
            "missed" => format!("… {} lines were not shown: they came too fast", at(&record, "/count")),
            _ => shown(&record, options.json),
        })
    })
    .await
}

fn shown(record: &Value, as_json: bool) -> String {
    if as_json {
        return record.to_string();
    }
    let part = match record["part"].as_str() {
        Some("active") | None => String::new(),
        Some(part) => format!(" ({part} {})", at(record, "/version")),
    };
    format!(
        "{}  {:<8}  {}{part}  {}  {}",
        at(record, "/time"),
        at(record, "/level"),
        at(record, "/reading"),
        at(record, "/context"),
        at(record, "/message")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_reads_as_the_life_of_a_reading() {
        let trace = json!({
            "id": "01A",
            "reading": { "time": "T0", "ingress": "web", "topic": "a/b", "payload_json": { "t": 1 } },
            "routes": [
                { "route": "hot", "took": false, "why": "its topic `a/b` does not match `x/#`" },
                { "route": "all", "took": true, "waits": { "attempts": 1, "due": "T9" } },
            ],
            "attempts": [{
                "route": "all", "time": "T1", "outcome": "retry", "again": "T9", "chained": ["01B"],
                "calls": [{ "version": 2, "part": "active", "elapsed_us": 12, "fault": "trapped: oh",
                            "logs": [{ "level": "warn", "context": "c", "message": "m\u{1b}" }] }],
            }],
            "deliveries": [{ "id": "01D", "target": "sink/out", "offers": [
                { "time": "T2", "outcome": "retry", "cause": "503" }, { "time": "T3", "outcome": "done" } ] }],
            "redriven": [], "dead_letters": ["01L"],
        });
        let expected = "01A  T0  web  a/b  {\"t\":1}\n\
                        route hot  did not take it: its topic `a/b` does not match `x/#`\n\
                        route all  took it\n  waits: 1 attempts failed, next not before T9\n\
                        T1  route all  retry at T9\n  version 2 (active)  12 µs: trapped: oh\n    warn  c  m\\u{1b}\n  \
                        → reading 01B\ndelivery 01D  to sink/out\n  T2  retry: 503\n  T3  done\ndead letter 01L";
        assert_eq!(told(&trace), expected);
    }
}
