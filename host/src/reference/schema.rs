//! A JSON schema as rows of a settings table. Pure.

use serde_json::Value;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// From the table's top: `paths[].method`.
    pub path: String,
    /// In words: `text`, `list of text`, `"hex" or "base64"`.
    pub kind: String,
    /// As JSON; `None` where there is none.
    pub default: Option<String>,
    pub required: bool,
    pub about: String,
}

/// Tables in tables in tables: no configuration is deeper.
const DEPTH_MAX: usize = 6;

/// The settings of the table that `schema` describes, those of its inner tables after each.
pub(crate) fn settings(schema: &Value) -> Vec<Setting> {
    let mut rows = Vec::new();
    Reader { root: schema }.table(schema, "", 0, &mut rows);
    rows
}

/// What a schema says of itself, as paragraphs.
pub(crate) fn about(schema: &Value) -> String {
    paragraphs(schema["description"].as_str().unwrap_or_default())
}

struct Reader<'a> {
    root: &'a Value,
}

impl<'a> Reader<'a> {
    fn table(&self, table: &'a Value, prefix: &str, depth: usize, rows: &mut Vec<Setting>) {
        let Some(properties) = table["properties"].as_object() else { return };
        let required = table["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_required = |name: &str| required.iter().any(|setting| setting == name);
        let mut properties: Vec<(&String, &Value)> = properties.iter().collect();
        // By themselves they come in one order or another, depending on features of other crates.
        properties.sort_by_key(|(name, _)| (!is_required(name), *name));
        for (name, property) in properties {
            let path = format!("{prefix}{name}");
            rows.push(Setting {
                kind: self.kind(property, depth),
                default: property.get("default").filter(|default| !default.is_null()).map(Value::to_string),
                required: is_required(name),
                about: self.describe(property),
                path: path.clone(),
            });
            if depth < DEPTH_MAX {
                self.inner(property, &path, depth + 1, rows);
            }
        }
    }

    /// The settings of what a setting holds, if that is a table, a list of tables, or tables by name.
    fn inner(&self, schema: &'a Value, path: &str, depth: usize, rows: &mut Vec<Setting>) {
        let schema = self.only(schema);
        if schema["items"].is_object() {
            self.inner(&schema["items"], &format!("{path}[]"), depth, rows);
        } else if schema["additionalProperties"].is_object() {
            self.inner(&schema["additionalProperties"], &format!("{path}.NAME"), depth, rows);
        } else if schema["properties"].is_object() {
            self.table(schema, &format!("{path}."), depth, rows);
        } else {
            for variant in alternatives(schema) {
                self.variant(self.only(variant), path, depth, rows);
            }
        }
    }

    /// One of several kinds of table, which a setting of a fixed value tells apart.
    fn variant(&self, table: &'a Value, path: &str, depth: usize, rows: &mut Vec<Setting>) {
        let Some(properties) = table["properties"].as_object() else { return };
        let mut tags =
            properties.iter().filter_map(|(name, property)| Some((name, property["const"].as_str()?)));
        let Some((tag, value)) = tags.next() else { return };
        let begin = rows.len();
        self.table(table, &format!("{path}."), depth, rows);
        let tag = format!("{path}.{tag}");
        for row in &mut rows[begin..] {
            match row.path == tag {
                true => row.about = one_line(table["description"].as_str().unwrap_or_default()),
                false => row.about = format!("With `{value}`: {}", row.about),
            }
        }
        rows[begin..].sort_by_key(|row| row.path != tag);
    }

    /// Whether it is a kind of table that [`Self::variant`] tells apart from others.
    fn is_tagged(&self, choice: &'a Value) -> bool {
        let properties = self.only(choice)["properties"].as_object();
        properties.is_some_and(|properties| properties.values().any(|property| property["const"].is_string()))
    }

    /// In words, and what each of a few words means.
    fn describe(&self, property: &'a Value) -> String {
        let own = property["description"].as_str().map(str::to_owned);
        let resolved = self.only(property);
        let mut about =
            own.or_else(|| resolved["description"].as_str().map(str::to_owned)).unwrap_or_default();
        let held = if resolved["items"].is_object() { self.only(&resolved["items"]) } else { resolved };
        for choice in alternatives(held) {
            if let (Some(word), Some(meaning)) = (choice["const"].as_str(), choice["description"].as_str()) {
                about.push_str(&format!(" `{word}`: {meaning}"));
            }
        }
        one_line(&about)
    }

    fn kind(&self, schema: &'a Value, depth: usize) -> String {
        let schema = self.only(schema);
        if depth > DEPTH_MAX {
            return "table".to_owned();
        }
        if let Some(value) = schema.get("const") {
            return value.to_string();
        }
        if let Some(words) = schema["enum"].as_array() {
            return either(words.iter().filter(|word| !word.is_null()).map(Value::to_string).collect());
        }
        let choices = alternatives(schema);
        if !choices.is_empty() && choices.iter().all(|choice| self.is_tagged(choice)) {
            return "table".to_owned();
        }
        if !choices.is_empty() {
            return either(choices.iter().map(|choice| self.choice(choice, depth + 1)).collect());
        }
        match &schema["type"] {
            Value::String(kind) => self.plain(kind, schema, depth),
            Value::Array(kinds) => {
                let kinds = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
                either(kinds.map(|kind| self.plain(kind, schema, depth)).collect())
            }
            _ => "anything".to_owned(),
        }
    }

    fn plain(&self, kind: &str, schema: &'a Value, depth: usize) -> String {
        match kind {
            "string" => "text".to_owned(),
            "integer" => "whole number".to_owned(),
            "number" => "number".to_owned(),
            "boolean" => "true or false".to_owned(),
            "array" if schema["items"].is_object() => {
                format!("list of {}", self.kind(&schema["items"], depth + 1))
            }
            "array" => "list".to_owned(),
            _ => "table".to_owned(),
        }
    }

    /// One of several ways to write a setting; a table with one setting as `{ env = text }`.
    fn choice(&self, schema: &'a Value, depth: usize) -> String {
        let resolved = self.only(schema);
        let required = resolved["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        let only = match required {
            [only] => only.as_str(),
            _ => None,
        };
        match only.and_then(|name| Some((name, resolved["properties"].get(name)?))) {
            Some((name, property)) => format!("{{ {name} = {} }}", self.kind(property, depth + 1)),
            None => self.kind(resolved, depth),
        }
    }

    /// Behind references, and behind "or nothing".
    fn only(&self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        for _ in 0..DEPTH_MAX {
            let referred = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
            let mut alternatives = alternatives(schema).into_iter();
            match (referred, alternatives.next(), alternatives.next()) {
                (Some(pointer), ..) => schema = self.root.pointer(pointer).unwrap_or(&Value::Null),
                (None, Some(only), None) => schema = only,
                _ => break,
            }
        }
        schema
    }
}

/// What a value may be one of, without "nothing".
fn alternatives(schema: &Value) -> Vec<&Value> {
    let choices = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    choices.into_iter().flatten().filter(|choice| choice["type"] != "null").collect()
}

fn either(mut kinds: Vec<String>) -> String {
    kinds.dedup();
    match kinds.pop() {
        Some(last) if kinds.is_empty() => last,
        Some(last) => format!("{} or {last}", kinds.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// Lines of a doc comment, joined where only the width of the source broke them.
fn paragraphs(text: &str) -> String {
    text.split("\n\n").map(one_line).collect::<Vec<_>>().join("\n\n")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn check(schema: &Value, rows: &expect_test::Expect) {
        let shown = settings(schema).into_iter().map(|Setting { path, kind, default, required, about }| {
            let default = if required { "required".to_owned() } else { default.unwrap_or_default() };
            format!("{path} | {kind} | {default} | {about}\n")
        });
        rows.assert_eq(&shown.collect::<String>());
    }

    #[test]
    fn inner_tables_follow_their_setting() {
        check(
            &json!({
                "required": ["paths"],
                "properties": {
                    "listen": { "type": "string", "default": "127.0.0.1:8080", "description": "Address\nand port." },
                    "paths": { "type": "array", "items": { "$ref": "#/$defs/Path" }, "description": "What is sent where." },
                    "config": { "type": "object", "additionalProperties": { "type": ["string", "number"] } },
                    "limits": { "$ref": "#/$defs/Limits" },
                },
                "$defs": {
                    "Path": { "type": "object", "required": ["path"], "properties": {
                        "path": { "type": "string" }, "device": { "type": ["string", "null"], "default": null },
                    } },
                    "Limits": { "type": "object", "description": "Its limits.", "properties": { "time_ms": { "type": "integer", "default": 5 } } },
                },
            }),
            &expect![[r#"
                paths | list of table | required | What is sent where.
                paths[].path | text | required | 
                paths[].device | text |  | 
                config | table |  | 
                limits | table |  | Its limits.
                limits.time_ms | whole number | 5 | 
                listen | text | "127.0.0.1:8080" | Address and port.
            "#]],
        );
    }

    #[test]
    fn kinds_of_tables_follow_each_other() {
        let kind = |value: &str| json!({ "type": "string", "const": value });
        check(
            &json!({ "properties": { "framing": { "description": "How.", "oneOf": [
                { "type": "object", "description": "A line.", "properties": { "kind": kind("lines") }, "required": ["kind"] },
                { "type": "object", "description": "So many.", "required": ["kind", "bytes"], "properties": {
                    "bytes": { "type": "integer", "description": "Above 0." }, "kind": kind("fixed") } },
            ] } } }),
            &expect![[r#"
                framing | table |  | How.
                framing.kind | "lines" | required | A line.
                framing.kind | "fixed" | required | So many.
                framing.bytes | whole number | required | With `fixed`: Above 0.
            "#]],
        );
    }

    #[test]
    fn choices_are_words() {
        let secret = json!([
            { "type": "string" },
            { "type": "object", "properties": { "env": { "type": "string" } }, "required": ["env"] },
        ]);
        check(
            &json!({
                "properties": {
                    "unit": { "type": "string", "enum": ["C", "F"] },
                    "kinds": { "type": "array", "items": { "oneOf": [
                        { "const": "gps", "type": "string", "description": "A walk." }, { "enum": ["power"], "type": "string" },
                    ] } },
                    "token": { "anyOf": [{ "$ref": "#/$defs/Secret" }, { "type": "null" }] },
                },
                "$defs": { "Secret": { "anyOf": secret, "description": "Never printed." } },
            }),
            &expect![[r#"
                kinds | list of "gps" or "power" |  | `gps`: A walk.
                token | text or { env = text } |  | Never printed.
                unit | "C" or "F" |  | 
            "#]],
        );
    }
}
