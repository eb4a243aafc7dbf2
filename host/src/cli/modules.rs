//! `sandbar modules`.

use serde_json::Value;

use super::deploy::activate;
use crate::client::Client;
use crate::output::{self, Column, at, bytes, line};

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
    /// All modules (also without a command)
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One module and its versions
    Get {
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Makes a version the active one
    Activate { name: String, version: u64 },
    /// Removes a module that no route uses, with its versions
    Delete { name: String },
}

const COLUMNS: &[Column] = &[
    Column { title: "MODULE", cell: |item| at(item, "/name") },
    Column { title: "FROM", cell: super::tables::declared },
    Column { title: "ACTIVE", cell: |item| at(item, "/active") },
    Column { title: "VERSIONS", cell: |item| item["versions"].as_array().map_or(0, Vec::len).to_string() },
    Column { title: "DIGEST", cell: active_digest },
    Column { title: "ROUTES", cell: |item| at(item, "/routes") },
];

const VERSIONS: &[Column] = &[
    Column { title: "VERSION", cell: |item| at(item, "/version") },
    Column { title: "SIZE", cell: |item| bytes(item["size"].as_u64().unwrap_or_default()) },
    Column { title: "UPLOADED", cell: |item| at(item, "/uploaded") },
    Column { title: "DIGEST", cell: |item| at(item, "/digest") },
];

pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    match options.action.unwrap_or(Action::List { json: options.json }) {
        Action::List { json } => {
            let answer = client.get(&["modules"], &[]).await?;
            output::listing(
                &answer,
                json,
                "no modules: `sandbar deploy NAME FILE.wasm` uploads one",
                COLUMNS,
            )?;
        }
        Action::Get { name, json } => {
            let module = client.get(&["modules", &name], &[]).await?;
            print_module(&module, json)?;
        }
        Action::Activate { name, version } => {
            activate(client, &name, version).await?;
            line(format_args!("{name}: version {version} is active"))?;
        }
        Action::Delete { name } => {
            client.delete(&["modules", &name]).await?;
            line(format_args!("{name} is deleted"))?;
        }
    }
    Ok(())
}

fn print_module(module: &Value, json: bool) -> std::io::Result<()> {
    if json {
        return output::json(module);
    }
    line(format_args!("{}: version {} is active\n", at(module, "/name"), at(module, "/active")))?;
    output::listing(&serde_json::json!({ "items": module["versions"] }), false, "no versions", VERSIONS)
}

/// Enough of the active version's digest to tell versions apart.
fn active_digest(module: &Value) -> String {
    let versions = module["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let active = versions.iter().find(|version| version["version"] == module["active"]);
    active.map_or_else(|| "-".to_owned(), |version| at(version, "/digest").chars().take(12).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_digest_is_the_active_versions() {
        let module = json!({ "active": 1, "versions": [
            { "version": 2, "digest": "22222222222222222222" },
            { "version": 1, "digest": "11111111111111111111" },
        ] });
        assert_eq!(active_digest(&module), "111111111111");
        assert_eq!(
            active_digest(&json!({ "active": null, "versions": [{ "version": 1, "digest": "1" }] })),
            "-"
        );
    }
}
