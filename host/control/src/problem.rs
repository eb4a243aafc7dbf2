//! What is wrong in a configuration file, and where.

use std::fmt;
use std::path::PathBuf;

/// A problem of a configuration file; its text is `sandbar.toml:12: ingress.web.listen: …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigProblem {
    pub file: PathBuf,
    /// The line that is wrong, from 1; for something that is missing, the line of the table that lacks it.
    pub line: usize,
    /// The path of the setting: `ingress.web.paths[1].method`; empty if the file is no TOML.
    pub setting: String,
    pub problem: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        match self.setting.as_str() {
            "" => f.write_str(&self.problem),
            setting => write!(f, "{setting}: {}", self.problem),
        }
    }
}
