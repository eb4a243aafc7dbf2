//! What is written by hand beside the contract says what the contract says, and the SDK's own JavaScript does what its
//! tests say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sandbar_tests::checkout;

use crate::cache;

/// The fields of an interface's record, as `wit/contract-0.1.0.txt` has them.
fn fields(interface: &str, record: &str) -> Result<BTreeSet<String>> {
    let contract = std::fs::read_to_string(checkout().join("wit/contract-0.1.0.txt"))?;
    let begins = format!("{interface}: {record} = record {{ ");
    let line =
        contract.lines().find_map(|line| line.strip_prefix(&begins)).with_context(|| record.to_owned())?;
    let line = line.trim_end_matches([' ', '}']);
    Ok(line.split(", ").filter_map(|field| Some(field.split_once(": ")?.0.to_owned())).collect())
}

fn camel(name: &str) -> String {
    let mut parts = name.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &part[..1].to_uppercase() + &part[1..])
}

#[test]
fn the_types_of_typescript_are_the_contracts() -> Result<()> {
    let types = std::fs::read_to_string(checkout().join("guest-sdk/sources/js/sandbar.d.ts"))?;
    for (record, interface) in [("reading", "Reading"), ("message", "Message"), ("command", "Command")] {
        let begins = format!("export interface {interface} {{");
        let body = types.split_once(&begins).and_then(|(_, rest)| rest.split_once('}')).context(begins)?.0;
        let declared = body.lines().map(str::trim).filter(|line| !line.starts_with("/*") && !line.is_empty());
        let names: BTreeSet<String> = declared
            .filter_map(|line| Some(line.split_once(':')?.0.trim_end_matches('?').to_owned()))
            .collect();
        let expected: BTreeSet<String> = fields("types", record)?.iter().map(|name| camel(name)).collect();
        ensure!(names == expected, "{interface}: {names:?}, {record}: {expected:?}");
    }
    Ok(())
}

/// `wit-bindgen c` made it of another contract if a field, with its comment, is missing.
#[test]
fn the_header_of_c_is_the_contracts() -> Result<()> {
    let header = std::fs::read_to_string(checkout().join("guest-sdk/sources/c/handler.h"))?;
    let records = [
        ("types", "reading"),
        ("types", "message"),
        ("types", "command"),
        ("http", "request"),
        ("http", "response"),
    ];
    for (interface, record) in records {
        let begins = format!("typedef struct sandbar_handler_{interface}_{record}_t {{");
        let body = header.split_once(&begins).and_then(|(_, rest)| rest.split_once('}')).context(begins)?.0;
        let names: BTreeSet<String> = body
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .filter_map(|line| {
                Some(line.trim().strip_suffix(';')?.split_whitespace().last()?.replace('_', "-"))
            })
            .collect();
        ensure!(names == fields(interface, record)?, "{record}: {names:?}");
    }
    Ok(())
}

/// Promises that are seen through within a call, and scripts without `async`: bundled as for a module, run by node.
#[test]
fn the_sdk_of_javascript_does_what_its_tests_say() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (acorn, bundle) = (folder.path().join("acorn.txt"), folder.path().join("tests.mjs"));
    let modules = cache().join("componentize-qjs/node_modules");
    let esbuild = |source: PathBuf, out: &Path, options: &[&str]| {
        let mut esbuild = Command::new(modules.join(".bin/esbuild"));
        esbuild.arg(source).args(["--bundle", "--log-level=warning"]).args(options);
        esbuild
            .arg(format!("--outfile={}", out.display()))
            .status()
            .context("esbuild: `make guests` installs it")
    };
    let as_text = ["--minify", "--format=iife", "--global-name=acorn"];
    ensure!(esbuild(modules.join("acorn/dist/acorn.mjs"), &acorn, &as_text)?.success());
    let alias = format!("--alias:acorn-text={}", acorn.display());
    let tests = checkout().join("tests/guests/javascript.mjs");
    ensure!(esbuild(tests, &bundle, &["--platform=node", "--format=esm", &alias])?.success());
    let ran = Command::new("node").arg(&bundle).output()?;
    let (said, wrong) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    ensure!(said.trim() == "ok", "{said}{wrong}");
    Ok(())
}
