//! The reference pages, made from the code: drivers, sinks, the configuration file, the commands.

mod pages;
mod schema;

use std::path::{Path, PathBuf};
use std::{fs, io};

pub(crate) use pages::Page;

/// How every page begins; only pages that do are ever removed.
const MARK: &str = "<!-- Made by `sandbar docs`: change the code it is made from. -->";

/// Every page, the same for the same binary.
pub(crate) fn pages(commands: clap::Command) -> anyhow::Result<Vec<Page>> {
    let mut pages = vec![pages::configuration(), pages::commands(commands)];
    for kind in sandbar_ingress::kinds() {
        pages.push(pages::driver(kind.name, kind.example, &(kind.schema)().to_value())?);
    }
    for kind in sandbar_sinks::kinds() {
        pages.push(pages::sink(kind.name, kind.example, &kind.schema)?);
    }
    pages.push(pages::index(&pages));
    Ok(pages)
}

/// Writes `pages` into `dir`, and removes pages of earlier binaries. Returns what was written or removed.
pub(crate) fn write(dir: &Path, pages: &[Page]) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(dir)?;
    let mut changed = Vec::new();
    for page in pages {
        let path = dir.join(&page.file);
        let text = format!("{MARK}\n\n{}", page.text);
        if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            fs::write(&path, text)?;
            changed.push(path);
        }
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_wanted = |page: &Page| path.file_name().is_some_and(|name| name == page.file.as_str());
        let is_ours = || fs::read_to_string(&path).is_ok_and(|text| text.starts_with(MARK));
        if path.extension().is_some_and(|extension| extension == "md")
            && !pages.iter().any(is_wanted)
            && is_ours()
        {
            fs::remove_file(&path)?;
            changed.push(path);
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(file: &str, text: &str) -> Page {
        Page { file: file.into(), title: String::new(), about: String::new(), text: text.into() }
    }

    #[test]
    fn only_what_changed_is_written_and_only_ours_removed() {
        let dir = tempfile::tempdir().unwrap();
        let pages = [page("a.md", "A"), page("b.md", "B")];
        assert_eq!(write(dir.path(), &pages).unwrap().len(), 2);
        assert_eq!(write(dir.path(), &pages).unwrap(), Vec::<PathBuf>::new());
        fs::write(dir.path().join("by-hand.md"), "# Mine\n").unwrap();
        assert_eq!(write(dir.path(), &pages[..1]).unwrap(), [dir.path().join("b.md")]);
        assert!(dir.path().join("by-hand.md").exists() && !dir.path().join("b.md").exists());
    }

    #[test]
    fn every_driver_and_sink_has_a_page_with_its_example() {
        let pages = pages(clap::Command::new("sandbar")).unwrap();
        let text =
            |file: &str| pages.iter().find(|page| page.file == file).map(|page| page.text.as_str()).unwrap();
        assert!(text("driver-simulator.md").contains("[ingress.NAME]\ndriver = \"simulator\"\n"));
        assert!(text("sink-log.md").contains("[sink.NAME]\nkind = \"log\"\n"));
        assert!(text("README.md").contains("(driver-webhook.md)"));
        assert!(text("configuration.md").contains("`journal_hours`"));
    }
}
