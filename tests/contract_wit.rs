//! Refuses a change of `wit/` that components built before it would not survive.

mod contract {
    pub(crate) mod compare;
    pub(crate) mod signatures;
}

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use contract::compare::{Verdict, compare};
use contract::signatures::{Contract, read};

fn wit() -> PathBuf {
    sandbar_tests::checkout().join("wit")
}

fn listed(version: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(wit().join(format!("contract-{version}.txt"))).ok()?;
    Some(text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect())
}

#[test]
fn the_contract_is_what_components_were_built_against() {
    let Contract { version, lines } = read(&wit()).unwrap();
    let listed = listed(&version).unwrap_or_else(|| {
        panic!("write wit/contract-{version}.txt, with these lines:\n{}", lines.join("\n"))
    });
    let verdict = compare(&listed, &lines);
    assert_eq!(verdict, Verdict::Same, "\n{}", verdict.advice(&version));
}

/// What older components of the same minor version were built against still holds.
#[test]
fn older_contracts_of_this_minor_version_still_hold() {
    let Contract { version, lines } = read(&wit()).unwrap();
    let minor = |version: &str| version.rsplit_once('.').map(|(minor, _)| minor.to_owned());
    let mut checked = 0;
    for entry in fs::read_dir(wit()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let older = name.strip_prefix("contract-").and_then(|name| name.strip_suffix(".txt"));
        let Some(older) = older.filter(|older| minor(older) == minor(&version)) else { continue };
        if let Verdict::Broken { missing } = compare(&listed(older).unwrap(), &lines) {
            panic!("components built for {older} find no longer:\n{}", missing.join("\n"));
        }
        checked += 1;
    }
    assert!(checked > 0, "no contract is listed");
}

/// A copy of `wit/` with the first of each pair replaced by the second in `file`, compared with the original.
fn altered(file: &str, changes: &[(&str, &str)]) -> Verdict {
    let copy = tempfile::tempdir().expect("a folder");
    copy_folder(&wit(), copy.path()).expect("a copy");
    let path = copy.path().join(file);
    let mut text = fs::read_to_string(&path).expect("a file of wit/");
    for (old, new) in changes {
        assert!(text.contains(old), "{file} has no `{old}` to alter");
        text = text.replacen(old, new, 1);
    }
    fs::write(&path, text).expect("a written file");
    compare(&read(&wit()).expect("WIT").lines, &read(copy.path()).expect("WIT, altered").lines)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

#[test]
fn what_breaks_components_is_refused() {
    for (what, file, old, new) in [
        (
            "a field removed",
            "handler.wit",
            "    topic: string,\n    /// What it is about",
            "    /// What it is about",
        ),
        ("a field added", "handler.wit", "    id: string,", "    id: string,\n    site: string,"),
        (
            "a field's type changed",
            "handler.wit",
            "device: option<string>,\n    /// When",
            "device: string,\n    /// When",
        ),
        ("a field renamed", "handler.wit", "    name: string,", "    title: string,"),
        ("a named type changed", "handler.wit", "type timestamp = u64", "type timestamp = s64"),
        ("a case added to a variant", "handler.wit", "reply(message),", "reply(message),\n    noise,"),
        ("a case without its payload", "handler.wit", "retry(string),", "retry,"),
        ("an import's function removed", "handler.wit", "delete: func(name: string);", ""),
        (
            "a parameter added",
            "handler.wit",
            "get: func(name: string)",
            "get: func(name: string, fresh: bool)",
        ),
        (
            "a result changed",
            "handler.wit",
            "names: func(prefix: string) -> list<string>",
            "names: func(prefix: string)",
        ),
        ("an import removed", "handler.wit", "import wasi:config/store@0.2.0-rc.1;", ""),
        (
            "an export changed",
            "handler.wit",
            "export configure: func() -> result<_, string>",
            "export configure: func()",
        ),
        ("an export removed", "handler.wit", "export configure: func() -> result<_, string>;", ""),
        (
            "a request's field added",
            "handler.wit",
            "    timeout-ms: option<u32>,",
            "    timeout-ms: option<u32>,\n    retries: u8,",
        ),
        ("an answer's field changed", "handler.wit", "    status: u16,", "    status: u32,"),
        (
            "an error's case removed",
            "handler.wit",
            "    too-large(u32),\n  }\n\n  /// Sends one",
            "  }\n\n  /// Sends one",
        ),
        ("an interface no longer imported", "handler.wit", "  import http;\n", ""),
        ("a dependency's enum changed", "deps/logging/logging.wit", "warn, error", "error, warn"),
    ] {
        let verdict = altered(file, &[(old, new)]);
        assert!(
            matches!(&verdict, Verdict::Broken { missing } if !missing.is_empty()),
            "{what}: {verdict:?}"
        );
    }
}

/// Components that were built before do not have it.
#[test]
fn an_export_that_is_new_is_refused() {
    let verdict =
        altered("handler.wit", &[("export configure:", "export stop: func();\n  export configure:")]);
    assert!(matches!(&verdict, Verdict::NewExports { .. }), "{verdict:?}");
    assert!(verdict.advice("0.1.0").contains("export stop: func()"));
}

#[test]
fn what_breaks_nothing_only_has_to_be_listed() {
    let function = [("  delete: func(name: string);", "  delete: func(name: string);\n  clear: func();")];
    let interface = [
        (
            "/// A component that handles",
            "interface wall { now: func() -> u64; }\n/// A component that handles",
        ),
        ("  import state;", "  import state;\n  import wall;"),
    ];
    for changes in [&function[..], &interface[..]] {
        let verdict = altered("handler.wit", changes);
        assert!(matches!(&verdict, Verdict::Unlisted { added } if !added.is_empty()), "{verdict:?}");
    }
}

#[test]
fn comments_and_layout_are_no_change() {
    for change in [
        ("/// Why a write was refused.", "/// Why."),
        ("type timestamp = u64;", "type timestamp =\n    u64;"),
    ] {
        assert_eq!(altered("handler.wit", &[change]), Verdict::Same);
    }
}
