//! `sandbar run --demo`: something to look at, with nothing to prepare but the example modules.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use toml_edit::{DocumentMut, value};

const CONFIGURATION: &str = include_str!("demo.toml");

/// Its name in the data directory.
const FILE: &str = "demo.toml";

/// The demo's configuration, and the file it is to be written to once `data_dir` is this host's own.
/// `guests`: the folder of the example modules.
pub(crate) fn prepare(data_dir: &Path, guests: &Path) -> anyhow::Result<(PathBuf, String)> {
    let data_dir =
        std::path::absolute(data_dir).with_context(|| format!("finding {}", data_dir.display()))?;
    Ok((data_dir.join(FILE), configuration(&data_dir, guests)?))
}

/// The embedded configuration with every path absolute: it runs from anywhere, and can be copied to anywhere.
fn configuration(data_dir: &Path, guests: &Path) -> anyhow::Result<String> {
    let mut document: DocumentMut = CONFIGURATION.parse().context("the embedded configuration")?;
    let text = |path: &Path| match path.to_str() {
        Some(text) => Ok(value(text)),
        None => bail!("{} is not UTF-8, which a configuration must be", path.display()),
    };
    document["host"]["data_dir"] = text(data_dir)?;
    let modules = document["module"].as_table_mut().context("the embedded configuration has no modules")?;
    for (name, module) in modules.iter_mut() {
        let component = guests.join(format!("{}.wasm", name.get()));
        if !component.is_file() {
            bail!(
                "the example module {} is not there: build it with `make guests`, or name the folder that has it \
                 with SANDBAR_GUESTS",
                component.display()
            );
        }
        module["file"] = text(&component)?;
    }
    let sink = &mut document["sink"]["celsius-file"]["path"];
    let relative = sink.as_str().unwrap_or_default().to_owned();
    *sink = text(&data_dir.join(relative))?;
    Ok(document.to_string())
}

/// Where `make guests` puts the example modules, unless SANDBAR_GUESTS names another folder.
pub(crate) fn guests(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(folder) = named {
        return std::path::absolute(&folder).with_context(|| format!("finding {}", folder.display()));
    }
    let cache = match std::env::var_os("SANDBAR_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => std::env::home_dir()
            .context("there is no home directory: set SANDBAR_GUESTS")?
            .join(".cache/sandbar"),
    };
    Ok(cache.join("guests"))
}

/// What to try next. `program`: how `sandbar` is called; `settings`: what lets it find this host, for the
/// environment; `link`: to the dashboard, signed in.
pub(crate) fn hints(
    program: &str,
    settings: &[String],
    web: Option<SocketAddr>,
    data_dir: &Path,
    link: &str,
) -> String {
    let mut lines = vec!["Try next, in another terminal:".to_owned()];
    if let Some(web) = web {
        lines.push(format!(
            "  curl http://{web}/hooks/kettle/temperature --json '{{\"temperature\": 212, \"unit\": \"F\"}}'"
        ));
    }
    lines.push(format!("  tail -f '{}'", data_dir.join("out/celsius.jsonl").display()));
    lines.push(format!("  export {}", settings.join(" ")));
    lines.push(format!("  {program} tail"));
    lines.push(format!("  {program} send sensors/oven/temperature '{{\"temperature\": 400}}' --device oven"));
    lines.push(format!("  {program} status"));
    lines.push(format!("or change {} while it runs,", data_dir.join(FILE).display()));
    lines.push(format!("or open {link}"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use sandbar_control::Declared;

    use super::*;

    #[test]
    fn the_configuration_has_absolute_paths_and_is_sound() {
        let dir = tempfile::tempdir().unwrap();
        let (data, guests) = (dir.path().join("d\"ata"), dir.path().join("guests"));
        std::fs::create_dir(&guests).unwrap();
        let missing = prepare(&data, &guests).unwrap_err().to_string();
        assert!(
            missing.contains("fahrenheit-to-celsius.wasm is not there: build it with `make guests`"),
            "{missing}"
        );

        for name in ["fahrenheit-to-celsius", "threshold-alarm"] {
            std::fs::write(guests.join(format!("{name}.wasm")), b"").unwrap();
        }
        let (file, text) = prepare(&data, &guests).unwrap();
        let declared = Declared::parse(&text, &file).unwrap();
        assert_eq!(declared.host().data_dir, data);
        let files = declared.files();
        assert_eq!(files[0], file);
        assert!(files[1..].iter().all(|module| module.starts_with(&guests)), "{files:?}");
        let table: toml::Table = text.parse().unwrap();
        let out = table["sink"]["celsius-file"]["path"].as_str().unwrap();
        assert!(Path::new(out).starts_with(&data), "{out}");
    }
}
