//! Messages as lines of a file.

mod appender;
mod csv;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sandbar_reading::{Clock, ConfigError, Delivery, SystemClock};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{Cause, DeliveryError, Progress, Sink, encode};
use csv::{ColumnConfig, Columns};
use writer::{Form, KEEP_MAX, Line, Settings, Writer};

/// Appends to one file, which no other process may write to at the same time.
#[derive(Debug)]
pub(crate) struct File {
    form: Arc<Form>,
    writer: Arc<Mutex<Writer>>,
}

/// One line a message. As JSON, an object: time, topic, device, content_type, attributes, payload (or payload_base64),
/// route, reading, id. As CSV, the columns that were chosen, and the id. A message counts as delivered once its line is synced to the disk. None of the last 10,000
/// lines is written a second time, also after a crash.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The file. Its folder is made if there is none.
    path: PathBuf,
    /// What a line is.
    #[serde(default)]
    format: Format,
    /// Of CSV: `time`, `topic`, `device`, `content_type`, `payload`, `route`, `reading`, `attribute:NAME`, or a JSON
    /// pointer into the payload such as `/celsius`; with a name of its own `{ name = "°C", from = "/celsius" }`. The
    /// last column is always `id`. Every file begins with the columns' names; a file with others is rotated.
    #[serde(default)]
    columns: Vec<ColumnConfig>,
    /// A file that would grow above this becomes `<path>.1`, and that one `<path>.2`.
    #[serde(default = "default_rotate_bytes")]
    rotate_bytes: NonZeroU64,
    /// So does a file whose first line is older than this, when the next message comes. Never by default.
    #[serde(default)]
    rotate_after_s: Option<NonZeroU64>,
    /// So many rotated files are kept, 1 to 1000; older ones are deleted.
    #[serde(default = "default_keep")]
    keep: NonZeroU16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// JSON lines.
    #[default]
    Json,
    /// Comma-separated values (RFC 4180), in UTF-8.
    Csv,
}

const fn default_rotate_bytes() -> NonZeroU64 {
    NonZeroU64::new(64 << 20).expect("not 0")
}

const fn default_keep() -> NonZeroU16 {
    NonZeroU16::new(8).expect("not 0")
}

impl Sink for File {
    const NAME: &'static str = "file";
    const EXAMPLE: &'static str = r#"path = "/var/lib/sandbar/messages.jsonl"
rotate_bytes = 67108864
rotate_after_s = 86400
keep = 8
"#;
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        if config.path.file_name().is_none() || config.path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(ConfigError::at("path", "must name a file"));
        }
        if config.keep.get() > KEEP_MAX {
            return Err(ConfigError::at("keep", format!("must be at most {KEEP_MAX}")));
        }
        let form = Arc::new(match config.format {
            Format::Json if config.columns.is_empty() => Form::Json,
            Format::Json => return Err(ConfigError::at("columns", "are of no use without format = \"csv\"")),
            Format::Csv => Form::Csv(Columns::new(&config.columns)?),
        });
        let settings = Settings {
            form: Arc::clone(&form),
            path: config.path,
            rotate_bytes: config.rotate_bytes.get(),
            rotate_after: config.rotate_after_s.map(|seconds| Duration::from_secs(seconds.get())),
            keep: config.keep.get(),
        };
        Ok(Self { form, writer: Arc::new(Mutex::new(Writer::new(settings))) })
    }

    async fn deliver(&self, batch: &[Delivery], _: &Progress) -> Result<(), DeliveryError> {
        let lines: Vec<_> = batch.iter().map(|delivery| line(&self.form, delivery)).collect();
        // Goes on to its end if this future is dropped; who comes next waits for it, without a thread, and finds the ids.
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let written = tokio::task::spawn_blocking(move || writer.write(&lines, SystemClock.now()));
        let retry = |delivered, cause| DeliveryError::Retry { delivered, after: None, cause };
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failed)) => Err(retry(failed.written, Cause::of(&failed.doing, &failed.source))),
            Err(error) => Err(retry(0, Cause::of("writing", &error))),
        }
    }
}

fn line(form: &Form, delivery: &Delivery) -> Line {
    let text = match form {
        Form::Json => {
            let mut text = Vec::new();
            encode::json(delivery, &mut text);
            text.push(b'\n');
            text
        }
        Form::Csv(columns) => columns.line(delivery),
    };
    Line { id: delivery.id, text }
}
