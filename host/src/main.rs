//! The binary `sandbar`: it composes the host and speaks to a running one, nothing else.

mod answers;
mod cli;
mod client;
mod componentize;
mod demo;
mod embedded;
mod kraken;
mod logging;
mod output;
mod project;
mod recording;
mod reference;
mod run;
mod sse;

use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::cli::Cli;
use crate::run::Stopped;

/// As the help says them.
const FAILED: u8 = 1;
const FORCED: u8 = 2;
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and versions are errors to clap, and no failures. Nobody is left to tell if this fails.
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    if let Err(problem) = logging::start(&cli.log, cli.log_default()) {
        eprintln!("sandbar: {problem}");
        return USAGE.into();
    }
    sandbar_control::heap::bound();
    install_tls();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sandbar: no threads to run on: {error}");
            return FAILED.into();
        }
    };
    let result = runtime.block_on(Box::pin(cli.run()));
    let code = exit_code(&result);
    // What was told to stop has stopped; what did not stop in its time is not waited for.
    match result {
        Ok(Stopped::Gracefully) => runtime.shutdown_timeout(Duration::from_secs(1)),
        _ => runtime.shutdown_background(),
    }
    code
}

/// Makes ring the provider of every TLS connection of this process.
fn install_tls() {
    // An error says that one is installed: any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn exit_code(result: &anyhow::Result<Stopped>) -> ExitCode {
    match result {
        Ok(Stopped::Gracefully) => ExitCode::SUCCESS,
        Ok(Stopped::ByForce) => FORCED.into(),
        // The reader has seen enough: `sandbar readings | head`.
        Err(error) if is_broken_pipe(error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbar: {}", chain(error));
            FAILED.into()
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// An error and what caused it, on one line; a cause that its effect quotes already is not said twice.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let inner = || anyhow::anyhow!("no such file");
        assert_eq!(chain(&inner().context("reading x")), "reading x: no such file");
        assert_eq!(chain(&inner().context("reading x: no such file")), "reading x: no such file");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&broken.into()));
        let result: Result<(), _> = Err(io::Error::from(io::ErrorKind::NotFound));
        assert!(!is_broken_pipe(&result.context("reading").unwrap_err()));
    }
}
