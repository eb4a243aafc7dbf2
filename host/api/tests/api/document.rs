//! The OpenAPI document says all there is, and nothing answers otherwise, whatever is asked.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::support::{Answer, Asked, Host};

#[tokio::test]
async fn every_reference_resolves_and_every_operation_is_described() {
    let host = Host::start().await;
    let document = host.get("/openapi.json").await.done();
    assert_eq!(document["openapi"], "3.1.0");
    let mut references = 0;
    each(&document, &mut |value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            references += 1;
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    });
    assert!(references > 50, "{references}");
    for (method, path, operation) in operations(&document) {
        let described = |what: &str| operation[what].as_str().is_some_and(|text| !text.is_empty());
        assert!(described("summary") && described("operationId"), "{method} {path}");
        for parameter in operation["parameters"].as_array().unwrap() {
            assert!(parameter["schema"]["type"].is_string(), "{path}: {parameter}");
        }
    }
    host.end().await;
}

fn each(value: &Value, visit: &mut impl FnMut(&Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| each(item, visit)),
        Value::Object(fields) => fields.values().for_each(|field| each(field, visit)),
        _ => {}
    }
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operation = |path: &String, (method, operation): (&String, &Value)| {
        (method.to_uppercase(), path.clone(), operation.clone())
    };
    paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |it| operation(path, it)))
        .collect()
}

/// What a request is made of; the numbers choose among what the document has.
#[derive(Clone, Debug)]
struct Anything {
    operation: prop::sample::Index,
    name: String,
    query: Vec<(prop::sample::Index, String)>,
    body: Vec<u8>,
    is_json: bool,
}

fn anything() -> impl Strategy<Value = Anything> {
    let id = "[0-7][0-9A-HJKMNP-TV-Z]{25}";
    let name = prop_oneof![4 => "[a-c]", 1 => "[a-z0-9_-]{1,70}", 2 => id, 1 => any::<String>()];
    let value = prop_oneof!["[0-9]{1,5}", "[a-c/+#]{0,5}", "(sink|device)/[a-c]", id, any::<String>()];
    let body = prop_oneof![
        4 => json().prop_map(|json| json.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ];
    (
        any::<prop::sample::Index>(),
        name,
        prop::collection::vec((any::<prop::sample::Index>(), value), 0..3),
        body,
        prop::bool::weighted(0.9),
    )
        .prop_map(|(operation, name, query, body, is_json)| Anything {
            operation,
            name,
            query,
            body,
            is_json,
        })
}

/// Objects of the fields that the API knows, with any values; often the right ones.
fn json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("log"),
        Just("simulator"),
        Just("a"),
        Just("b"),
        Just("a/#"),
        Just(""),
        Just("sink/a"),
        Just("none"),
        Just("[sink.a]\nkind = \"log\"\n"),
        Just("[route.\u{0}]"),
        Just("pointer:/a"),
        Just("text/plain"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..10u8).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let field = prop_oneof![
        Just("topic"),
        Just("device"),
        Just("payload"),
        Just("payload_json"),
        Just("payload_base64"),
        Just("reading"),
        Just("attributes"),
        Just("content_type"),
        Just("version"),
        Just("kind"),
        Just("driver"),
        Just("module"),
        Just("sinks"),
        Just("sink"),
        Just("route"),
        Just("target"),
        Just("toml"),
        Just("config"),
        Just("limits"),
        Just("offering"),
        Just("key"),
        Just("concurrency"),
        Just("attempts"),
        Just("batch_max"),
        Just("max"),
        Just("rate"),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            6 => prop::collection::vec((field.clone(), inner), 0..4)
                .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The status is documented, with the type of its body.
fn is_as_documented(answer: &Answer, operation: &Value) -> Result<(), TestCaseError> {
    let documented = &operation["responses"][answer.status.as_str()];
    prop_assert!(documented.is_object(), "not documented: {:?}", answer);
    prop_assert!(!answer.status.is_server_error(), "{:?}", answer);
    let content_type = answer.header("content-type");
    match documented["content"].as_object() {
        None => prop_assert!(answer.bytes.is_empty(), "{:?}", answer),
        Some(types) => prop_assert!(types.keys().any(|known| content_type == known), "{:?}", answer),
    }
    Ok(())
}

#[test]
fn whatever_is_asked_the_answer_is_documented_and_no_5xx() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let host = runtime.block_on(Host::start());
    let document = runtime.block_on(host.get("/openapi.json")).json();
    // A tail does not end.
    let operations: Vec<_> =
        operations(&document).into_iter().filter(|(_, path, _)| !path.contains("/tail")).collect();
    let mut runner = TestRunner::new(Config { cases: 1500, failure_persistence: None, ..Config::default() });
    let done = std::cell::Cell::new(0);
    let asked = runner.run(&anything(), |asked| {
        let (method, path, operation) = asked.operation.get(&operations);
        let mut path = path.replace("{name}", &encoded(&asked.name)).replace("{id}", &encoded(&asked.name));
        let parameters: Vec<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        for (number, (parameter, value)) in asked.query.iter().enumerate() {
            if !parameters.is_empty() {
                let separator = if number == 0 { '?' } else { '&' };
                path += &format!("{separator}{}={}", parameter.get(&parameters), encoded(value));
            }
        }
        let content_type = if asked.is_json { "application/json" } else { "text/plain" };
        let body: Asked = if method == "POST" || method == "PUT" && !path.contains("/modules/") {
            (content_type, asked.body.clone()).into()
        } else {
            ().into()
        };
        // An empty name is another path.
        if !path.contains("//") && !path.ends_with('/') {
            let answer = runtime.block_on(host.ask(method, &path, body));
            done.set(done.get() + u32::from(answer.status.is_success()));
            is_as_documented(&answer, operation)?;
        }
        Ok(())
    });
    runtime.block_on(host.end());
    asked.unwrap();
    // Else they would not reach far.
    assert!(done.get() > 200, "only {} requests were good ones", done.get());
}
