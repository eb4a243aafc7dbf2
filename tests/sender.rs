//! A client of a webhook that remembers what was acknowledged.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::host::Host;

#[derive(Debug)]
pub struct Sender {
    http: reqwest::Client,
    web: String,
    /// Ids, in the order in which they were sent.
    pub acknowledged: Vec<String>,
}

/// What became of a reading.
#[derive(Debug)]
pub enum Answer {
    Taken,
    Refused { status: u16, problem: Value },
}

impl Answer {
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Taken)
    }
}

impl Sender {
    /// To the ingress `web`.
    pub async fn new(host: &Host) -> Result<Self> {
        Ok(Self { http: host.http.clone(), web: host.ingress("web").await?, acknowledged: Vec::new() })
    }

    /// The host was started again: it listens elsewhere.
    pub async fn follow(&mut self, host: &Host) -> Result<()> {
        self.web = host.ingress("web").await?;
        Ok(())
    }

    /// Whatever the host has to say, it says it within 10 s.
    pub async fn offer(&mut self, path: &str, body: Vec<u8>) -> Result<Answer> {
        let request =
            self.http.post(format!("{}{path}", self.web)).body(body).timeout(Duration::from_secs(10));
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let content_type = answer.headers().get("content-type").cloned();
        let text = answer.text().await?;
        let body: Value = serde_json::from_str(&text).with_context(|| format!("{status} {text}"))?;
        if status == 202 {
            self.acknowledged.push(body["id"].as_str().context("a 202 without an id")?.to_owned());
            return Ok(Answer::Taken);
        }
        let content_type = content_type.context("no content type")?;
        ensure!(content_type == "application/problem+json", "{status} {content_type:?} {text}");
        Ok(Answer::Refused { status, problem: body })
    }

    /// Must be taken.
    pub async fn send(&mut self, path: &str, body: &str) -> Result<()> {
        match self.offer(path, body.into()).await? {
            Answer::Taken => Ok(()),
            Answer::Refused { status, problem } => anyhow::bail!("POST {path}: {status} {problem}"),
        }
    }

    pub async fn send_many(&mut self, path: &str, count: usize) -> Result<()> {
        for n in 0..count {
            self.send(path, &format!("{{\"n\":{n}}}")).await?;
        }
        Ok(())
    }

    /// Everything that was acknowledged is in the journal.
    pub async fn check_journal(&self, host: &Host) -> Result<()> {
        check_journal(host, &self.acknowledged).await
    }
}

/// All of these readings are in the journal.
pub async fn check_journal(host: &Host, ids: &[String]) -> Result<()> {
    let readings = host.all("/v1/readings").await?;
    let journaled: HashSet<&str> = readings.iter().filter_map(|reading| reading["id"].as_str()).collect();
    let missing: Vec<_> = ids.iter().filter(|id| !journaled.contains(id.as_str())).collect();
    ensure!(
        missing.is_empty(),
        "{} of {} acknowledged readings are lost: {missing:?}",
        missing.len(),
        ids.len()
    );
    Ok(())
}

/// Waits until nothing waits.
pub async fn all_is_done(host: &Host, seconds: u64) {
    crate::eventually("everything is handled and delivered", seconds, || async {
        let status = host.get("/v1/status").await.unwrap_or_default();
        status["store"]["waiting"] == 0 && status["store"]["outbox"] == 0
    })
    .await;
}

/// Each of these readings came to exactly one line of a file sink's file, and none to two.
pub fn check_lines(file: &std::path::Path, ids: &[String]) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut written = HashSet::new();
    for line in text.lines() {
        // A kill may leave half a line, which is completed with a newline and written again.
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let reading = line["reading"].as_str().context("a line without a reading")?.to_owned();
        ensure!(written.insert(reading), "{line} was written twice");
    }
    let missing: Vec<_> = ids.iter().filter(|id| !written.contains(*id)).collect();
    ensure!(
        missing.is_empty(),
        "{} of {} readings were not delivered: {missing:?}",
        missing.len(),
        ids.len()
    );
    Ok(())
}
