//! What is written by hand beside the contract says what the contract says.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use crate::root;

/// The fields of a record of the contract, as `wit/contract-0.1.0.txt` has them.
fn fields(record: &str) -> Result<BTreeSet<String>> {
    let contract = std::fs::read_to_string(root().join("wit/contract-0.1.0.txt"))?;
    let begins = format!("types: {record} = record {{ ");
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
    let types = std::fs::read_to_string(root().join("guest-sdk/sources/js/sandbar.d.ts"))?;
    for (record, interface) in [("reading", "Reading"), ("message", "Message"), ("command", "Command")] {
        let begins = format!("export interface {interface} {{");
        let body = types.split_once(&begins).and_then(|(_, rest)| rest.split_once('}')).context(begins)?.0;
        let declared = body.lines().map(str::trim).filter(|line| !line.starts_with("/*") && !line.is_empty());
        let names: BTreeSet<String> = declared
            .filter_map(|line| Some(line.split_once(':')?.0.trim_end_matches('?').to_owned()))
            .collect();
        let expected: BTreeSet<String> = fields(record)?.iter().map(|name| camel(name)).collect();
        ensure!(names == expected, "{interface}: {names:?}, {record}: {expected:?}");
    }
    Ok(())
}

/// `wit-bindgen c` made it of another contract if a field, with its comment, is missing.
#[test]
fn the_header_of_c_is_the_contracts() -> Result<()> {
    let header = std::fs::read_to_string(root().join("guest-sdk/sources/c/handler.h"))?;
    for record in ["reading", "message", "command"] {
        let begins = format!("typedef struct sandbar_handler_types_{record}_t {{");
        let body = header.split_once(&begins).and_then(|(_, rest)| rest.split_once('}')).context(begins)?.0;
        let names: BTreeSet<String> = body
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .filter_map(|line| {
                Some(line.trim().strip_suffix(';')?.split_whitespace().last()?.replace('_', "-"))
            })
            .collect();
        ensure!(names == fields(record)?, "{record}: {names:?}");
    }
    Ok(())
}
