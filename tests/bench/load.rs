//! Load by `wrk`, and the server that does nothing.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

const SECONDS: usize = 4;

/// What one run of `wrk` showed.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) errors: usize,
}

impl Measured {
    pub(crate) fn median(mut runs: Vec<Self>) -> Self {
        runs.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        runs.swap_remove(runs.len() / 2)
    }
}

/// POSTs a 200-byte JSON reading over so many connections for a few seconds.
pub(crate) async fn wrk(url: &str, connections: usize) -> Result<Measured> {
    let script = tempfile::Builder::new().suffix(".lua").tempfile()?;
    let padding = "x".repeat(200 - r#"{"temperature":71.5,"unit":"F","note":""}"#.len());
    let body = format!(r#"{{"temperature":71.5,"unit":"F","note":"{padding}"}}"#);
    let lua = format!(
        "wrk.method = 'POST'\nwrk.body = '{body}'\nwrk.headers['Content-Type'] = 'application/json'\n\
         function done(summary, latency, requests)\n\
         local e = summary.errors\n\
         io.write(string.format('RESULT %f %f %f %d\\n', summary.requests / summary.duration * 1e6,\
         latency:percentile(50) / 1000, latency:percentile(99) / 1000, e.connect + e.read + e.write + e.status + e.timeout))\n\
         end\n"
    );
    std::fs::write(script.path(), lua)?;
    let mut command = tokio::process::Command::new("wrk");
    command
        .args(["-t1", &format!("-c{connections}"), &format!("-d{SECONDS}s"), "-s"])
        .arg(script.path())
        .arg(url);
    let output = command.output().await.context("wrk is missing: `make setup`")?;
    ensure!(output.status.success(), "wrk: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let result = text.lines().find_map(|line| line.strip_prefix("RESULT ")).context("wrk said nothing")?;
    let numbers: Vec<f64> = result.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [per_second, p50_ms, p99_ms, errors] = numbers[..] else { anyhow::bail!("wrk said {result}") };
    Ok(Measured { per_second, p50_ms, p99_ms, errors: errors as usize })
}

/// This program again, as a server that answers 202 and does nothing else.
pub(crate) struct NoOp {
    child: Child,
    pub(crate) url: String,
}

impl NoOp {
    pub(crate) async fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--no-op-server")
            .env("TOKIO_WORKER_THREADS", "1")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("no stdout")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
        Ok(Self { child, url: line.trim().to_owned() })
    }
}

impl Drop for NoOp {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) async fn serve_nothing() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/", listener.local_addr()?);
    let answer = |_body: axum::body::Bytes| async {
        (axum::http::StatusCode::ACCEPTED, r#"{"id":"01KAJXXXXXXXXXXXXXXXXXXXXX"}"#)
    };
    axum::serve(listener, axum::Router::new().fallback(answer)).await?;
    Ok(())
}

pub(crate) fn resident_mb(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}
