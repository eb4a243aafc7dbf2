//! `sandbar connections`.

use super::{Page, query};
use crate::client::Client;
use crate::output::{self, Column, at};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only those of this ingress
    #[arg(long, value_name = "INGRESS")]
    ingress: Option<String>,
    #[command(flatten)]
    page: Page,
}

const COLUMNS: &[Column] = &[
    Column { title: "ID", cell: |item| at(item, "/id") },
    Column { title: "INGRESS", cell: |item| at(item, "/ingress") },
    Column { title: "REMOTE", cell: |item| at(item, "/remote") },
    Column { title: "DEVICE", cell: |item| at(item, "/device") },
    Column { title: "CLIENT", cell: |item| at(item, "/client") },
    Column { title: "SINCE", cell: |item| at(item, "/created") },
    Column { title: "RECEIVED", cell: |item| at(item, "/received/messages") },
    Column { title: "SENT", cell: |item| at(item, "/sent/messages") },
    Column { title: "QUEUED", cell: |item| at(item, "/queued") },
    Column { title: "AGENT", cell: |item| at(item, "/agent") },
];

pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    let filter = query(&[("ingress", &options.ingress)]);
    let answer = client.get(&["connections"], &options.page.add_to(filter)).await?;
    Ok(output::listing(&answer, options.page.json, "no connection is open", COLUMNS)?)
}
