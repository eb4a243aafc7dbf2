//! `sandbar readings`.

use super::{Page, query};
use crate::client::Client;
use crate::output::{self, Column, at, payload};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only those of this ingress
    #[arg(long)]
    ingress: Option<String>,
    /// Only those whose topic matches this filter
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// Only those of this device
    #[arg(long)]
    device: Option<String>,
    /// Only those accepted since then: 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// One reading, whole, as JSON
    Show { id: String },
}

const COLUMNS: &[Column] = &[
    Column { title: "ID", cell: |item| at(item, "/id") },
    Column { title: "TIME", cell: |item| at(item, "/time") },
    Column { title: "INGRESS", cell: |item| at(item, "/ingress") },
    Column { title: "TOPIC", cell: |item| at(item, "/topic") },
    Column { title: "DEVICE", cell: |item| at(item, "/device") },
    Column { title: "PAYLOAD", cell: |item| payload(item, 80) },
];

pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    if let Some(Action::Show { id }) = options.action {
        return Ok(output::json(&client.get(&["readings", &id], &[]).await?)?);
    }
    let filter = query(&[
        ("ingress", &options.ingress),
        ("topic", &options.topic),
        ("device", &options.device),
        ("since", &options.since),
    ]);
    let answer = client.get(&["readings"], &options.page.add_to(filter)).await?;
    Ok(output::listing(&answer, options.page.json, "no readings", COLUMNS)?)
}
