//! The pages under `docs/reference/` are what the code says today.

use std::collections::BTreeMap;
use std::path::Path;

use sandbar_tests::host::binary;

#[test]
fn the_reference_is_not_stale() -> anyhow::Result<()> {
    let fresh = tempfile::tempdir()?;
    let made = std::process::Command::new(binary()).arg("docs").arg(fresh.path()).status()?;
    anyhow::ensure!(made.success(), "`sandbar docs` failed");
    let committed = sandbar_tests::checkout().join("docs/reference");
    let (fresh, committed) = (pages(fresh.path())?, pages(&committed)?);
    let names: Vec<_> = fresh.keys().chain(committed.keys()).collect();
    for name in names {
        anyhow::ensure!(
            fresh.get(name) == committed.get(name),
            "docs/reference/{name} is stale: run `sandbar docs docs/reference` and look at what changed"
        );
    }
    Ok(())
}

fn pages(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut pages = BTreeMap::new();
    for page in std::fs::read_dir(folder)? {
        let page = page?;
        pages.insert(page.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(page.path())?);
    }
    Ok(pages)
}
