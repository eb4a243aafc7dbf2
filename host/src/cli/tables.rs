//! `sandbar routes`, `ingresses` and `sinks`: what the configuration's tables of that name declare, and what
//! the API keeps.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::read_bytes;
use crate::client::Client;
use crate::output::{self, Column, at, line};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// All of them (also without a command)
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One of them with its settings and its status, as JSON
    Get { name: String },
    /// Makes or replaces one; what the configuration file declares is changed there
    Put {
        name: String,
        /// Its settings, as in the configuration: .toml, .json, or - for standard input
        file: PathBuf,
    },
    /// Removes one
    Delete { name: String },
}

/// One of the three kinds of tables.
pub(crate) struct Tables {
    /// In the API's paths.
    pub(super) path: &'static str,
    nothing: &'static str,
    /// What it is called, what is configured, and how it is doing.
    title: &'static str,
    settings: &'static [Column],
    status: &'static [Column],
}

pub(crate) const ROUTES: Tables = Tables {
    path: "routes",
    nothing: "no routes",
    title: "ROUTE",
    settings: &[
        Column { title: "FROM", cell: declared },
        Column { title: "TOPIC", cell: |item| at(item, "/topic") },
        Column { title: "MODULE", cell: |item| at(item, "/module") },
        Column { title: "SINKS", cell: |item| at(item, "/sinks") },
    ],
    status: &[
        Column { title: "VERSION", cell: |item| at(item, "/status/version") },
        Column { title: "HANDLED", cell: |item| at(item, "/status/handled") },
        Column { title: "FAILED", cell: |item| at(item, "/status/failed_attempts") },
        Column { title: "DEAD", cell: |item| at(item, "/status/dead_letters") },
        Column { title: "FAULTS", cell: faults },
        Column { title: "PROBLEM", cell: problem },
    ],
};

pub(crate) const INGRESSES: Tables = Tables {
    path: "ingresses",
    nothing: "no ingresses",
    title: "INGRESS",
    settings: &[
        Column { title: "FROM", cell: declared },
        Column { title: "DRIVER", cell: |item| at(item, "/driver") },
    ],
    status: &[
        Column { title: "STATE", cell: |item| at(item, "/status/state") },
        Column { title: "ADDRESS", cell: |item| at(item, "/status/address") },
        Column { title: "ACCEPTED", cell: |item| at(item, "/status/accepted") },
        Column { title: "PROBLEM", cell: problem },
    ],
};

pub(crate) const SINKS: Tables = Tables {
    path: "sinks",
    nothing: "no sinks",
    title: "SINK",
    settings: &[
        Column { title: "FROM", cell: declared },
        Column { title: "KIND", cell: |item| at(item, "/kind") },
    ],
    status: &[
        Column { title: "CIRCUIT", cell: |item| at(item, "/status/circuit") },
        Column { title: "ACCEPTED", cell: |item| at(item, "/status/accepted") },
        Column { title: "GIVEN UP", cell: |item| at(item, "/status/given_up") },
        Column { title: "PROBLEM", cell: problem },
    ],
};

impl Tables {
    fn columns(&self) -> Vec<Column> {
        [&[self.name()], self.settings, self.status].concat()
    }

    /// For items that have no settings.
    pub(super) fn status_columns(&self) -> Vec<Column> {
        [&[self.name()], self.status].concat()
    }

    fn name(&self) -> Column {
        Column { title: self.title, cell: |item| at(item, "/name") }
    }
}

pub(crate) async fn run(client: &Client, tables: &Tables, options: Options) -> anyhow::Result<()> {
    match options.action.unwrap_or(Action::List { json: options.json }) {
        Action::List { json } => {
            let answer = client.get(&[tables.path], &[]).await?;
            output::listing(&answer, json, tables.nothing, &tables.columns())?;
        }
        Action::Get { name } => output::json(&client.get(&[tables.path, &name], &[]).await?)?,
        Action::Put { name, file } => {
            let table = parse_table(&file, &read_bytes(&file)?)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            client.put(&[tables.path, &name], &table).await?;
            line(format_args!("{name} is in place"))?;
        }
        Action::Delete { name } => {
            client.delete(&[tables.path, &name]).await?;
            line(format_args!("{name} is deleted"))?;
        }
    }
    Ok(())
}

/// By the file's name; what comes from standard input is JSON if it begins like an object.
fn parse_table(file: &Path, bytes: &[u8]) -> anyhow::Result<Value> {
    let text = std::str::from_utf8(bytes)?;
    let is_json = match file.extension().and_then(|extension| extension.to_str()) {
        Some("json") => true,
        Some("toml") => false,
        _ => text.trim_start().starts_with('{'),
    };
    match is_json {
        true => Ok(serde_json::from_str(text)?),
        false => Ok(toml::from_str(text)?),
    }
}

pub(super) fn declared(item: &Value) -> String {
    match item["declared"].as_bool() {
        Some(true) => "file".to_owned(),
        _ => "api".to_owned(),
    }
}

/// What its handler's calls came to other than outputs, and which limits it passed: `timed_out 2, trap 1`.
fn faults(item: &Value) -> String {
    let handler = &item["status"]["handler"];
    let faults = handler["faults"].as_object().into_iter().flatten();
    let refused = handler["refused_writes"].as_u64().filter(|count| *count > 0);
    let all: Vec<_> = faults
        .map(|(code, count)| format!("{code} {count}"))
        .chain(refused.map(|count| format!("refused_writes {count}")))
        .collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

/// Why it does not work now. What failed last is no problem of something that runs again.
fn problem(item: &Value) -> String {
    let status = &item["status"];
    let works = status["state"] == "running" || status["circuit"] == "closed";
    match status["broken"].as_str() {
        Some(_) => at(status, "/broken"),
        None if works => "-".to_owned(),
        None => at(status, "/last_error/text"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_toml_or_json() {
        let expected = json!({ "topic": ["a/#"], "reply": true });
        for (file, text) in [
            ("r.toml", "topic = [\"a/#\"]\nreply = true\n"),
            ("r.json", r#"{"topic": ["a/#"], "reply": true}"#),
            ("-", "topic = [\"a/#\"]\nreply = true\n"),
            ("-", " {\"topic\": [\"a/#\"], \"reply\": true}"),
        ] {
            assert_eq!(parse_table(Path::new(file), text.as_bytes()).unwrap(), expected, "{file}");
        }
        assert!(parse_table(Path::new("r.json"), b"topic = 1").is_err());
    }

    #[test]
    fn faults_and_passed_limits_are_counted_by_name() {
        let handler = json!({ "faults": { "timed_out": 2, "trap": 1 }, "refused_writes": 7 });
        let told = faults(&json!({ "status": { "handler": handler } }));
        assert_eq!(told, "timed_out 2, trap 1, refused_writes 7");
        assert_eq!(faults(&json!({ "status": { "handler": { "faults": {}, "refused_writes": 0 } } })), "-");
        assert_eq!(faults(&json!({ "status": {} })), "-");
    }

    #[test]
    fn only_what_does_not_work_now_is_a_problem() {
        let status = |state, broken| json!({ "status": { "state": state, "broken": broken, "last_error": { "text": "port taken" } } });
        assert_eq!(problem(&status("running", Value::Null)), "-");
        assert_eq!(problem(&status("backing-off", Value::Null)), "port taken");
        assert_eq!(problem(&status("stopped", json!("no such setting"))), "no such setting");
        assert_eq!(
            problem(&json!({ "status": { "circuit": "closed", "last_error": { "text": "x" } } })),
            "-"
        );
    }
}
