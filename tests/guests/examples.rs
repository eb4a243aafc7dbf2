//! Each example module does what its `expected.jsonl` says.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use sandbar_tests::checkout;
use sandbar_tests::host::guest;
use sandbar_tests::tool::{run, succeeds};

use crate::sandbar;

/// Those that exist, and may not become fewer unnoticed.
const EXAMPLES: usize = 14;

/// Bytes that a module in JavaScript may have.
const JAVASCRIPT_MAX: u64 = 2 << 20;

fn examples() -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(checkout().join("example-modules"))? {
        let folder = entry?.path();
        if folder.join("module.toml").is_file() {
            let name = folder.file_name().and_then(|name| name.to_str()).context("a folder's name")?;
            found.push((name.to_owned(), folder));
        }
    }
    ensure!(found.len() >= EXAMPLES, "{found:?}");
    Ok(found)
}

#[tokio::test]
async fn every_example_does_what_is_expected() -> Result<()> {
    for (name, folder) in examples()? {
        let (folder, module) = (folder.display().to_string(), guest(&name).display().to_string());
        let said = succeeds(sandbar(&["test", &folder, "--module", &module]), 120).await?;
        ensure!(said.contains("all as expected"), "{name}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_expected_fails_and_is_shown() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let expected = folder.path().join("expected.jsonl");
    std::fs::write(&expected, "{\"reading\":1,\"reject\":\"something else\"}\n")?;
    let example = checkout().join("example-modules/fahrenheit-to-celsius");
    let (example, expected) = (example.display().to_string(), expected.display().to_string());
    let module = guest("fahrenheit-to-celsius").display().to_string();
    let said = run(sandbar(&["test", &example, "--module", &module, "--expect", &expected]), 60).await?;
    ensure!(said.code == Some(1), "{said:?}");
    ensure!(said.stdout.contains("- {\"reading\":1,\"reject\":\"something else\"}"), "{}", said.stdout);
    ensure!(said.stdout.contains("+ {\"message\":"), "{}", said.stdout);
    ensure!(said.stderr.contains("+ happened, - was expected"), "{}", said.stderr);
    Ok(())
}

/// What a sandbox refuses is refused here, too: `sandbar test` is no second host.
#[tokio::test]
async fn limits_and_traps_are_the_hosts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (readings, expected) = (folder.path().join("r.jsonl"), folder.path().join("e.jsonl"));
    let route = folder.path().join("route.toml");
    let modes = ["ok", "trap", "loop", "grow", "many", "state-huge", "reject", "retry"];
    let lines = modes
        .map(|mode| format!("{{\"topic\":\"a\",\"content_type\":\"text/plain\",\"payload\":\"{mode}\"}}\n"));
    std::fs::write(&readings, lines.concat())?;
    std::fs::write(&route, "attempts = { max = 2 }\nlimits = { time_ms = 200, memory_mib = 8 }\n")?;
    std::fs::write(
        &expected,
        r#"{"reading":1,"message":{"topic":"hostile","content_type":"text/plain","payload":"ok"}}
{"reading":2,"fault":"trap"}
{"reading":3,"fault":"timed_out"}
{"reading":4,"fault":"out_of_memory"}
{"reading":5,"fault":"out_of_memory"}
{"reading":6,"fault":"out_of_memory"}
{"reading":7,"reject":"rejected as told"}
{"reading":8,"retry":"not yet, as told"}
"#,
    )?;
    let path = |path: &PathBuf| path.display().to_string();
    let arguments =
        ["test", &path(&guest("hostile")), "--readings", &path(&readings), "--expect", &path(&expected)];
    let mut command = sandbar(&arguments);
    command.args(["--route", &path(&route)]);
    succeeds(command, 60).await?;
    Ok(())
}

/// A test asks nobody: what others answer stands in a file, and what the route does not permit is not even looked up.
#[tokio::test]
async fn requests_are_answered_from_a_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let asked = |url: &str| {
        format!("{{\"topic\":\"a\",\"content_type\":\"text/plain\",\"payload\":\"ask GET {url}\"}}\n")
    };
    let urls = ["http://a.example/x", "http://a.example/x", "http://a.example/none", "http://b.example/x"];
    let readings = write("r.jsonl", &urls.map(asked).concat())?;
    let answers = write(
        "http.jsonl",
        "{\"url\":\"http://a.example/x\",\"payload\":\"once\"}\n{\"url\":\"http://a.example/x\",\"status\":404}\n\
         {\"url\":\"http://b.example/x\",\"payload\":\"never\"}\n",
    )?;
    let permissions =
        "[permissions]\nsecrets = [\"token\"]\n[[permissions.http]]\nurl = \"http://a.example/\"\n";
    let route = write("route.toml", permissions)?;
    let said = |(at, text): (usize, &str)| {
        format!(
            "{{\"reading\":{},\"message\":{{\"topic\":\"did/ask\",\"content_type\":\"text/plain\",\"payload\":\"{text}\"}}}}\n",
            at + 1
        )
    };
    let outcomes = ["200 once", "404 ", "failed", "denied"];
    let expected = write("e.jsonl", &outcomes.into_iter().enumerate().map(said).collect::<String>())?;
    for module in ["permitted", "permitted-js"] {
        let module = guest(module).display().to_string();
        let arguments = ["test", &module, "--readings", &readings, "--http", &answers, "--expect", &expected];
        let mut command = sandbar(&arguments);
        command.args(["--route", &route]);
        succeeds(command, 120).await?;
    }
    Ok(())
}

#[test]
fn modules_in_javascript_are_small() -> Result<()> {
    for (name, folder) in examples()? {
        if folder.join("handler.js").is_file() || folder.join("handler.ts").is_file() {
            let size = std::fs::metadata(guest(&name))?.len();
            ensure!(size <= JAVASCRIPT_MAX, "{name} has {size} bytes");
        }
    }
    Ok(())
}
