//! The guide for CoAP, word for word.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use sandbar_tests::host::Host;
use sandbar_tests::{eventually, free_port, tool};
use tokio::process::Command;

use crate::{check_log, has_reading};

const GUIDE: &str = include_str!("../../docs/guides/coap.md");

/// The blocks of a language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    GUIDE.split(begin.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guides_lamp_is_switched() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // Ports of its own, so that tests can run side by side.
    let [coap, lamp, web] = [free_port()?, free_port()?, free_port()?];
    let own = |text: &str| {
        text.replace("127.0.0.1:5690", &format!("127.0.0.1:{lamp}"))
            .replace("5690)", &format!("{lamp})"))
            .replace("127.0.0.1:5683", &format!("127.0.0.1:{coap}"))
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{web}"))
            .replace("coap://127.0.0.1/", &format!("coap://127.0.0.1:{coap}/"))
    };
    std::fs::write(folder.path().join("lamp.py"), own(blocks("python")[0]))?;
    let mut lamp = Command::new(tool::python_peer("python3"));
    lamp.arg("lamp.py").current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    let _lamp = lamp.spawn()?;
    let text = format!("[api]\nlisten = \"127.0.0.1:0\"\n{}", own(blocks("toml")[0]));
    std::fs::write(folder.path().join("sandbar.toml"), text)?;
    let host = Host::start(folder.path()).await?;
    let lines: Vec<String> = blocks("sh").iter().flat_map(|block| block.lines()).map(own).collect();
    let line = |beginning: &str, number: usize| {
        lines.iter().filter(|line| line.starts_with(beginning)).nth(number).cloned().context("no such line")
    };
    let sh = |line: String| async move {
        let mut command = Command::new("sh");
        command.args(["-c", &line]).current_dir(Path::new("/"));
        tool::succeeds(command, 30).await
    };
    eventually("the lamp is observed", 40, || async { has_reading(&host, "field", "lamp-1/led", "0").await })
        .await;
    sh(line("curl", 0)?).await?;
    eventually("the lamp is on, and says so", 20, || async {
        has_reading(&host, "field", "lamp-1/led", "1").await
    })
    .await;
    sh(line("coap-client-openssl -m post", 0)?).await?;
    let get = line("coap-client-openssl -m get", 0)?;
    eventually("the latest can be read", 20, || async {
        sh(get.clone()).await.is_ok_and(|got| got.trim() == "21.5")
    })
    .await;
    let core = sh(line("coap-client-openssl -m get", 1)?).await?;
    ensure!(core.contains("</sensors/kitchen/temperature>;obs"), "{core}");
    check_log(&host)
}
