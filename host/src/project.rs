//! A module's folder: what `sandbar build`, `test`, `deploy` and `dev` know of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use sandbar_control::script;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cli::read_signature;
use crate::componentize::{Texts, componentize, is_component};

/// Its name in the folder.
pub(crate) const MANIFEST: &str = "module.toml";

/// `module.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// What the module is called, and its route.
    name: String,
    /// A command for the shell, run in the folder. Without one there is nothing to build.
    #[serde(default)]
    build: Option<String>,
    /// What it makes: a component, or a core module that is to become one. Relative to the folder.
    file: PathBuf,
    /// As a `[route.NAME]` table, without the module.
    #[serde(default)]
    route: Map<String, Value>,
}

#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    /// As the API takes it, without the module.
    pub(crate) route: Map<String, Value>,
    build: Option<String>,
    file: PathBuf,
}

impl Project {
    pub(crate) fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}: `sandbar new` makes such a folder", path.display()))?;
        let manifest: Manifest = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
        let file = folder.join(manifest.file);
        Ok(Self {
            folder: folder.to_owned(),
            name: manifest.name,
            route: manifest.route,
            build: manifest.build,
            file,
        })
    }

    /// Runs its command, whose output is shown; false if it fails. A core module that it has made becomes a component.
    pub(crate) fn build(&self) -> anyhow::Result<bool> {
        let Some(command) = &self.build else { return Ok(true) };
        let status = Command::new("sh").arg("-c").arg(command).current_dir(&self.folder).status();
        if !status.with_context(|| format!("running `{command}`"))?.success() {
            return Ok(false);
        }
        let built = std::fs::read(&self.file).unwrap_or_default();
        if built.starts_with(b"\0asm") && !is_component(&built) {
            self.replace(&self.component()?)?;
        }
        Ok(true)
    }

    /// By another file under its name: compilers keep links to what they made.
    fn replace(&self, component: &[u8]) -> anyhow::Result<()> {
        let beside = self.file.with_extension("component");
        let replaced = std::fs::write(&beside, component).and_then(|()| std::fs::rename(&beside, &self.file));
        replaced.with_context(|| format!("writing {}", self.file.display()))
    }

    /// The component or the script, as a host's store has it.
    pub(crate) fn component(&self) -> anyhow::Result<Vec<u8>> {
        component_of(&self.file)
    }

    /// The signature beside the component, for hosts that ask for one.
    pub(crate) fn signature(&self) -> anyhow::Result<Option<String>> {
        let mut beside = self.file.clone().into_os_string();
        beside.push(".sig");
        let beside = PathBuf::from(beside);
        beside.exists().then(|| read_signature(&beside)).transpose()
    }

    /// What the command line may write to, and a watcher need not look at.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// A file that it may have beside its manifest.
    pub(crate) fn beside(&self, name: &str) -> Option<PathBuf> {
        let path = self.folder.join(name);
        path.is_file().then_some(path)
    }
}

/// A component as it stands in a file, or a core module's, or a script as it is stored.
pub(crate) fn component_of(path: &Path) -> anyhow::Result<Vec<u8>> {
    let missing =
        || format!("reading {}: is it built? `sandbar build` does that for a folder", path.display());
    let bytes = std::fs::read(path).with_context(missing)?;
    if path.extension().is_some_and(|extension| extension == "js") {
        let text =
            String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8 text", path.display()))?;
        return Ok(script::javascript(&text).to_vec());
    }
    if !bytes.starts_with(b"\0asm") {
        bail!("{} is no WebAssembly", path.display());
    }
    match is_component(&bytes) {
        true => Ok(bytes),
        false => componentize(&bytes, Texts::Utf8)
            .with_context(|| format!("{} cannot become a component", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_says_what_and_how_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(dir.path().join(MANIFEST), text).unwrap();
        write("name = \"a\"\nbuild = \"printf x > out\"\nfile = \"out\"\n[route]\ntopic = \"a/#\"\n");
        let project = Project::load(dir.path()).unwrap();
        assert_eq!((project.name.as_str(), &project.route["topic"]), ("a", &Value::from("a/#")));
        assert!(project.component().unwrap_err().to_string().contains("is it built?"));
        assert!(project.build().unwrap());
        assert!(project.component().unwrap_err().to_string().contains("is no WebAssembly"));
        write("name = \"a\"\nfile = \"out\"\nbuidl = \"x\"\n");
        assert!(format!("{:#}", Project::load(dir.path()).unwrap_err()).contains("buidl"));
    }
}
