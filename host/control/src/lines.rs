//! A TOML text as a value, and the line of each of its settings.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Map, Number, Value};
use toml_edit::{Document, Item, Key, TableLike};

/// Which line each setting is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    by_setting: HashMap<String, usize>,
}

/// Not TOML.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotToml {
    pub(crate) line: usize,
    pub(crate) problem: String,
}

impl Lines {
    /// Reads `text`; dates become text.
    pub(crate) fn read(text: &str) -> Result<(Value, Self), NotToml> {
        let document = Document::parse(text).map_err(|error| NotToml {
            line: error.span().map_or(1, |span| line_at(&starts(text), span.start)),
            problem: error.message().trim().replace('\n', ", "),
        })?;
        let mut reader = Reader { starts: starts(text), lines: Self::default() };
        let value = reader.table(document.as_table(), "");
        Ok((value, reader.lines))
    }

    /// The line of `setting`, or of the nearest table around it that is there.
    pub(crate) fn line(&self, setting: &str) -> usize {
        let mut path = setting;
        while !path.is_empty() {
            if let Some(line) = self.by_setting.get(path) {
                return *line;
            }
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        }
        1
    }
}

struct Reader {
    /// Where each line begins.
    starts: Vec<usize>,
    lines: Lines,
}

impl Reader {
    fn table(&mut self, table: &dyn TableLike, path: &str) -> Value {
        let mut values = Map::new();
        for (key, item) in table.iter() {
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            let span = match item {
                // The header, not the first key of a dotted name that leads to it.
                Item::Table(table) => table.span().filter(|_| !table.is_implicit()),
                _ => None,
            };
            self.mark(&path, span.or_else(|| table.key(key).and_then(Key::span)));
            let value = self.item(item, &path);
            values.insert(key.to_owned(), value);
        }
        Value::Object(values)
    }

    fn item(&mut self, item: &Item, path: &str) -> Value {
        match item {
            Item::None => Value::Null,
            Item::Value(value) => self.value(value, path),
            Item::Table(table) => self.table(table, path),
            Item::ArrayOfTables(tables) => {
                let one = |(index, table): (usize, &toml_edit::Table)| {
                    let path = format!("{path}[{index}]");
                    self.mark(&path, table.span());
                    self.table(table, &path)
                };
                Value::Array(tables.iter().enumerate().map(one).collect())
            }
        }
    }

    fn value(&mut self, value: &toml_edit::Value, path: &str) -> Value {
        match value {
            toml_edit::Value::String(text) => Value::String(text.value().clone()),
            toml_edit::Value::Integer(number) => Value::from(*number.value()),
            // TOML has infinities and NaN, which no setting takes: as text they are refused by name.
            toml_edit::Value::Float(number) => Number::from_f64(*number.value())
                .map_or_else(|| Value::String(number.value().to_string()), Value::Number),
            toml_edit::Value::Boolean(truth) => Value::Bool(*truth.value()),
            toml_edit::Value::Datetime(time) => Value::String(time.value().to_string()),
            toml_edit::Value::InlineTable(table) => self.table(table, path),
            toml_edit::Value::Array(values) => {
                let one = |(index, value): (usize, &toml_edit::Value)| {
                    let path = format!("{path}[{index}]");
                    self.mark(&path, value.span());
                    self.value(value, &path)
                };
                Value::Array(values.iter().enumerate().map(one).collect())
            }
        }
    }

    fn mark(&mut self, path: &str, span: Option<Range<usize>>) {
        if let Some(span) = span {
            self.lines.by_setting.insert(path.to_owned(), line_at(&self.starts, span.start));
        }
    }
}

fn starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

fn line_at(starts: &[usize], at: usize) -> usize {
    starts.partition_point(|start| *start <= at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# a comment
[host]
depth_max = 8

[ingress.web]
driver = "webhook"
paths = [
  { path = "/a" },
  { path = "/b", methods = ["PUT"] },
]
hmac.key = "x"

[[ingress.mqtt.listeners]]
port = 1

[[ingress.mqtt.listeners]]
port = 2
"#;

    #[test]
    fn every_setting_has_its_line() {
        let (value, lines) = Lines::read(TEXT).unwrap();
        assert_eq!(value["ingress"]["mqtt"]["listeners"][1]["port"], 2);
        for (setting, line) in [
            ("host", 2),
            ("host.depth_max", 3),
            ("ingress.web", 5),
            ("ingress.web.paths", 7),
            ("ingress.web.paths[1]", 9),
            ("ingress.web.paths[1].methods[0]", 9),
            ("ingress.web.hmac.key", 11),
            ("ingress.mqtt.listeners[1]", 16),
            ("ingress.mqtt.listeners[1].port", 17),
        ] {
            assert_eq!(lines.line(setting), line, "{setting}");
        }
    }

    #[test]
    fn what_is_missing_is_on_the_line_of_its_table() {
        let (_, lines) = Lines::read(TEXT).unwrap();
        assert_eq!(lines.line("ingress.web.listen"), 5);
        assert_eq!(lines.line("ingress.web.paths[1].path.x"), 9);
        assert_eq!(lines.line("sink.none"), 1);
    }

    #[test]
    fn what_is_no_toml_has_a_line_too() {
        assert_eq!(Lines::read("[host]\nx = \n").unwrap_err().line, 2);
    }
}
