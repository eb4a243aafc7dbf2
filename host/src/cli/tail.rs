//! `sandbar tail`.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::dead_letters::topic;
use super::query;
use crate::client::{Client, ClientError};
use crate::output::{at, line, payload};
use crate::sse::{Decoder, Sent};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only those of this ingress
    #[arg(long)]
    ingress: Option<String>,
    /// Only those whose topic matches this filter
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// Only those of this device
    #[arg(long)]
    device: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Options {
    pub(super) fn everything() -> Self {
        Self { ingress: None, topic: None, device: None, json: false }
    }
}

const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_LONGEST: Duration = Duration::from_secs(10);

/// The only place that connects again; the first connection must work.
pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    let filter =
        query(&[("ingress", &options.ingress), ("topic", &options.topic), ("device", &options.device)]);
    let first = client.stream(&["tail"], &filter).await?;
    follow(client, first, &["tail"], &filter, |sent| shown(sent, options.json)).await
}

/// A line for every event of `response`, and then of what is at `path`, for as long as there is anybody to read them.
pub(super) async fn follow(
    client: &Client,
    mut response: reqwest::Response,
    path: &[&str],
    filter: &[(&'static str, String)],
    shown: impl Fn(&Sent) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    loop {
        let cause = show(client, response, &shown).await?;
        eprintln!("sandbar: {cause}; connecting again …");
        response = connect_again(client, path, filter).await?;
        eprintln!("sandbar: connected again");
    }
}

/// Shows what comes until the connection ends, and says how it did.
async fn show(
    client: &Client,
    mut response: reqwest::Response,
    shown: &impl Fn(&Sent) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let mut decoder = Decoder::default();
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => {
                for sent in decoder.feed(&bytes)? {
                    line(shown(&sent)?)?;
                }
            }
            Ok(None) => return Ok("the host ended the connection".to_owned()),
            Err(error) => return Ok(client.lost(error).to_string()),
        }
    }
}

async fn connect_again(
    client: &Client,
    path: &[&str],
    filter: &[(&'static str, String)],
) -> Result<reqwest::Response, ClientError> {
    let mut wait = WAIT_FIRST;
    loop {
        tokio::time::sleep(wait).await;
        match client.stream(path, filter).await {
            Err(error) if is_passing(&error) => wait = (wait * 2).min(WAIT_LONGEST),
            answered => return answered,
        }
    }
}

/// Whether the host may answer otherwise in a while.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::NotRunning { .. } | ClientError::Lost { .. } => true,
        ClientError::Refused(problem) => matches!(problem.code.as_str(), "busy" | "stopping"),
        _ => false,
    }
}

fn shown(sent: &Sent, json: bool) -> anyhow::Result<String> {
    let mut data: Value = serde_json::from_str(&sent.data).context("what the host sends is no JSON")?;
    if json {
        if let Some(object) = data.as_object_mut() {
            object.insert("event".into(), sent.kind.as_str().into());
        }
        return Ok(data.to_string());
    }
    let (place, about) = match sent.kind.as_str() {
        "output" => {
            (format!("{} → {}", at(&data, "/route"), at(&data, "/target")), payload(&data["message"], 120))
        }
        "dead-letter" => (at(&data, "/route"), at(&data, "/cause")),
        "missed" => return Ok(format!("… {} were not shown: they came too fast", at(&data, "/count"))),
        _ => (at(&data, "/ingress"), payload(&data, 120)),
    };
    Ok(format!("{}  {:<11}  {place:<14}  {}  {about}", at(&data, "/time"), sent.kind, topic(&data)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(kind: &str, data: &str) -> Sent {
        Sent { kind: kind.into(), data: data.into() }
    }

    #[test]
    fn a_line_says_what_when_where_and_what_was_in_it() {
        for (kind, data, expected) in [
            (
                "reading",
                r#"{"time":"2026-01-31T12:00:00Z","ingress":"web","topic":"hooks/boiler","payload_json":{"t":71}}"#,
                r#"2026-01-31T12:00:00Z  reading      web             hooks/boiler  {"t":71}"#,
            ),
            (
                "output",
                r#"{"time":"2026-01-31T12:00:00Z","route":"r","target":"sink/log","message":{"topic":"a","payload":"x"}}"#,
                "2026-01-31T12:00:00Z  output       r → sink/log    a  x",
            ),
            (
                "dead-letter",
                r#"{"time":"2026-01-31T12:00:00Z","route":"celsius","cause":"no field","reading":{"topic":"hooks/boiler"}}"#,
                "2026-01-31T12:00:00Z  dead-letter  celsius         hooks/boiler  no field",
            ),
            ("missed", r#"{"count":7}"#, "… 7 were not shown: they came too fast"),
        ] {
            assert_eq!(shown(&sent(kind, data), false).unwrap(), expected);
        }
    }

    #[test]
    fn as_json_each_line_says_what_it_is() {
        let line = shown(&sent("output", r#"{"topic":"t"}"#), true).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            serde_json::json!({ "topic": "t", "event": "output" })
        );
    }

    #[test]
    fn only_what_may_pass_is_waited_for() {
        let url = "http://127.0.0.1:7420".to_owned();
        assert!(is_passing(&ClientError::NotRunning { url: url.clone() }));
        assert!(!is_passing(&ClientError::WrongToken { url }));
    }
}
