//! Kraken Collector's environment variables as a configuration: the same collectors without a TOML file.
//!
//! Where Kraken's documentation and code differ, this follows the documentation, and accepts the code's spelling.

mod collectors;
mod table;
mod variables;

use std::path::Path;

use sandbar_control::{ConfigProblem, Declared};

use self::variables::{VariableError, Variables};

/// What problems name in place of a file.
const ORIGIN: &str = "(Kraken's environment variables)";

/// `sandbar.toml` that does what the variables say.
#[derive(Clone, Debug)]
pub(crate) struct FromKraken {
    text: String,
}

impl FromKraken {
    /// `None` if there is not one of them. `drivers`: those that this host was built with.
    pub(crate) fn read<'a>(
        environment: impl Iterator<Item = (String, String)>,
        drivers: impl Fn(&str) -> bool + 'a,
    ) -> Result<Option<Self>, VariableError> {
        let variables = Variables::read(environment)?;
        if variables.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { text: collectors::configuration(&variables, drivers)? }))
    }

    /// Of this process.
    pub(crate) fn of_environment() -> Result<Option<Self>, VariableError> {
        // What is not UTF-8 is none of Kraken's, or is refused by its name being lost: see `Variables::read`.
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        Self::read(environment, |driver| sandbar_ingress::kinds().any(|kind| kind.name == driver))
    }

    /// To be printed.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn declared(&self) -> Result<Declared, ConfigProblem> {
        // There is no file whose changes could be watched.
        Declared::parse(&self.text, Path::new(""))
            .map_err(|problem| ConfigProblem { file: ORIGIN.into(), ..problem })
    }
}

#[cfg(test)]
mod tests;
