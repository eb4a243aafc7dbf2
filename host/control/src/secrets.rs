//! Hides secrets in what is shown. Which settings are secret is in the JSON schema of their table: those
//! whose type is [`Secret`], wherever they are.

use sandbar_reading::Secret;
use schemars::JsonSchema;
use serde_json::{Map, Value};

/// What stands in the place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// `table` without the texts that `schema` says are secret. References to secrets, such as
/// `{ env = "TOKEN" }`, are shown: they are none.
pub(crate) fn hide(table: &mut Value, schema: &Value) {
    walk(table, schema, &mut |text, _| *text = HIDDEN.to_owned());
}

/// The setting that has [`HIDDEN`] as its secret: somebody sent back what was shown.
pub(crate) fn find_hidden(table: &Value, schema: &Value) -> Option<String> {
    let mut found = None;
    let mut table = table.clone();
    walk(&mut table, schema, &mut |text, path| {
        if text == HIDDEN {
            found.get_or_insert_with(|| path.to_owned());
        }
    });
    found
}

/// Of an ingress's settings; of no use for a driver that there is not.
pub(crate) fn driver_schema(driver: &str) -> Value {
    let kind = sandbar_ingress::kinds().find(|kind| kind.name == driver);
    kind.map_or(Value::Null, |kind| (kind.schema)().to_value())
}

/// Of a sink's settings; of no use for a kind that there is not.
pub(crate) fn sink_schema(kind: &str) -> Value {
    let kind = sandbar_sinks::kinds().into_iter().find(|known| known.name == kind);
    kind.map_or(Value::Null, |kind| kind.schema)
}

fn walk(table: &mut Value, schema: &Value, found: &mut dyn FnMut(&mut String, &str)) {
    let none = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&none);
    Walk { definitions, secret: secret_schema(), found }.value(table, schema, "");
}

struct Walk<'a> {
    definitions: &'a Map<String, Value>,
    secret: Value,
    found: &'a mut dyn FnMut(&mut String, &str),
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value, schema: &Value, path: &str) {
        let Some(schema) = schema.as_object() else { return };
        if is_secret(schema, &self.secret) {
            return self.secret(value, path);
        }
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix("#/$defs/"));
        if let Some(target) = target.and_then(|name| self.definitions.get(name)) {
            self.value(value, target, path);
        }
        // Which alternative a value is does not matter: hiding too much does no harm.
        for any in ["anyOf", "oneOf", "allOf"] {
            for schema in schema.get(any).and_then(Value::as_array).into_iter().flatten() {
                self.value(value, schema, path);
            }
        }
        match value {
            Value::Array(values) => self.items(values, schema, path),
            Value::Object(values) => self.properties(values, schema, path),
            _ => {}
        }
    }

    fn items(&mut self, values: &mut [Value], schema: &Map<String, Value>, path: &str) {
        let first = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (index, value) in values.iter_mut().enumerate() {
            if let Some(schema) = first.get(index).or_else(|| schema.get("items")) {
                self.value(value, schema, &format!("{path}[{index}]"));
            }
        }
    }

    fn properties(&mut self, values: &mut Map<String, Value>, schema: &Map<String, Value>, path: &str) {
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, value) in values {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let own = properties.and_then(|properties| properties.get(name));
            if let Some(schema) = own.or_else(|| schema.get("additionalProperties")) {
                self.value(value, schema, &path);
            }
        }
    }

    fn secret(&mut self, value: &mut Value, path: &str) {
        if let Value::String(text) = value {
            (self.found)(text, path);
        }
    }
}

/// How the type looks where another type's schema has it.
fn secret_schema() -> Value {
    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Holder {
        secret: Secret,
    }
    let schema = schemars::schema_for!(Holder).to_value();
    let property = &schema["properties"]["secret"];
    let name = property["$ref"].as_str().and_then(|at| at.strip_prefix("#/$defs/"));
    name.map_or(property, |name| &schema["$defs"][name]).clone()
}

/// A setting's own description may stand in the place of the type's.
fn is_secret(schema: &Map<String, Value>, secret: &Value) -> bool {
    let alternatives = |schema: &Map<String, Value>| schema.get("anyOf").cloned();
    secret.as_object().and_then(alternatives).is_some_and(|known| alternatives(schema) == Some(known))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Table {
        /// With a description of its own.
        token: Secret,
        maybe: Option<Secret>,
        users: Vec<User>,
        headers: BTreeMap<String, Secret>,
        kind: Kind,
        password: String,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct User {
        name: String,
        key: Secret,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Hmac { key: Secret, header: String },
        None,
    }

    #[test]
    fn what_is_typed_as_secret_is_hidden_wherever_it_is() {
        let schema = schemars::schema_for!(Table).to_value();
        let mut table = json!({
            "token": "hunter2",
            "maybe": "hunter2",
            "users": [{ "name": "ann", "key": "hunter2" }, { "name": "bob", "key": { "env": "KEY" } }],
            "headers": { "x-key": "hunter2" },
            "kind": { "hmac": { "key": "hunter2", "header": "x-signature" } },
            "password": "a name alone makes no secret",
        });
        assert_eq!(find_hidden(&table, &schema), None);
        hide(&mut table, &schema);
        assert_eq!(
            table,
            json!({
                "token": HIDDEN,
                "maybe": HIDDEN,
                "users": [{ "name": "ann", "key": HIDDEN }, { "name": "bob", "key": { "env": "KEY" } }],
                "headers": { "x-key": HIDDEN },
                "kind": { "hmac": { "key": HIDDEN, "header": "x-signature" } },
                "password": "a name alone makes no secret",
            })
        );
        assert_eq!(find_hidden(&table, &schema).as_deref(), Some("headers.x-key"));
    }
}
