//! A host whose webhook leads to the sink under test.

use anyhow::{Context, Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::Host;
use sandbar_tests::sender::{Sender, all_is_done};
use serde_json::Value;

pub(crate) struct Stage {
    folder: tempfile::TempDir,
    pub(crate) host: Host,
    sender: Sender,
}

impl Stage {
    /// `sink`: its table, with `kind`.
    pub(crate) async fn set(sink: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let configuration = format!(
            "[api]\nlisten = \"127.0.0.1:0\"\n\
             [ingress.web]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\n\
             paths = [{{ path = \"/plant/{{device}}\", headers = [\"X-Unit\"] }}]\n\
             [sink.out]\n{sink}\n\
             [sink.out.offering]\nfirst_wait_ms = 5\nlongest_wait_ms = 200\n\
             [route.all]\ningress = \"web\"\nkey = \"none\"\nsinks = [\"out\"]\n"
        );
        std::fs::write(folder.path().join("sandbar.toml"), configuration)?;
        let host = Host::start(folder.path()).await?;
        let sender = Sender::new(&host).await?;
        Ok(Self { folder, host, sender })
    }

    /// Must be taken.
    pub(crate) async fn send(&self, device: &str, payload: &str) -> Result<()> {
        let web = self.host.ingress("web").await?;
        let request = self.host.http.post(format!("{web}/plant/{device}")).body(payload.to_owned());
        let request = request.header("content-type", "application/json").header("x-unit", "C");
        let answer = request.send().await?;
        ensure!(answer.status() == 202, "{}", answer.status());
        Ok(())
    }

    /// `{"n":…, "celsius":…}` for each of them.
    pub(crate) async fn send_numbers(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        for n in numbers {
            self.send("boiler", &format!("{{\"n\":{n},\"celsius\":{n}.5}}")).await?;
        }
        Ok(())
    }

    /// Waits until all that was sent is delivered or given up, and returns why what was given up was.
    pub(crate) async fn settle(&self) -> Result<Vec<String>> {
        all_is_done(&self.host, 60).await;
        let dead = self.host.all("/v1/dead-letters").await?;
        let causes = dead.iter().map(|letter| letter["cause"].as_str().unwrap_or_default().to_owned());
        let log = self.host.stderr();
        ensure!(!log.contains("panicked") && !log.contains("bug in"), "{log}");
        Ok(causes.collect())
    }

    /// Waits until the sink says that it fails, and returns what it says.
    pub(crate) async fn complaint(&self) -> Result<String> {
        let said = || async {
            let sink = self.host.get("/v1/sinks/out").await.unwrap_or_default();
            sink["status"]["last_error"].clone()
        };
        eventually("the sink says what is wrong", 20, || async { !said().await.is_null() }).await;
        let said: Value = said().await;
        let text = said.as_str().or_else(|| said["text"].as_str()).map(str::to_owned);
        text.with_context(|| format!("what is {said}?"))
    }

    /// `kill -9`, and starts it again.
    pub(crate) async fn again(self) -> Result<Self> {
        let Self { folder, host, mut sender } = self;
        host.kill();
        let host = Host::start(folder.path()).await?;
        sender.follow(&host).await?;
        Ok(Self { folder, host, sender })
    }
}
