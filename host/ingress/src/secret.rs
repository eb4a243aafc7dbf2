//! Secrets in settings: by reference where it can be, never printed.

use std::fmt;

use sandbar_reading::ConfigError;
use schemars::JsonSchema;
use serde::Deserialize;

/// A secret: `{ env = "NAME" }`, `{ file = "/path" }` (a last line break is dropped), or the text itself.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Secret {
    Env(SecretEnv),
    File(SecretFile),
    Text(String),
}

/// The environment variable that holds it.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretEnv {
    env: String,
}

/// The file that holds it.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    file: String,
}

impl Secret {
    /// Reads it; `setting` is where it stands, for the error. An empty secret is none.
    pub fn read(&self, setting: &str) -> Result<String, ConfigError> {
        let text = match self {
            Self::Env(SecretEnv { env }) => std::env::var(env)
                .map_err(|error| ConfigError::at(setting, format!("environment variable {env}: {error}")))?,
            Self::File(SecretFile { file }) => std::fs::read_to_string(file)
                .map_err(|error| ConfigError::at(setting, format!("{file}: {error}")))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
            Self::Text(text) => text.clone(),
        };
        match text.is_empty() {
            true => Err(ConfigError::at(setting, "is empty")),
            false => Ok(text),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(SecretEnv { env }) => write!(f, "env {env}"),
            Self::File(SecretFile { file }) => write!(f, "file {file}"),
            Self::Text(_) => f.write_str("***"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(json: &str) -> Secret {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn is_read_from_where_it_is_kept() {
        let file = std::env::temp_dir().join(format!("sandbar-secret-{}", std::process::id()));
        std::fs::write(&file, "s3cret\n").unwrap();
        let by_file = secret(&serde_json::json!({ "file": file }).to_string());
        assert_eq!(by_file.read("token").unwrap(), "s3cret");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(by_file.read("token").unwrap_err().setting, "token");
        assert!(secret(r#"{"env":"PATH"}"#).read("token").is_ok());
        let missing = secret(r#"{"env":"SANDBAR_NOT_SET"}"#).read("token").unwrap_err();
        assert!(missing.problem.contains("SANDBAR_NOT_SET"), "{missing}");
        assert!(secret(r#""""#).read("token").is_err());
    }

    #[test]
    fn is_not_printed() {
        assert_eq!(format!("{:?}", secret(r#""s3cret""#)), "***");
    }
}
