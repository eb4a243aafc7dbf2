//! A handler's reply is the answer to the request.

use anyhow::{Result, ensure};
use sandbar_tests::host::{Host, guest};
use sandbar_tests::sender::check_journal;
use serde_json::json;

use crate::curl::curl;

async fn host(folder: &std::path::Path) -> Result<(Host, String)> {
    let configuration = format!(
        r#"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
reply_timeout_ms = 700
paths = [{{ path = "/{{*topic}}", topic = "{{topic}}" }}]
[module.celsius]
file = "{celsius}"
[module.hostile]
file = "{hostile}"
[sink.out]
kind = "file"
path = "sandbar-data/out.jsonl"
[route.celsius]
topic = "celsius/#"
module = "celsius"
sinks = ["out"]
reply = true
[route.hostile]
topic = "hostile/#"
module = "hostile"
reply = true
key = "none"
attempts = {{ max = 1 }}
limits = {{ time_ms = 5000 }}
"#,
        celsius = guest("fahrenheit-to-celsius").display(),
        hostile = guest("hostile").display(),
    );
    let host = crate::host(folder, &configuration).await?;
    let web = host.ingress("web").await?;
    Ok((host, web))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_degrees_celsius_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_host, web) = host(folder.path()).await?;
    let url = format!("{web}/celsius/kitchen");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let reading = r#"{"temperature":71.6,"unit":"F"}"#;
        let answer = curl(&[version, "-H", "Content-Type: application/json", "-d", reading, &url]).await?;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(answer.header("content-type") == Some("application/json"), "{answer:?}");
        ensure!(answer.json()? == json!({ "temperature": 22.0, "unit": "C" }), "{answer:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_in_vain_is_told_so_and_the_reading_is_kept() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host, web) = host(folder.path()).await?;
    let answer = curl(&["-d", "reject", &format!("{web}/hostile/a")]).await?;
    answer.is_problem(422, "rejected")?;
    ensure!(answer.body.contains("rejected as told"), "{answer:?}");
    let rejected = answer.json()?["id"].as_str().unwrap_or_default().to_owned();
    let answer = curl(&["-d", "loop", &format!("{web}/hostile/a")]).await?;
    answer.is_problem(504, "no_reply")?;
    ensure!(answer.seconds < 4.0, "{answer:?}");
    let looping = answer.json()?["id"].as_str().unwrap_or_default().to_owned();
    // What is handled and replies nothing is taken, as without a handler.
    let other = curl(&["-d", "{}", &format!("{web}/nobody/listens")]).await?.id()?;
    check_journal(&host, &[rejected, looping, other]).await
}
