//! What outlives the host: sessions with what waits in them, retained messages, and what is on its way.

use anyhow::{Result, ensure};
use sandbar_tests::host::Host;
use sandbar_tests::tool;

use crate::mosquitto::{Subscriber, client, publish};

/// Subscribes in a session that is kept, and leaves.
async fn leave_a_session(port: u16, version: &str, name: &str, filter: &str) -> Result<()> {
    let mut arguments = vec!["-c", "-i", name, "-t", filter, "-q", "2", "-E"];
    if version == "5" {
        arguments.extend(["-x", "300"]);
    }
    tool::succeeds(client("mosquitto_sub", port, version, &arguments), 20).await.map(drop)
}

/// What waits in the session, in order; ends it.
async fn come_back(port: u16, version: &str, name: &str, filter: &str, count: usize) -> Result<Vec<String>> {
    let count = count.to_string();
    let mut arguments =
        vec!["-c", "-i", name, "-t", filter, "-q", "2", "-C", &count, "-W", "40", "-F", "%q %p"];
    if version == "5" {
        arguments.extend(["-x", "0"]);
    }
    let said = tool::succeeds(client("mosquitto_sub", port, version, &arguments), 60).await?;
    Ok(said.lines().map(ToOwned::to_owned).collect())
}

/// Who was connected has ten seconds to come back; then it is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_outlives_a_kill_and_what_has_expired_does_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = sandbar_tests::free_port()?;
    let configuration = format!("[ingress.mqtt]\ndriver = \"mqtt\"\nlisten = \"127.0.0.1:{port}\"\n");
    let host = crate::host(folder.path(), &configuration).await?;
    for version in ["311", "5"] {
        leave_a_session(port, version, &format!("heir-{version}"), &format!("left/{version}/+")).await?;
    }
    let mut dying = Vec::new();
    for version in ["311", "5"] {
        let topic = format!("left/{version}/will");
        let will = ["--will-topic", &topic, "--will-payload", "lost", "--will-qos", "2", "-t", "nothing"];
        dying.push(Subscriber::start(port, version, &will).await?);
    }
    for (seconds, payload) in [("1", "short"), ("600", "long")] {
        let expiry = ["-D", "publish", "message-expiry-interval", seconds];
        let message = ["-t", "left/5/message", "-q", "1", "-m", payload];
        publish(port, "5", &[&expiry[..], &message].concat()).await?;
    }
    host.kill();
    drop(dying);
    let host = Host::start(folder.path()).await?;
    host.ingress("mqtt").await?;
    let got = come_back(port, "311", "heir-311", "left/311/+", 1).await?;
    ensure!(got == ["2 lost"], "{got:?}");
    let mut got = come_back(port, "5", "heir-5", "left/5/+", 2).await?;
    got.sort();
    ensure!(got == ["1 long", "2 lost"], "{got:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_and_retained_messages_outlive_a_kill_and_a_restart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = sandbar_tests::free_port()?;
    let configuration = format!("[ingress.mqtt]\ndriver = \"mqtt\"\nlisten = \"127.0.0.1:{port}\"\n");
    let mut host = crate::host(folder.path(), &configuration).await?;
    for version in ["311", "5"] {
        leave_a_session(port, version, &format!("before-{version}"), &format!("s/{version}/#")).await?;
        publish(port, version, &["-t", &format!("kept/{version}"), "-q", "1", "-r", "-m", "kept"]).await?;
    }
    for (round, killed) in [true, false, true].into_iter().enumerate() {
        for version in ["311", "5"] {
            for qos in ["1", "2"] {
                let topic = format!("s/{version}/{round}");
                publish(port, version, &["-t", &topic, "-q", qos, "-m", &format!("{round} {qos}")]).await?;
            }
        }
        if killed {
            host.kill();
        } else {
            host.terminate().await?;
        }
        host = Host::start(folder.path()).await?;
        host.ingress("mqtt").await?;
    }
    for version in ["311", "5"] {
        let mut got =
            come_back(port, version, &format!("before-{version}"), &format!("s/{version}/#"), 6).await?;
        got.sort_by_key(|line| line.starts_with('2'));
        ensure!(got == ["1 0 1", "1 1 1", "1 2 1", "2 0 2", "2 1 2", "2 2 2"], "{version}: {got:?}");
        let mut reader =
            Subscriber::start(port, version, &["-t", "kept/+", "-q", "1", "-F", "%t %r %p"]).await?;
        let mut kept = [reader.next().await?, reader.next().await?];
        kept.sort();
        ensure!(kept == ["kept/311 1 kept", "kept/5 1 kept"], "{kept:?}");
    }
    Ok(())
}
