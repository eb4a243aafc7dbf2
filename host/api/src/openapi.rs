//! The OpenAPI 3.1 document, made from the list of endpoints.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::endpoint::{Body, Content, Endpoint};
use crate::params::{ID_PATTERN, NAME_PATTERN};
use crate::problem::PROBLEM_JSON;
use crate::views::{Code, Problem};

const COMPONENTS: &str = "/components/schemas";

pub(crate) fn document(endpoints: &[Endpoint]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints {
        let operation = operation(endpoint, &mut schemas);
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation;
    }
    let problem = schemas.answers.subschema_for::<Problem>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sandbar",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What may be asked of a running host. Every error is a problem (RFC 9457) with a stable `code`.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas.done(),
            "responses": {
                "Problem": {
                    "description": "What is wrong",
                    "content": { PROBLEM_JSON: { "schema": problem } },
                },
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// What is written and what is read are described apart: a default makes a field optional only in the latter.
struct Schemas {
    answers: SchemaGenerator,
    requests: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = COMPONENTS.into();
            settings.meta_schema = None;
        });
        Self {
            answers: settings.clone().for_serialize().into_generator(),
            requests: settings.into_generator(),
        }
    }

    /// Those of requests win: they are the looser ones where a view is both.
    fn done(mut self) -> Map<String, Value> {
        let mut all = self.answers.take_definitions(true);
        all.extend(self.requests.take_definitions(true));
        all
    }
}

fn operation(endpoint: &Endpoint, schemas: &mut Schemas) -> Value {
    let mut operation = json!({
        "summary": endpoint.summary,
        "operationId": operation_id(endpoint),
        "parameters": parameters(endpoint, &mut schemas.requests),
        "responses": responses(endpoint, &mut schemas.answers),
    });
    if endpoint.path.starts_with("/v1/") {
        operation["security"] = json!([{ "token": [] }]);
    }
    match &endpoint.body {
        Body::None => {}
        Body::Json { schema, required } => {
            let schema = schema(&mut schemas.requests);
            operation["requestBody"] =
                json!({ "required": required, "content": { "application/json": { "schema": schema } } });
        }
        Body::Wasm { required } => {
            // A component, for which OpenAPI 3.1 has no schema, or a script.
            let bytes =
                json!({ "application/wasm": {}, "text/javascript": { "schema": { "type": "string" } } });
            operation["requestBody"] = json!({ "required": required, "content": bytes });
        }
    }
    operation
}

/// `get_v1_modules_name`
fn operation_id(endpoint: &Endpoint) -> String {
    let path = endpoint.path.replace(['{', '}'], "").replace(['/', '-', '.'], "_");
    format!("{}{path}", endpoint.method)
}

fn parameters(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Vec<Value> {
    let in_path = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path
        .map(|name| {
            let schema = match name {
                "device" | "resource" => json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
                "id" | "command" => json!({ "type": "string", "pattern": ID_PATTERN }),
                _ => json!({ "type": "string", "pattern": NAME_PATTERN }),
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    if let Some(query) = endpoint.query {
        let schema = query(generator).to_value();
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let mut schema = without_null(schema.clone());
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            parameters
                .push(json!({ "name": name, "in": "query", "description": description, "schema": schema }));
        }
    }
    for (name, description) in &endpoint.headers {
        let schema = match *name {
            "Sandbar-Signature" => json!({ "type": "string", "pattern": "^[A-Za-z0-9+/]{86}==$" }),
            _ => json!({ "type": "string", "enum": ["true", "false"], "default": "true" }),
        };
        parameters
            .push(json!({ "name": name, "in": "header", "description": description, "schema": schema }));
    }
    parameters
}

/// A parameter may be left out, and cannot be null.
fn without_null(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.retain(|key, value| !(key == "default" && value.is_null()));
        if let Some(kinds) = object.get_mut("type").and_then(Value::as_array_mut) {
            kinds.retain(|kind| kind != "null");
            if let [kind] = &kinds[..] {
                let kind = kind.clone();
                object.insert("type".to_owned(), kind);
            }
        }
        let branches = object.get_mut("anyOf").and_then(Value::as_array_mut).map(std::mem::take);
        if let Some(branches) = branches {
            object.remove("anyOf");
            let branches = branches.into_iter().filter(|branch| branch["type"] != "null");
            object.extend(branches.flat_map(|branch| branch.as_object().cloned().unwrap_or_default()));
        }
    }
    schema
}

fn responses(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for (status, content) in &endpoint.answers {
        let mut response = json!({ "description": meaning(*status) });
        match content {
            Content::None => {}
            Content::Json(schema) => {
                response["content"] = json!({ "application/json": { "schema": schema(generator) } });
            }
            Content::Text(media_type) => {
                response["content"] = json!({ *media_type: { "schema": { "type": "string" } } });
            }
        }
        responses.insert(status.to_string(), response);
    }
    for (status, codes) in by_status(endpoint.all_codes()) {
        let problem = json!({ PROBLEM_JSON: { "schema": { "$ref": "#/components/schemas/Problem" } } });
        let described = json!({ "description": codes.join(", "), "content": problem });
        // `/readyz` answers 503 in a form of its own.
        responses.entry(status.to_string()).or_insert(described);
    }
    Value::Object(responses)
}

fn meaning(status: u16) -> &'static str {
    match status {
        201 => "It is new",
        202 => "It is on disk",
        204 => "Done",
        503 => "Not now",
        _ => "Done, or what was asked for",
    }
}

fn by_status(codes: Vec<Code>) -> BTreeMap<u16, Vec<String>> {
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in codes {
        let text = serde_json::to_value(code).ok().and_then(|text| text.as_str().map(str::to_owned));
        let texts = by_status.entry(code.status()).or_default();
        texts.extend(text.filter(|text| !texts.contains(text)));
    }
    by_status
}
