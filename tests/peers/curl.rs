//! curl, and what it saw.

use anyhow::{Context, Result, ensure};
use sandbar_tests::tool;
use serde_json::Value;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `1.1` or `2`.
    pub(crate) version: String,
    /// Of how many connections were made for it.
    pub(crate) connects: u32,
    pub(crate) seconds: f64,
    /// All heads that came, informational ones included.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {self:?}"))
    }

    /// The id of a reading that was taken.
    pub(crate) fn id(&self) -> Result<String> {
        ensure!(self.status == 202, "{self:?}");
        Ok(self.json()?["id"].as_str().context("a 202 without an id")?.to_owned())
    }

    /// That it is a problem with this status and code.
    pub(crate) fn is_problem(&self, status: u16, code: &str) -> Result<()> {
        let problem = self.json()?;
        ensure!(self.status == status && problem["code"] == code, "not {status} {code}: {self:?}");
        ensure!(problem["status"] == status && problem["title"].is_string(), "{self:?}");
        ensure!(self.header("content-type") == Some("application/problem+json"), "{self:?}");
        Ok(())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().rev().find_map(|line| {
            let (this, value) = line.split_once(':')?;
            this.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub(crate) async fn curl(arguments: &[&str]) -> Result<Answer> {
    let folder = tempfile::tempdir()?;
    let (head, body) = (folder.path().join("head"), folder.path().join("body"));
    let mut command = tokio::process::Command::new(tool::path("curl"));
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "30"]);
    command.args(["--write-out", "%{http_code} %{http_version} %{num_connects} %{time_total}\n"]);
    command.arg("--dump-header").arg(&head).args(arguments);
    // Each address has an output of its own.
    for _ in arguments.iter().filter(|argument| argument.starts_with("http://")) {
        command.arg("--output").arg(&body);
    }
    let said = tool::succeeds(command, 40).await?;
    // Of the last request, if there were several.
    let said: Vec<_> = said.lines().last().context("curl says nothing")?.split(' ').collect();
    let [status, version, connects, seconds] = said[..] else { anyhow::bail!("curl says {said:?}") };
    let text = |path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Answer {
        status: status.parse()?,
        version: version.to_owned(),
        connects: connects.parse()?,
        seconds: seconds.parse()?,
        head: text(head)?,
        body: text(body).unwrap_or_default(),
    })
}
