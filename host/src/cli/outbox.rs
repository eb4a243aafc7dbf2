//! `sandbar outbox`.

use serde_json::{Map, Value};

use super::{Page, query};
use crate::client::Client;
use crate::output::{self, Column, at, line, payload};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only what waits for this sink, or for `device/ID`
    #[arg(long, value_name = "SINK", value_parser = parse_target)]
    target: Option<String>,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Does not wait for the next attempt: tries now
    Retry {
        /// Only what waits for this sink, or for `device/ID`
        #[arg(long, value_name = "SINK", value_parser = parse_target)]
        target: Option<String>,
    },
}

const COLUMNS: &[Column] = &[
    Column { title: "ID", cell: |item| at(item, "/id") },
    Column { title: "TIME", cell: |item| at(item, "/time") },
    Column { title: "TARGET", cell: |item| at(item, "/target") },
    Column { title: "ROUTE", cell: |item| at(item, "/route") },
    Column { title: "TOPIC", cell: |item| at(item, "/message/topic") },
    Column { title: "ATTEMPTS", cell: |item| at(item, "/attempts") },
    Column { title: "PAYLOAD", cell: |item| payload(&item["message"], 60) },
    Column { title: "LAST CAUSE", cell: |item| at(item, "/last_cause") },
];

pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    if let Some(Action::Retry { target }) = options.action {
        let target = target.map(|target| ("target".to_owned(), Value::from(target)));
        client.post(&["outbox", "retry"], &Value::Object(Map::from_iter(target))).await?;
        return Ok(line("what waits is tried now")?);
    }
    let filter = query(&[("target", &options.target)]);
    let answer = client.get(&["outbox"], &options.page.add_to(filter)).await?;
    Ok(output::listing(&answer, options.page.json, "nothing waits", COLUMNS)?)
}

/// A target as the API names it.
fn parse_target(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        None => Ok(format!("sink/{text}")),
        Some(("sink" | "device", name)) if !name.is_empty() => Ok(text.to_owned()),
        Some(_) => Err("must be a sink's name, `sink/NAME` or `device/ID`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_sink_unless_it_says_device() {
        assert_eq!(parse_target("alerts").unwrap(), "sink/alerts");
        assert_eq!(parse_target("sink/alerts").unwrap(), "sink/alerts");
        assert_eq!(parse_target("device/a/b").unwrap(), "device/a/b");
        assert!(parse_target("route/a").is_err());
    }
}
