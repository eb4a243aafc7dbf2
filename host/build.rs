//! Puts what `sandbar new` writes into the binary: the contract, the SDKs and the templates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folders and files below the checkout, by the names that they keep.
const EMBEDDED: [&str; 5] =
    ["wit", "guest-sdk/rust", "guest-sdk/sources", "guest-sdk/templates", "example-modules/Cargo.lock"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?)
        .join("..")
        .canonicalize()?;
    let mut files = Vec::new();
    for name in EMBEDDED {
        println!("cargo::rerun-if-changed=../{name}");
        collect(&root.join(name), &mut files)?;
    }
    files.sort();
    let mut text = String::from("pub(crate) static FILES: &[(&str, &str)] = &[\n");
    for file in files {
        let name = file
            .strip_prefix(&root)
            .map_err(io::Error::other)?
            .to_str()
            .ok_or(io::ErrorKind::InvalidFilename)?;
        // By the folder of who compiles it: a target directory may serve several checkouts.
        let path = format!("/../{name}");
        text.push_str(&format!(
            "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))),\n"
        ));
    }
    text.push_str("];\n");
    let out = std::env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("files.rs"), text)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !matches!(name, "target" | "node_modules" | "__pycache__") {
            collect(&entry, files)?;
        }
    }
    Ok(())
}
