//! `sandbar record`: readings as they pass by, for `sandbar test`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::query;
use crate::client::Client;
use crate::recording::recorded;
use crate::sse::Decoder;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where to; - is standard output
    #[arg(default_value = "readings.jsonl")]
    file: PathBuf,
    /// Only those of this ingress
    #[arg(long)]
    ingress: Option<String>,
    /// Only those whose topic matches this filter
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// Only those of this device
    #[arg(long)]
    device: Option<String>,
    /// Stop after so many [default: go on until interrupted]
    #[arg(long, value_name = "READINGS")]
    count: Option<u64>,
    /// Stop after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

pub(crate) async fn run(client: &Client, options: Options) -> anyhow::Result<()> {
    let filter =
        query(&[("ingress", &options.ingress), ("topic", &options.topic), ("device", &options.device)]);
    let response = client.stream(&["tail"], &filter).await?;
    let mut file = open(&options.file)?;
    let mut told_to_end = signal(SignalKind::terminate()).context("listening for signals")?;
    // Once this is said, what is sent is recorded.
    eprintln!("sandbar: recording to {}; Ctrl-C ends it", options.file.display());
    let limit = Duration::from_secs(options.seconds.unwrap_or(u64::MAX / 2));
    let mut count = 0;
    let ended = tokio::select! {
        ended = write(client, response, &mut *file, options.count, &mut count) => ended,
        () = tokio::time::sleep(limit) => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = told_to_end.recv() => Ok(()),
    };
    file.flush().context("writing the recording")?;
    eprintln!("sandbar: {count} readings recorded");
    ended
}

async fn write(
    client: &Client,
    mut response: reqwest::Response,
    file: &mut (dyn Write + Send),
    most: Option<u64>,
    count: &mut u64,
) -> anyhow::Result<()> {
    let mut decoder = Decoder::default();
    loop {
        let Some(bytes) = response.chunk().await.map_err(|error| client.lost(error))? else {
            anyhow::bail!("the host ended the connection");
        };
        for sent in decoder.feed(&bytes)? {
            let data: Value = serde_json::from_str(&sent.data).context("what the host sends is no JSON")?;
            match sent.kind.as_str() {
                "missed" => eprintln!("sandbar: {} were missed: they came too fast", data["count"]),
                "reading" => {
                    if most.is_some_and(|most| *count >= most) {
                        return Ok(());
                    }
                    if let Some(line) = recorded(&data) {
                        writeln!(file, "{line}").context("writing the recording")?;
                        *count += 1;
                    }
                }
                _ => {}
            }
            if most.is_some_and(|most| *count >= most) {
                return Ok(());
            }
        }
        // Whatever ends this, what has come is there, and whole.
        file.flush().context("writing the recording")?;
    }
}

fn open(path: &Path) -> anyhow::Result<Box<dyn Write + Send>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdout()));
    }
    let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}
