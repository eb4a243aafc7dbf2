//! Configuration files.

use std::path::Path;

use sandbar_control::{ConfigFile, Declared, Kinds, What, kinds};

const DEMO: &str = include_str!("../../host/src/demo.toml");

const EVERYTHING: &str = r#"
[host]
data_dir = "sandbar-data"
reading_max_bytes = 16777216
journal_hours = 168
journal_mib = 256
depth_max = 8
store_cache_mib = 16
[api]
listen = "127.0.0.1:7420"
token = { env = "SANDBAR_TOKEN" }
[sink.alerts]
kind = "http"
url = "http://127.0.0.1:9000/"
offering = { batch_max = 10, first_wait_ms = 5 }
[module.fahrenheit]
file = "fahrenheit.wasm"
[route.celsius]
ingress = ["web", "route/other"]
topic = ["sensors/#", "a/+/b"]
device = "boiler"
content_type = ["application/json", "image/*"]
key = "pointer:/json"
module = "fahrenheit"
config = { field = "temperature", n = 1.5, b = true }
sinks = ["alerts"]
reply = true
concurrency = 4
attempts = { max = 5, first_wait_ms = 500, longest_wait_ms = 60000 }
limits = { memory_mib = 64, time_ms = 1000, outputs = 1000, output_bytes = 4194304 }
permissions = { clock = false, random = false }
"#;

/// Tables as the API takes them.
pub const TABLES: [&str; 3] = [
    r#"{"route":{"a":{"topic":["x/#"],"module":"m","limits":{"time_ms":5},"key":"none"}}}"#,
    r#"{"sink":{"a":{"kind":"http","url":"http://x/","offering":{"batch_max":1}}},"host":{"depth_max":3}}"#,
    r#"{"ingress":{"a":{"driver":"webhook","paths":[{"path":"/a"}]}},"api":{"token":{"env":"A"}}}"#,
];

/// Valid ones: the examples of every driver and sink, and some with everything.
pub fn files() -> Vec<String> {
    let example = |kind: Kinds| {
        let (table, tag) = if kind.what == What::Ingress { ("ingress", "driver") } else { ("sink", "kind") };
        let nested = |line: &str| match line.strip_prefix("[[") {
            Some(list) => format!("[[{table}.it.{list}\n"),
            None if line.starts_with('[') => format!("[{table}.it.{}\n", &line[1..]),
            None => format!("{line}\n"),
        };
        let settings: String = kind.example.lines().map(nested).collect();
        format!("[{table}.it]\n{tag} = \"{}\"\n{settings}", kind.name)
    };
    kinds().into_iter().map(example).chain([DEMO, EVERYTHING].map(str::to_owned)).collect()
}

/// Whether it was read. What was refused has a line that it has.
pub fn file(text: &str) -> bool {
    match Declared::parse(text, Path::new("/etc/sandbar.toml")) {
        Ok(declared) => {
            assert!(declared.host().data_dir.starts_with("/") && !declared.files().is_empty());
            true
        }
        Err(problem) => {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&problem.line), "line {} of {lines}: {problem}", problem.line);
            assert!(!problem.problem.is_empty());
            assert!(problem.to_string().starts_with("/etc/sandbar.toml:"));
            false
        }
    }
}

/// Whether it was read. What is JSON and no such file is refused, too: the API takes the same tables.
pub fn tables(text: &str) -> bool {
    let Ok(value) = serde_json::from_str(text) else { return false };
    match sandbar_reading::settings::<ConfigFile>(value) {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.problem.is_empty());
            false
        }
    }
}
