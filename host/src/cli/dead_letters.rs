//! `sandbar dead-letters`.

use clap::ArgGroup;
use serde_json::{Map, Value};

use super::{Page, query};
use crate::client::Client;
use crate::output::{self, Column, at, line};

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
    /// Only those of this route
    #[arg(long)]
    route: Option<String>,
    /// Only those that this sink did not take
    #[arg(long)]
    sink: Option<String>,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// All of them, newest first (also without a command)
    List(ListOptions),
    /// One of them, whole, as JSON
    Show { id: String },
    /// Tries one, or with --all each of them, again from the beginning
    Redrive(RedriveOptions),
    /// Drops one for good
    Discard { id: String },
}

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("which").required(true).args(["id", "all"])))]
struct RedriveOptions {
    id: Option<String>,
    /// All of them
    #[arg(long)]
    all: bool,
    /// All those of this route
    #[arg(long, requires = "all", conflicts_with_all = ["sink", "id"])]
    route: Option<String>,
    /// All those that this sink did not take
    #[arg(long, requires = "all", conflicts_with = "id")]
    sink: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column { title: "ID", cell: |item| at(item, "/id") },
    Column { title: "TIME", cell: |item| at(item, "/time") },
    Column { title: "ROUTE", cell: |item| at(item, "/route") },
    Column { title: "TARGET", cell: |item| at(item, "/target") },
    Column { title: "TOPIC", cell: topic },
    Column { title: "ATTEMPTS", cell: |item| at(item, "/attempts") },
    Column { title: "CAUSE", cell: |item| at(item, "/cause") },
];

pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    match options.action.unwrap_or(Action::List(options.list)) {
        Action::List(list) => {
            let filter = query(&[("route", &list.route), ("sink", &list.sink)]);
            let answer = client.get(&["dead-letters"], &list.page.add_to(filter)).await?;
            output::listing(&answer, list.page.json, "no dead letters", COLUMNS)?;
        }
        Action::Show { id } => output::json(&client.get(&["dead-letters", &id], &[]).await?)?,
        Action::Redrive(RedriveOptions { id: Some(id), .. }) => {
            client.post(&["dead-letters", &id, "redrive"], &Value::Object(Map::new())).await?;
            line(format_args!("{id} is tried again"))?;
        }
        Action::Redrive(RedriveOptions { route, sink, .. }) => {
            let filter = query(&[("route", &route), ("sink", &sink)]);
            let filter = filter.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
            let answer = client.post(&["dead-letters", "redrive"], &Value::Object(filter.collect())).await?;
            line(format_args!("tried again: {}", at(&answer, "/redriven")))?;
        }
        Action::Discard { id } => {
            client.delete(&["dead-letters", &id]).await?;
            line(format_args!("{id} is dropped"))?;
        }
    }
    Ok(())
}

/// Of a reading, of what is delivered, or of either in a dead letter.
pub(super) fn topic(item: &Value) -> String {
    let places = ["/topic", "/message/topic", "/reading/topic", "/delivery/message/topic"];
    places.iter().find_map(|place| item.pointer(place)).map_or_else(|| "-".to_owned(), output::cell)
}
