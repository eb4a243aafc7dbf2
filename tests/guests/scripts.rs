//! Scripts: modules without a toolchain.

use anyhow::{Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::Host;
use sandbar_tests::tool::{run, succeeds};

const SCRIPT: &str = r"
export function handle(reading) {
  const { fahrenheit } = json(reading);
  if (fahrenheit === 451) for (;;);
  return [message(`${reading.topic}/celsius`, { celsius: (fahrenheit - 32) / 1.8 })];
}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_a_module_as_any_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let convert = folder.path().join("convert.js");
    std::fs::write(&convert, SCRIPT)?;
    let convert = convert.display().to_string();
    let declared = "[api]\nlisten = \"127.0.0.1:0\"\n[sink.out]\nkind = \"file\"\npath = \"sandbar-data/out.jsonl\"\n\
                    [module.declared]\nfile = \"convert.js\"\n";
    std::fs::write(folder.path().join("sandbar.toml"), declared)?;
    let host = Host::start(folder.path()).await?;
    let route = ["--topic", "heat/+", "--sink", "out"];
    succeeds(host.cli(&[&["deploy", "--script", &convert], &route[..]].concat()), 60).await?;
    succeeds(host.cli(&["send", "heat/oven", r#"{"fahrenheit": 212}"#]), 30).await?;
    let out = host.data("out.jsonl");
    eventually("the message is in the file", 30, async || {
        std::fs::read_to_string(&out).is_ok_and(|text| text.contains("\"celsius\":100"))
    })
    .await;
    let tried = succeeds(host.cli(&["try", &convert, "--from", "convert"]), 60).await?;
    ensure!(tried.contains("1 readings tried: 1 the same"), "{tried}");
    // One that does not end is stopped, as any other.
    let trial =
        serde_json::json!({ "reading": { "topic": "heat/oven", "payload_json": { "fahrenheit": 451 } } });
    let answer =
        host.request(reqwest::Method::POST, "/v1/modules/convert/invoke").json(&trial).send().await?;
    let text = answer.text().await?;
    ensure!(text.contains("timed_out"), "{text}");
    let modules = host.get("/v1/modules").await?;
    ensure!(modules["items"].as_array().is_some_and(|items| items.len() == 2), "{modules}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_cannot_work_is_refused_with_its_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("sandbar.toml"), "[api]\nlisten = \"127.0.0.1:0\"\n")?;
    let host = Host::start(folder.path()).await?;
    let script = folder.path().join("bad.js");
    let path = script.display().to_string();
    for (text, says) in [
        ("function handle(reading) {\n  return [;\n}\n", "line 2"),
        ("const a = 1;\n", "no function `handle`"),
        ("config.number('limit');\nfunction handle() {}\n", "setting `limit` is missing"),
    ] {
        std::fs::write(&script, text)?;
        let said = run(host.cli(&["deploy", "--script", &path, "--topic", "a/+"]), 60).await?;
        ensure!(said.code == Some(1) && said.stderr.contains(says), "{text}: {said:?}");
    }
    let routes = host.get("/v1/routes").await?;
    ensure!(routes["items"] == serde_json::json!([]), "{routes}");
    Ok(())
}

/// It was refused for a setting that the old route lacks, and the new route was to come after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_comes_with_the_settings_that_it_needs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("sandbar.toml"), "[api]\nlisten = \"127.0.0.1:0\"\n")?;
    let host = Host::start(folder.path()).await?;
    let script = folder.path().join("alarm.js");
    let path = script.display().to_string();
    let route = ["deploy", "--script", path.as_str(), "--topic", "a/+"];
    let deploy = |more: &[&str]| host.cli(&[&route[..], more].concat());
    std::fs::write(&script, "function handle() {}\n")?;
    succeeds(deploy(&["--config", "limit=1"]), 60).await?;
    std::fs::write(&script, "config.number('high');\nfunction handle() {}\n")?;
    let said = run(deploy(&[]), 60).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("setting `high` is missing"), "{said:?}");
    let route = host.get("/v1/routes/alarm").await?;
    ensure!(route["config"]["limit"] == "1", "it is not as it was: {route}");
    succeeds(deploy(&["--config", "high=3"]), 60).await?;
    // A route that is refused takes its version with it.
    std::fs::write(&script, "function handle() { return []; }\n")?;
    let said = run(deploy(&["--sink", "nowhere"]), 60).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("version 2 is active again"), "{said:?}");
    let (module, route) = (host.get("/v1/modules/alarm").await?, host.get("/v1/routes/alarm").await?);
    ensure!(module["active"] == 2 && route["config"]["high"] == "3", "{module} {route}");
    Ok(())
}
