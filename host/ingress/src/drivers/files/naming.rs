//! Topic and device of a file's readings, and its content type. Pure.

use std::path::Path;

use sandbar_reading::{ConfigError, ContentType, Topic};

use crate::pattern::Template;

#[derive(Clone, Debug)]
pub(super) struct Naming {
    topic: Template,
    device: Option<Template>,
}

const NAMES: [&str; 4] = ["path", "name", "stem", "folder"];

const DEVICE_MAX: usize = 255;

impl Naming {
    pub(super) fn new(topic: &str, device: Option<&str>) -> Result<Self, ConfigError> {
        let names = NAMES.map(Box::<str>::from);
        let template = |setting: &str, text: &str| {
            Template::parse(text, &names).map_err(|error| ConfigError::at(setting, error.to_string()))
        };
        let named = Self {
            topic: template("topic", topic)?,
            device: device.map(|text| template("device", text)).transpose()?,
        };
        match named.topic.fill(&["a/b.c".into(), "b.c".into(), "b".into(), "a".into()]).parse::<Topic>() {
            Ok(_) => Ok(named),
            Err(error) => Err(ConfigError::at("topic", error.to_string())),
        }
    }

    /// `path` is the file's in the folder, with slashes.
    pub(super) fn topic(&self, path: &str) -> Topic {
        let topic = self.topic.fill(&values(path)).replace(['+', '#', '\0'], "_");
        // Is no topic: a path of more levels than a topic has, or nothing at all, of a name that may be empty.
        topic.parse().unwrap_or_else(|_| "files".parse().expect("it is a topic"))
    }

    pub(super) fn device(&self, path: &str) -> Option<Box<str>> {
        let mut device = self.device.as_ref()?.fill(&values(path));
        while device.len() > DEVICE_MAX {
            device.pop();
        }
        (!device.is_empty()).then(|| device.into())
    }
}

fn values(path: &str) -> [std::borrow::Cow<'_, str>; 4] {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or(name);
    [path, name, stem, folder].map(Into::into)
}

/// What a file's extension says of it.
pub(super) fn content_type(path: &str) -> ContentType {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let known = match extension.to_ascii_lowercase().as_str() {
        "json" => return ContentType::JSON,
        "txt" | "log" => return ContentType::TEXT,
        "csv" => "text/csv",
        "tsv" => "text/tab-separated-values",
        "xml" => "application/xml",
        "yaml" | "yml" => "application/yaml",
        "html" | "htm" => "text/html",
        "md" => "text/markdown",
        "ndjson" | "jsonl" => "application/x-ndjson",
        "eml" => "message/rfc822",
        "pdf" => "application/pdf",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        _ => return ContentType::OCTETS,
    };
    known.parse().expect("a content type of this table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_path() {
        let naming = Naming::new("scans/{folder}/{stem}", Some("{folder}")).unwrap();
        let named = |path: &str| (naming.topic(path).to_string(), naming.device(path).map(String::from));
        assert_eq!(named("line-4/a.b.csv"), ("scans/line-4/a.b".to_owned(), Some("line-4".to_owned())));
        assert_eq!(named("a+#.csv"), ("scans//a__".to_owned(), None));
        let setting = |topic, device| Naming::new(topic, device).unwrap_err().setting;
        assert_eq!(setting("a/#", None), "topic");
        assert_eq!(setting("a", Some("{other}")), "device");
    }

    #[test]
    fn extensions_say_what_is_in_a_file() {
        for (path, expected) in [
            ("a.JSON", "application/json"),
            ("a/b.log", "text/plain"),
            ("x.jpeg", "image/jpeg"),
            ("x", "application/octet-stream"),
            ("x.json/y", "application/octet-stream"),
        ] {
            assert_eq!(content_type(path).as_str(), expected, "{path}");
        }
    }
}
