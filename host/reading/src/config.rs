//! How settings become a component's own struct, and what is said of one that cannot work.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The path of the setting within its table: `paths[1].method`; empty for the table itself.
    pub setting: String,
    pub problem: String,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.setting.as_str() {
            "" => f.write_str(&self.problem),
            setting => write!(f, "{setting}: {}", self.problem),
        }
    }
}

impl ConfigError {
    pub fn at(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), problem: problem.into() }
    }

    /// The same, seen from the table that holds this one: `within("webhook")` makes `paths` into `webhook.paths`.
    #[must_use]
    pub fn within(self, table: &str) -> Self {
        let setting = match self.setting.as_str() {
            "" => table.to_owned(),
            inner if inner.starts_with('[') => format!("{table}{inner}"),
            inner => format!("{table}.{inner}"),
        };
        Self { setting, ..self }
    }
}

/// Reads `table` as a `T`; the error names the setting.
pub fn settings<T: DeserializeOwned>(table: Value) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(table).map_err(|error| {
        let path = error.path().to_string();
        ConfigError::at(if path == "." { "" } else { &path }, error.inner().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[allow(dead_code, reason = "only read by the error path")]
        paths: Vec<u16>,
    }

    #[test]
    fn names_the_setting() {
        let error = settings::<Example>(serde_json::json!({ "paths": [1, "two"] })).unwrap_err();
        assert_eq!(error.setting, "paths[1]");
        assert_eq!(error.within("ingress.web").setting, "ingress.web.paths[1]");
        let error = settings::<Example>(serde_json::json!({ "path": 1 })).unwrap_err();
        assert_eq!((error.setting.as_str(), &error.problem[..15]), ("path", "unknown field `"));
    }
}
