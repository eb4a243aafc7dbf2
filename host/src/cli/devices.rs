//! `sandbar devices`.

use serde_json::{Map, Value, json};

use super::{Page, query};
use crate::client::Client;
use crate::output::{self, Column, aligned, at, line, payload};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListOptions,
}

#[derive(Debug, clap::Args)]
struct ListOptions {
    /// Only those with this label, as `key` or `key:value`; several with commas between
    #[arg(long)]
    label: Option<String>,
    /// Only those that are `online`, `offline` or `lost`
    #[arg(long)]
    presence: Option<String>,
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// All of them, by id (also without a command)
    List(ListOptions),
    /// One of them: what it last reported, and what it should
    Show {
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Names a device, gives it a type and labels; what is left out is taken away
    Put(PutOptions),
    /// Forgets a device that is not connected
    Delete { id: String },
    /// Its readings, newest first
    Readings {
        id: String,
        #[command(flatten)]
        page: Page,
    },
    /// The commands for it, newest first
    Commands {
        id: String,
        #[command(flatten)]
        page: Page,
    },
    /// Gives it a command: `sandbar devices send lamp-1 led 1`
    Send(SendOptions),
    /// Gives it a command and prints what it answers
    Query(SendOptions),
    /// Takes a command back that was not sent yet
    Cancel { id: String, command: String },
    /// Says what a resource should be: `sandbar devices desire lamp-1 led 1`
    Desire {
        id: String,
        resource: String,
        /// JSON; what is none is a text. Without it, the resource is left as it is
        value: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct PutOptions {
    id: String,
    #[arg(long)]
    name: Option<String>,
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// `key=value`; may be given more than once
    #[arg(long, value_parser = parse_label)]
    label: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
struct SendOptions {
    id: String,
    /// The command's name
    name: String,
    /// JSON; what is none is sent as text
    payload: Option<String>,
    /// Seconds until it expires, or the answer is not waited for any more
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// Refuses it if the device cannot be reached now
    #[arg(long)]
    at_once: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

const COLUMNS: &[Column] = &[
    Column { title: "ID", cell: |item| at(item, "/id") },
    Column { title: "PRESENCE", cell: |item| at(item, "/presence") },
    Column { title: "SINCE", cell: |item| at(item, "/since") },
    Column { title: "LAST SEEN", cell: |item| at(item, "/last_seen") },
    Column { title: "TYPE", cell: |item| at(item, "/type") },
    Column { title: "INGRESSES", cell: |item| at(item, "/ingresses") },
    Column { title: "NAME", cell: |item| at(item, "/name") },
    Column { title: "LABELS", cell: labels },
];

const COMMANDS: &[Column] = &[
    Column { title: "ID", cell: |item| at(item, "/id") },
    Column { title: "NAME", cell: |item| at(item, "/name") },
    Column { title: "STATE", cell: |item| at(item, "/state") },
    Column { title: "CREATED", cell: |item| at(item, "/created") },
    Column { title: "CHANGED", cell: |item| at(item, "/changed") },
    Column { title: "ANSWER", cell: |item| payload(&item["answer"], 60) },
    Column { title: "CAUSE", cell: |item| at(item, "/cause") },
];

const READINGS: &[Column] = &[
    Column { title: "ID", cell: |item| at(item, "/id") },
    Column { title: "TIME", cell: |item| at(item, "/time") },
    Column { title: "INGRESS", cell: |item| at(item, "/ingress") },
    Column { title: "TOPIC", cell: |item| at(item, "/topic") },
    Column { title: "PAYLOAD", cell: |item| payload(item, 60) },
];

pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    match options.action.unwrap_or(Action::List(options.list)) {
        Action::List(list) => {
            let filter = query(&[("label", &list.label), ("presence", &list.presence), ("type", &list.kind)]);
            let answer = client.get(&["devices"], &list.page.add_to(filter)).await?;
            output::listing(&answer, list.page.json, "no device is known", COLUMNS)?;
        }
        Action::Show { id, json } => {
            let device = client.get(&["devices", &id], &[]).await?;
            if json { output::json(&device)? } else { line(shown(&device))? }
        }
        Action::Put(PutOptions { id, name, kind, label }) => {
            let labels: Map<_, _> = label.into_iter().map(|(key, value)| (key, value.into())).collect();
            let mut body = json!({ "labels": labels });
            for (key, value) in [("name", name), ("type", kind)] {
                if let Some(value) = value {
                    body[key] = value.into();
                }
            }
            output::json(&client.put(&["devices", &id], &body).await?)?;
        }
        Action::Delete { id } => {
            client.delete(&["devices", &id]).await?;
            line(format_args!("{id} is forgotten"))?;
        }
        Action::Readings { id, page } => {
            let answer = client.get(&["devices", &id, "readings"], &page.add_to(Vec::new())).await?;
            output::listing(&answer, page.json, "no readings", READINGS)?;
        }
        Action::Commands { id, page } => {
            let answer = client.get(&["devices", &id, "commands"], &page.add_to(Vec::new())).await?;
            output::listing(&answer, page.json, "no commands", COMMANDS)?;
        }
        Action::Send(options) => give(client, options, "send").await?,
        Action::Query(options) => give(client, options, "query").await?,
        Action::Cancel { id, command } => {
            client.delete(&["devices", &id, "commands", &command]).await?;
            line(format_args!("{command} is cancelled"))?;
        }
        Action::Desire { id, resource, value: None } => {
            client.delete(&["devices", &id, "desired", &resource]).await?;
            line(format_args!("{resource} of {id} is left as it is"))?;
        }
        Action::Desire { id, resource, value: Some(value) } => {
            let body = json!({ "value": json_or_text(value) });
            let device = client.put(&["devices", &id, "desired", &resource], &body).await?;
            line(shown(&device))?;
        }
    }
    Ok(())
}

async fn give(client: &Client, options: SendOptions, mode: &str) -> anyhow::Result<()> {
    let SendOptions { id, name, payload: sent, timeout, at_once, json } = options;
    let mut body = json!({ "name": name, "mode": mode });
    if let Some(sent) = sent {
        body["payload"] = json_or_text(sent);
    }
    if let Some(timeout) = timeout {
        body["timeout"] = timeout.into();
    }
    if at_once {
        body["when_offline"] = "refuse".into();
    }
    let command = client.post(&["devices", &id, "commands"], &body).await?;
    match (json, mode) {
        (true, _) => output::json(&command)?,
        (false, "query") => line(payload(&command["answer"], usize::MAX))?,
        (false, _) => line(format_args!("{} {}", at(&command, "/id"), at(&command, "/state")))?,
    }
    Ok(())
}

fn json_or_text(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or_else(|_| text.into())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let label = text.split_once('=').filter(|(key, _)| !key.is_empty());
    label.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "must be key=value".to_owned())
}

fn labels(device: &Value) -> String {
    let labels = device["labels"].as_object().into_iter().flatten();
    labels
        .map(|(key, value)| output::cell(&format!("{key}:{}", at(value, "")).into()))
        .collect::<Vec<_>>()
        .join(",")
}

/// A device, and a row for each of its resources.
fn shown(device: &Value) -> String {
    let said = |pointer| at(device, pointer);
    let device_line = format!(
        "{}  {}  since {}  reached by {}",
        said("/id"),
        said("/presence"),
        said("/since"),
        said("/reached_by")
    );
    let mut rows = Vec::new();
    let (empty, none) = (Map::new(), Map::new());
    let resources = device["resources"].as_object().unwrap_or(&empty);
    let desired = device["desired"].as_object().unwrap_or(&none);
    let mut names: Vec<_> = resources.keys().chain(desired.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let is = resources.get(name).map_or_else(|| "-".to_owned(), |is| output::cell(&is["value"]));
        let mut row = vec![format!("  {}", output::cell(&name.as_str().into())), is];
        if let Some(wanted) = desired.get(name) {
            let reached = if wanted["reached"] == true { "reached" } else { "not reached yet" };
            row.push(format!("should be {} ({reached})", output::cell(&wanted["value"])));
        }
        rows.push(row);
    }
    [device_line, aligned(rows)].join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_device_is_shown_with_what_it_is_and_should_be() {
        let device = json!({
            "id": "lamp-1", "presence": "online", "since": "2026-01-01T00:00:00Z", "reached_by": "mqtt",
            "resources": { "led": { "value": 0 }, "temp": { "value": 21.5 } },
            "desired": { "led": { "value": 1, "reached": false } },
        });
        expect![[r#"
            lamp-1  online  since 2026-01-01T00:00:00Z  reached by mqtt
              led   0     should be 1 (not reached yet)
              temp  21.5"#]]
        .assert_eq(&shown(&device));
    }

    #[test]
    fn what_is_no_json_is_a_text() {
        assert_eq!(json_or_text("1".to_owned()), json!(1));
        assert_eq!(json_or_text("on".to_owned()), json!("on"));
        assert_eq!(parse_label("room=cellar"), Ok(("room".to_owned(), "cellar".to_owned())));
        assert!(parse_label("room").is_err());
    }
}
