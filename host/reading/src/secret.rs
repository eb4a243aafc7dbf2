//! Settings that nobody should read in a log: tokens, passwords, keys.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::ConfigError;

/// A text that is never printed: `"the text itself"`, `{ env = "NAME" }` for an environment variable, or
/// `{ file = "/path" }` for a file's content, without the newline at its end.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "Written")]
#[schemars(with = "Written")]
pub struct Secret(Written);

/// As configurations spell it.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "must be a text, { env = \"NAME\" } with an environment variable or { file = \"/path\" }"
)]
enum Written {
    Inline(String),
    Env(FromEnv),
    File(FromFile),
}

#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FromEnv {
    env: String,
}

#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FromFile {
    file: PathBuf,
}

impl From<Written> for Secret {
    fn from(written: Written) -> Self {
        Self(written)
    }
}

impl Secret {
    pub fn inline(text: impl Into<String>) -> Self {
        Self(Written::Inline(text.into()))
    }

    /// The file that it is in, if it is in one: what is there may change.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.0 {
            Written::File(FromFile { file }) => Some(file.clone()),
            Written::Inline(_) | Written::Env(_) => None,
        }
    }

    /// The text itself. `read_file` is `std::fs::read_to_string` outside tests; the error names `setting`
    /// and where the text should have been, never the text. An empty text is an error: it protects nothing.
    pub fn resolve(
        &self,
        setting: &str,
        read_file: impl FnOnce(&Path) -> io::Result<String>,
    ) -> Result<String, ConfigError> {
        let (text, place) = match &self.0 {
            Written::Inline(text) => (text.clone(), "the text".to_owned()),
            Written::Env(FromEnv { env }) => {
                let place = format!("the environment variable {env}");
                let text = std::env::var(env)
                    .map_err(|_| ConfigError::at(setting, format!("{place} is not set, or not UTF-8")))?;
                (text, place)
            }
            Written::File(FromFile { file }) => {
                let place = format!("the file {}", file.display());
                let text = read_file(file)
                    .map_err(|error| ConfigError::at(setting, format!("{place} cannot be read: {error}")))?;
                (text.trim_end_matches(['\r', '\n']).to_owned(), place)
            }
        };
        match text.is_empty() {
            true => Err(ConfigError::at(setting, format!("{place} is empty"))),
            false => Ok(text),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Written::Inline(_) => "Secret(…)",
            Written::Env(_) => "Secret(from the environment)",
            Written::File(_) => "Secret(from a file)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;
    use serde_json::json;

    fn resolve(written: serde_json::Value) -> Result<String, String> {
        let secret: Secret = settings(written).map_err(|error| error.to_string())?;
        secret
            .resolve("token", |path| match path.to_str() {
                Some("/token") => Ok("abc\n".to_owned()),
                Some("/blank") => Ok("\n".to_owned()),
                _ => Err(io::ErrorKind::NotFound.into()),
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn is_a_text_a_variable_or_a_file() {
        assert_eq!(resolve(json!("abc")), Ok("abc".into()));
        assert_eq!(resolve(json!({ "file": "/token" })), Ok("abc".into()));
        assert_eq!(resolve(json!({ "env": "PATH" })), Ok(std::env::var("PATH").unwrap()));
    }

    #[test]
    fn knows_the_file_that_it_is_in() {
        let file = |written| settings::<Secret>(written).unwrap().file();
        assert_eq!(file(json!({ "file": "/token" })), Some("/token".into()));
        assert_eq!((file(json!("abc")), file(json!({ "env": "PATH" }))), (None, None));
    }

    #[test]
    fn says_where_it_looked_in_vain() {
        for (written, problem) in [
            (json!(""), "token: the text is empty"),
            (
                json!({ "env": "SANDBAR_NOT_SET" }),
                "token: the environment variable SANDBAR_NOT_SET is not set",
            ),
            (json!({ "file": "/gone" }), "token: the file /gone cannot be read: "),
            (json!({ "file": "/blank" }), "token: the file /blank is empty"),
            (json!({ "fil": "/token" }), "must be a text, { env = \"NAME\" }"),
            (json!(7), "must be a text, { env = \"NAME\" }"),
        ] {
            let error = resolve(written).unwrap_err();
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn is_never_printed() {
        assert_eq!(format!("{:?}", Secret::inline("hunter2")), "Secret(…)");
    }
}
