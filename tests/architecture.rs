//! Holds what docs/ARCHITECTURE.md says of the code as a whole: who may depend on whom, who may name what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbar_tests::checkout;
use serde_json::Value;

/// Who may depend on whom. A crate that is missing here may depend on none.
const EDGES: &[(&str, &[&str])] = &[
    ("sandbar-reading", &[]),
    ("sandbar-tls", &["sandbar-reading"]),
    ("sandbar-mqtt-client", &["sandbar-reading", "sandbar-tls"]),
    ("sandbar-ingress", &["sandbar-reading", "sandbar-tls", "sandbar-mqtt-client"]),
    ("sandbar-runtime", &["sandbar-reading"]),
    ("sandbar-store", &["sandbar-reading"]),
    ("sandbar-sinks", &["sandbar-reading", "sandbar-tls", "sandbar-mqtt-client"]),
    ("sandbar-telemetry", &["sandbar-reading"]),
    (
        "sandbar-pipeline",
        &[
            "sandbar-reading",
            "sandbar-ingress",
            "sandbar-runtime",
            "sandbar-store",
            "sandbar-sinks",
            "sandbar-telemetry",
        ],
    ),
    (
        "sandbar-control",
        &[
            "sandbar-reading",
            "sandbar-ingress",
            "sandbar-runtime",
            "sandbar-store",
            "sandbar-sinks",
            "sandbar-telemetry",
            "sandbar-pipeline",
        ],
    ),
    ("sandbar-serve", &[]),
    ("sandbar-api", &["sandbar-control", "sandbar-reading", "sandbar-serve"]),
    ("sandbar-compat", &["sandbar-control", "sandbar-reading", "sandbar-serve"]),
];

/// They put everything together.
const COMPOSERS: &[&str] = &["sandbar", "sandbar-tests"];

/// Libraries that one crate alone may depend on, by the beginning of their name.
const OWNED: &[(&str, &str)] = &[("redb", "sandbar-store"), ("wasmtime", "sandbar-runtime")];

struct Crate {
    name: String,
    folder: PathBuf,
    /// What it is built from, without what only its tests need.
    dependencies: BTreeSet<String>,
}

fn crates() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--manifest-path"])
        .arg(checkout().join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    metadata["packages"].as_array().expect("packages").iter().map(read_crate).collect()
}

fn read_crate(package: &Value) -> Crate {
    let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
    let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
    Crate {
        name: package["name"].as_str().expect("a name").to_owned(),
        folder: manifest.parent().expect("a manifest is in a folder").to_owned(),
        dependencies: dependencies
            .filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| dependency["name"].as_str().expect("a name").to_owned())
            .collect(),
    }
}

/// What is wrong with `name` depending on `dependency`.
fn objection(name: &str, dependency: &str) -> Option<String> {
    let is_ours = dependency == "sandbar" || dependency.starts_with("sandbar-");
    if is_ours && !COMPOSERS.contains(&name) {
        let allowed = EDGES.iter().find(|(from, _)| *from == name).map_or(&[][..], |(_, to)| to);
        return (!allowed.contains(&dependency))
            .then(|| format!("{name} depends on {dependency}; it may only on {allowed:?}"));
    }
    let (_, owner) = OWNED.iter().find(|(library, _)| dependency.starts_with(library))?;
    (*owner != name).then(|| format!("{name} depends on {dependency}, which is {owner}'s alone"))
}

#[test]
fn crates_depend_only_on_those_below() {
    let crates = crates();
    assert!(crates.len() > 8, "the workspace was not read");
    let objections: Vec<_> = crates
        .iter()
        .flat_map(|c| c.dependencies.iter().filter_map(|dependency| objection(&c.name, dependency)))
        .collect();
    assert!(objections.is_empty(), "{objections:#?}");
}

#[test]
fn a_wrong_edge_is_refused() {
    for (from, to) in [
        ("sandbar-sinks", "sandbar-store"),
        ("sandbar-ingress", "sandbar-pipeline"),
        ("sandbar-api", "sandbar-store"),
        ("sandbar-reading", "sandbar-ingress"),
        ("sandbar-newcomer", "sandbar-store"),
        ("sandbar-control", "redb"),
        ("sandbar", "wasmtime"),
        ("sandbar-pipeline", "wasmtime-wasi"),
    ] {
        assert!(objection(from, to).is_some(), "{from} → {to}");
    }
    for (from, to) in [("sandbar", "sandbar-store"), ("sandbar-store", "redb"), ("sandbar-api", "axum")] {
        assert_eq!(objection(from, to), None);
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for c in crates() {
        let manifest = fs::read_to_string(c.folder.join("Cargo.toml")).expect("a manifest");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{}: add `[lints] workspace = true`", c.name);
    }
}

#[test]
fn every_crate_is_on_the_map() {
    let map = fs::read_to_string(checkout().join("docs/ARCHITECTURE.md")).expect("the map");
    for c in crates() {
        let folder = c.folder.strip_prefix(checkout()).expect("in the workspace").display().to_string();
        assert!(map.contains(&folder), "{folder} is not in docs/ARCHITECTURE.md");
    }
}

/// Every Rust file of ours, by its path in the checkout.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for folder in ["host", "tests", "guest-sdk", "example-modules"] {
        collect(&checkout().join(folder), &mut found);
    }
    assert!(found.len() > 40, "the checkout was not read");
    found
}

fn collect(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry").path();
        let is_ours = !path.ends_with("target") && !path.ends_with("node_modules");
        if path.is_dir() && is_ours {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(checkout()).expect("in the checkout").display().to_string();
            found.insert(name, fs::read_to_string(&path).expect("UTF-8"));
        }
    }
}

/// `name:line` of every line that has one of `words` outside a comment.
fn lines_with(name: &str, text: &str, words: &[&str]) -> Vec<String> {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines()
        .enumerate()
        .filter(|(_, line)| words.iter().any(|word| code(line).contains(word)))
        .map(|(index, line)| format!("{name}:{}: {}", index + 1, line.trim()))
        .collect()
}

/// The part of a file before its own tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

#[test]
fn only_the_store_issues_receipts() {
    const ALLOWED: &[&str] = &["host/store/src/", "host/ingress/src/contract/"];
    let found: Vec<_> = sources()
        .iter()
        .filter(|(name, _)| !ALLOWED.iter().any(|allowed| name.starts_with(allowed)))
        .filter(|(name, _)| !name.starts_with("tests/") && !name.ends_with("/tests.rs"))
        .flat_map(|(name, text)| lines_with(name, without_tests(text), &["Receipt::issue("]))
        .collect();
    assert!(found.is_empty(), "only what is on disk has a receipt: {found:#?}");
}

#[test]
fn decoding_waits_for_nothing() {
    const WAITING: &[&str] = &["tokio", "async ", ".await"];
    let sources = sources();
    let decoders: Vec<_> = sources
        .iter()
        .filter(|(name, _)| name.starts_with("host/ingress/src/drivers/"))
        .filter(|(name, text)| name.ends_with("/decode.rs") || text.contains("pub fn decode("))
        .collect();
    assert!(!decoders.is_empty(), "no driver decodes");
    let found: Vec<_> =
        decoders.iter().flat_map(|(name, text)| lines_with(name, without_tests(text), WAITING)).collect();
    assert!(found.is_empty(), "decoding is pure, so that it can be tested and fuzzed: {found:#?}");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let words = [["todo", "!("].concat(), ["unimplemented", "!("].concat(), ["#[ig", "nore"].concat()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let found: Vec<_> = sources().iter().flat_map(|(name, text)| lines_with(name, text, &words)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_file_grows_beyond_what_can_be_read_at_once() {
    const LINES_MAX: usize = 700;
    let long: Vec<_> = sources()
        .iter()
        .map(|(name, text)| (name.clone(), text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines: {long:?}");
}

#[test]
fn comments_and_tests_are_told_from_code() {
    assert_eq!(
        lines_with("a.rs", "x\nlet y = tokio(); // why", &["tokio"]),
        ["a.rs:2: let y = tokio(); // why"]
    );
    assert!(lines_with("a.rs", "// tokio is not used", &["tokio"]).is_empty());
    assert_eq!(without_tests("code\n#[cfg(test)]\nmod tests {\n}"), "code\n");
}
