//! What the process logs, to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::cli::{LogFormat, LogOptions};

#[derive(Debug, thiserror::Error)]
#[error("--log `{filter}` is no filter, such as `info` or `warn,sandbar_store=debug`: {cause}")]
pub(crate) struct BadFilter {
    filter: String,
    cause: ParseError,
}

/// `default`: the filter unless the options have one.
pub(crate) fn start(options: &LogOptions, default: &str) -> Result<(), BadFilter> {
    let filter = filter(options.filter.as_deref().unwrap_or(default))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would tell of a line that cannot be written with `eprintln!`, which panics then.
        .log_internal_errors(false);
    match options.format {
        LogFormat::Human => lines.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

fn filter(text: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::builder().parse(text).map_err(|cause| BadFilter { filter: text.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        assert!(filter("warn,sandbar_store=debug").is_ok());
        let error = filter("sandbar=loud").unwrap_err().to_string();
        assert!(error.starts_with("--log `sandbar=loud` is no filter, such as"), "{error}");
    }
}
