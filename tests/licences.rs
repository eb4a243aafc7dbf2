//! Holds `deny.toml` where cargo-deny is not installed: what the host is built from comes from the registry, under
//! licences that are allowed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use spdx::{Expression, LicenseReq};

#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

impl Deny {
    fn read(root: &Path) -> Result<Self> {
        Ok(toml::from_str(&std::fs::read_to_string(root.join("deny.toml"))?)?)
    }

    fn allows(&self, name: &str, licence: &LicenseReq) -> bool {
        let licence = licence.to_string();
        let excepted = self.licenses.exceptions.iter().filter(|exception| exception.name == name);
        self.licenses.allow.contains(&licence)
            || excepted.flat_map(|one| &one.allow).any(|one| *one == licence)
    }

    /// What is wrong with building from this package.
    fn objection(&self, package: &Value) -> Result<Option<String>> {
        let name = package["name"].as_str().context("a name")?;
        let version = package["version"].as_str().context("a version")?;
        if let Some(banned) = self.bans.deny.iter().find(|banned| banned.name == name) {
            return Ok(Some(format!("{name} is banned: {}", banned.reason)));
        }
        // What has no source is ours.
        if package["source"].as_str().is_some_and(|source| !source.starts_with("registry+")) {
            return Ok(Some(format!("{name} {version} comes from {}", package["source"])));
        }
        let Some(licence) = package["license"].as_str() else {
            return Ok(Some(format!("{name} {version} does not say its licence")));
        };
        // Older manifests separate by a slash what may be chosen.
        let expression = Expression::parse_mode(licence, spdx::ParseMode::LAX)?;
        let is_allowed = expression.evaluate(|licence| self.allows(name, licence));
        Ok((!is_allowed).then(|| format!("{name} {version} is under {licence}")))
    }
}

#[test]
fn all_that_the_host_is_built_from_is_allowed() -> Result<()> {
    let root = sandbar_tests::checkout();
    let deny = Deny::read(&root)?;
    // Of others cargo would have to fetch what only they are built from.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--locked", "--filter-platform", &platform])
        .arg("--manifest-path")
        .arg(root.join("Cargo.toml"))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    ensure!(packages.len() > 300, "only {} packages", packages.len());
    let objections: Vec<String> =
        packages.iter().filter_map(|package| deny.objection(package).transpose()).collect::<Result<_>>()?;
    ensure!(objections.is_empty(), "{objections:#?}");
    Ok(())
}

#[test]
fn what_is_not_allowed_is_refused() -> Result<()> {
    let root = sandbar_tests::checkout();
    let deny = Deny::read(&root)?;
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    for (name, licence, source, allowed) in [
        ("a", "MIT/Apache-2.0", registry, true),
        ("a", "GPL-3.0-only OR MIT", registry, true),
        ("a", "GPL-3.0-only AND MIT", registry, false),
        ("a", "MPL-2.0", registry, false),
        ("serialport", "MPL-2.0", registry, true),
        ("openssl-sys", "MIT", registry, false),
        ("a", "MIT", "git+https://example.com/a", false),
    ] {
        let package =
            serde_json::json!({ "name": name, "version": "1.0.0", "license": licence, "source": source });
        let objection = deny.objection(&package)?;
        ensure!(objection.is_none() == allowed, "{name} {licence} {source}: {objection:?}");
    }
    Ok(())
}
