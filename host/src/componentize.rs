//! A core module as a component without WASI: `sandbar componentize`.
//!
//! What compilers of C, C++, Zig and Go make imports preview 1 of WASI. An adapter answers those imports with
//! nothing: no arguments, no files, a clock that only counts.

use std::fmt::Write;

use anyhow::{Context, bail};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::embedded;

/// Whose types a module has that says nothing else.
const WORLD: &str = "sandbar:handler/handler";

/// In the order in which they build on each other.
const CONTRACT: [&str; 4] = [
    "wit/deps/config/store.wit",
    "wit/deps/logging/logging.wit",
    "wit/deps/keyvalue/keyvalue.wit",
    "wit/handler.wit",
];

/// How a core module has its texts in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Texts {
    Utf8,
    /// As MoonBit has them.
    Utf16,
}

/// A core module's component. A module that carries no types of its own is taken for one that exports `handle` and
/// `configure` as the contract says them, in the way of `wit-bindgen c`, with such texts.
pub(crate) fn componentize(core: &[u8], texts: Texts) -> anyhow::Result<Vec<u8>> {
    if is_component(core) {
        bail!("this is a component already");
    }
    let mut module = core.to_vec();
    if !has_types(core).context("this is no WebAssembly module")? {
        let (resolve, world) = contract()?;
        let encoding = match texts {
            Texts::Utf8 => StringEncoding::UTF8,
            Texts::Utf16 => StringEncoding::UTF16,
        };
        embed_component_metadata(&mut module, &resolve, world, encoding, false)?;
    }
    let adapter = wat::parse_str(adapter()).context("the adapter")?;
    let mut encoder = ComponentEncoder::default();
    let no_handler = "its exports or imports are not those of a handler";
    encoder
        .validate(true)
        .module(&module)
        .context(no_handler)?
        .adapter("wasi_snapshot_preview1", &adapter)?
        .encode()
        .context(no_handler)
}

pub(crate) fn is_component(wasm: &[u8]) -> bool {
    wasm.starts_with(b"\0asm\x0d\0\x01\0")
}

fn contract() -> anyhow::Result<(Resolve, wit_parser::WorldId)> {
    let mut resolve = Resolve::default();
    let mut packages = Vec::new();
    for path in CONTRACT {
        let text = embedded::file(path).with_context(|| format!("{path} is not in this binary"))?;
        packages.push(resolve.push_str(path, text)?);
    }
    let world = resolve.select_world(&packages, Some(WORLD))?;
    Ok((resolve, world))
}

/// Whether a core module has a custom section that says what its functions are in a component.
fn has_types(core: &[u8]) -> anyhow::Result<bool> {
    let mut rest =
        core.strip_prefix(b"\0asm\x01\0\0\0").context("it does not begin with `\\0asm` and version 1")?;
    while let Some((id, after)) = rest.split_first() {
        let (size, after) = leb(after).context("it breaks off")?;
        let section = after.get(..size).context("it breaks off")?;
        let named = || {
            let (length, name) = leb(section)?;
            name.get(..length)
        };
        if *id == 0 && named().is_some_and(|name| name.starts_with(b"component-type")) {
            return Ok(true);
        }
        rest = &after[size..];
    }
    Ok(false)
}

/// An unsigned LEB128 number of 32 bits, and what follows it.
fn leb(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[at + 1..]));
        }
    }
    None
}

/// What a function of preview 1 does here.
#[derive(Clone, Copy)]
enum Answer {
    /// Done; there was nothing to do.
    Nothing,
    /// `ENOSYS`
    Unknown,
    /// `EBADF`, which ends the search for open directories.
    NoSuchFile,
    /// Two counts at the first two parameters: none.
    None,
    /// A clock that is a microsecond later at every look; where to is the last parameter.
    Time,
    Trap,
}

/// Name, parameters (i: 32 bits, l: 64), and what it does. All but `proc_exit` return a number.
const PREVIEW_1: &[(&str, &str, Answer)] = &[
    ("args_get", "ii", Answer::Nothing),
    ("args_sizes_get", "ii", Answer::None),
    ("environ_get", "ii", Answer::Nothing),
    ("environ_sizes_get", "ii", Answer::None),
    ("clock_res_get", "ii", Answer::Time),
    ("clock_time_get", "ili", Answer::Time),
    ("fd_advise", "illi", Answer::Unknown),
    ("fd_allocate", "ill", Answer::Unknown),
    ("fd_close", "i", Answer::Unknown),
    ("fd_datasync", "i", Answer::Unknown),
    ("fd_fdstat_get", "ii", Answer::Unknown),
    ("fd_fdstat_set_flags", "ii", Answer::Unknown),
    ("fd_fdstat_set_rights", "ill", Answer::Unknown),
    ("fd_filestat_get", "ii", Answer::Unknown),
    ("fd_filestat_set_size", "il", Answer::Unknown),
    ("fd_filestat_set_times", "illi", Answer::Unknown),
    ("fd_pread", "iiili", Answer::Unknown),
    ("fd_prestat_get", "ii", Answer::NoSuchFile),
    ("fd_prestat_dir_name", "iii", Answer::NoSuchFile),
    ("fd_pwrite", "iiili", Answer::Unknown),
    ("fd_read", "iiii", Answer::Unknown),
    ("fd_readdir", "iiili", Answer::Unknown),
    ("fd_renumber", "ii", Answer::Unknown),
    ("fd_seek", "ilii", Answer::Unknown),
    ("fd_sync", "i", Answer::Unknown),
    ("fd_tell", "ii", Answer::Unknown),
    ("fd_write", "iiii", Answer::Unknown),
    ("path_create_directory", "iii", Answer::Unknown),
    ("path_filestat_get", "iiiii", Answer::Unknown),
    ("path_filestat_set_times", "iiiilli", Answer::Unknown),
    ("path_link", "iiiiiii", Answer::Unknown),
    ("path_open", "iiiiillii", Answer::Unknown),
    ("path_readlink", "iiiiii", Answer::Unknown),
    ("path_remove_directory", "iii", Answer::Unknown),
    ("path_rename", "iiiiii", Answer::Unknown),
    ("path_symlink", "iiiii", Answer::Unknown),
    ("path_unlink_file", "iii", Answer::Unknown),
    ("poll_oneoff", "iiii", Answer::Unknown),
    ("proc_raise", "i", Answer::Unknown),
    ("random_get", "ii", Answer::Nothing),
    ("sched_yield", "", Answer::Nothing),
    ("sock_accept", "iii", Answer::Unknown),
    ("sock_recv", "iiiiii", Answer::Unknown),
    ("sock_send", "iiiii", Answer::Unknown),
    ("sock_shutdown", "ii", Answer::Unknown),
    ("proc_exit", "i", Answer::Trap),
];

fn adapter() -> String {
    let mut text =
        String::from("(module (import \"env\" \"memory\" (memory 0)) (global $t (mut i64) (i64.const 0))\n");
    for (name, parameters, answer) in PREVIEW_1 {
        // Writing to a string cannot fail.
        let _ = write!(text, "(func (export \"{name}\")");
        for parameter in parameters.chars() {
            let _ = write!(text, " (param {})", if parameter == 'l' { "i64" } else { "i32" });
        }
        let last = parameters.len().saturating_sub(1);
        let _ = match answer {
            Answer::Nothing => write!(text, " (result i32) i32.const 0)"),
            Answer::Unknown => write!(text, " (result i32) i32.const 52)"),
            Answer::NoSuchFile => write!(text, " (result i32) i32.const 8)"),
            Answer::None => {
                let zero = |at| format!("(i32.store (local.get {at}) (i32.const 0))");
                write!(text, " (result i32) {} {} i32.const 0)", zero(0), zero(1))
            }
            Answer::Time => write!(
                text,
                " (result i32) (global.set $t (i64.add (global.get $t) (i64.const 1000))) \
                 (i64.store (local.get {last}) (global.get $t)) i32.const 0)"
            ),
            Answer::Trap => write!(text, " unreachable)"),
        };
        text.push('\n');
    }
    text.push(')');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `handle` returns an empty list, `configure` nothing; both at address 0 of zeros. Imports as C's library does.
    const CORE: &str = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "configure") (result i32) i32.const 0)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
        (func (export "handle")
            (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32) (result i32) i32.const 0))"#;

    #[test]
    fn a_core_module_becomes_a_component_without_wasi() {
        let core = wat::parse_str(CORE).unwrap();
        let component = componentize(&core, Texts::Utf8).unwrap();
        assert!(is_component(&component));
        assert_ne!(component, componentize(&core, Texts::Utf16).unwrap());
        assert!(!component.windows(10).any(|part| part == b"wasi:cli/e"), "it imports WASI");
        assert_eq!(
            componentize(&component, Texts::Utf8).unwrap_err().to_string(),
            "this is a component already"
        );
    }

    #[test]
    fn what_is_no_handler_is_refused_with_what_is_missing() {
        let error = componentize(&wat::parse_str("(module)").unwrap(), Texts::Utf8).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("configure") || text.contains("handle"), "{text}");
        assert!(
            format!("{:#}", componentize(b"#!/bin/sh", Texts::Utf8).unwrap_err())
                .contains("no WebAssembly module")
        );
        let mut broken = wat::parse_str(CORE).unwrap();
        broken.truncate(40);
        assert!(componentize(&broken, Texts::Utf8).is_err());
    }
}
