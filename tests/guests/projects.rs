//! What `sandbar new` makes builds, passes its own test and handles a reading on a host, with the commands that it
//! says itself.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, binary, guest};
use sandbar_tests::tool::succeeds;
use serde_json::Value;
use tokio::process::Command;

use crate::{cache, sandbar};

const TARGET: &str = "wasm32-unknown-unknown";

/// `sandbar` in a folder, with the compilers that `make guests` keeps.
fn with_compilers(folder: &Path, arguments: &[&str]) -> Result<Command> {
    let tools = cache().join("guest-tools/python/bin");
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder);
    command.env("COMPONENTIZE_PY", tools.join("componentize-py"));
    command.env("CC", format!("{} -m ziglang cc", tools.join("python").display()));
    command.env("ZIG", format!("{} -m ziglang", tools.join("python").display()));
    command.env("ZIG_GLOBAL_CACHE_DIR", cache().join("zig"));
    command.env_remove("CARGO_BUILD_TARGET").env_remove("RUSTFLAGS");
    let sysroot = std::process::Command::new("rustc").args(["--print", "sysroot"]).output()?.stdout;
    let installed =
        Path::new(String::from_utf8(sysroot)?.trim()).join("lib/rustlib").join(TARGET).join("lib");
    if !installed.is_dir() {
        command.env("RUSTC", cache().join("guest-rust/rustc"));
    }
    Ok(command)
}

/// Makes, builds, tests and deploys; then a reading comes out as the template says.
async fn from_new_to_handled(language: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let project = folder.path().join("cold-room");
    let path = project.display().to_string();
    succeeds(sandbar(&["new", &path, "--lang", language]), 30).await?;
    // What is downloaded and compiled is kept: the second time takes seconds.
    let kept = cache().join("new-target");
    std::fs::create_dir_all(&kept)?;
    std::os::unix::fs::symlink(kept, project.join("target"))?;
    std::os::unix::fs::symlink(cache().join("componentize-qjs/node_modules"), project.join("node_modules"))?;
    succeeds(with_compilers(&project, &["build"])?, 400).await?;
    let tested = succeeds(with_compilers(&project, &["test"])?, 120).await?;
    ensure!(tested.contains("all as expected"), "{tested}");

    let host = folder.path().join("host");
    std::fs::create_dir(&host)?;
    std::fs::write(host.join("sandbar.toml"), "[api]\nlisten = \"127.0.0.1:0\"\n")?;
    let host = Host::start(&host).await?;
    let deployed = succeeds(host.cli(&["deploy", &path]), 120).await?;
    ensure!(deployed.contains("cold-room: version 1 is active"), "{deployed}");
    let payload = r#"{"temperature": 35.25}"#;
    succeeds(host.cli(&["send", "rooms/attic", payload, "--device", "a1"]), 30).await?;
    eventually("the reading is handled", 30, async || {
        let routes = host.get("/v1/routes/cold-room").await.unwrap_or_default();
        routes["status"]["handled"] == 1
    })
    .await;
    // A second reading counts on from what the first left in the state.
    let trial = serde_json::json!({ "route": "cold-room", "reading": {
        "topic": "rooms/attic", "device": "a1", "payload_json": { "temperature": 20.5 } } });
    let answer =
        host.request(reqwest::Method::POST, "/v1/modules/cold-room/invoke").json(&trial).send().await?;
    let tried: Value = answer.json().await?;
    let readings = tried.pointer("/outputs/0/message/payload_json/readings");
    let readings =
        readings.or_else(|| tried.pointer("/outputs/0/payload_json/readings")).context(format!("{tried}"))?;
    ensure!(readings == 2, "{tried}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust() -> Result<()> {
    from_new_to_handled("rust").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn javascript() -> Result<()> {
    from_new_to_handled("javascript").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typescript() -> Result<()> {
    from_new_to_handled("typescript").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python() -> Result<()> {
    from_new_to_handled("python").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c() -> Result<()> {
    from_new_to_handled("c").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zig() -> Result<()> {
    from_new_to_handled("zig").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script() -> Result<()> {
    from_new_to_handled("script").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_by_is_recorded_and_can_be_tested() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("sandbar.toml"), "[api]\nlisten = \"127.0.0.1:0\"\n")?;
    let host = Host::start(folder.path()).await?;
    let recording = folder.path().join("r.jsonl").display().to_string();
    let arguments = ["record", &recording, "--topic", "rooms/#", "--count", "2", "--seconds", "60"];
    let record = tokio::spawn(succeeds(host.cli(&arguments), 60));
    // It says when it listens, but to a pipe that is read at its end: what comes too early is sent again.
    while !record.is_finished() {
        succeeds(host.cli(&["send", "rooms/a", r#"{"temperature": 50, "unit": "F"}"#, "--device", "a"]), 30)
            .await?;
        succeeds(host.cli(&["send", "other/a", "no"]), 30).await?;
    }
    record.await??;
    ensure!(std::fs::read_to_string(&recording)?.lines().count() == 2);
    let module = guest("fahrenheit-to-celsius").display().to_string();
    let said = succeeds(sandbar(&["test", &module, "--readings", &recording]), 60).await?;
    ensure!(said.lines().filter(|line| line.contains("\"temperature\":10.0")).count() == 4, "{said}");
    Ok(())
}
