//! The host's broker with mosquitto's clients, paho-mqtt and mqtt.js, over TCP, TLS and WebSocket, with users.

use std::path::Path;

use anyhow::{Result, ensure};
use sandbar_tests::host::Host;
use sandbar_tests::tool;
use serde_json::{Value, json};

use crate::certificates::Certificates;
use crate::conformance::program;
use crate::mosquitto::{Subscriber, client, publish};

/// Of the password `secret`, made as weak as it can be: tests connect often.
const HASH: &str =
    "$argon2id$v=19$m=64,t=1,p=1$LXO2YU4E++vCGOU57t96AQ$naC7sJf5JWee7yIzdTC2XLDEpwOXGEK0Jo4MKxFoHyo";

pub(crate) struct Ports {
    tcp: u16,
    tls: u16,
    web_socket: u16,
}

async fn host(folder: &Path, certificates: &Certificates) -> Result<(Host, Ports)> {
    let ports = Ports {
        tcp: sandbar_tests::free_port()?,
        tls: sandbar_tests::free_port()?,
        web_socket: sandbar_tests::free_port()?,
    };
    let configuration = format!(
        r##"
[ingress.mqtt]
driver = "mqtt"
listen = "127.0.0.1:{tcp}"
anonymous = false
device = "user"
listeners = [
  {{ listen = "127.0.0.1:{tls}", tls = {{ certificate_file = "{certificate}", key_file = "{key}", client_ca_file = "{ca}", client_optional = true }} }},
  {{ listen = "127.0.0.1:{web_socket}", protocol = "websocket" }},
]
users = [{{ name = "alice", password_hash = "{HASH}" }}, {{ name = "bob", password_hash = "{HASH}" }}]
allow = [
  {{ users = ["alice"], publish = ["#"], subscribe = ["#"] }},
  {{ publish = ["own/%u/%c/#", "both"], subscribe = ["own/%u/#", "both"] }},
]
"##,
        tcp = ports.tcp,
        tls = ports.tls,
        web_socket = ports.web_socket,
        certificate = certificates.server.0.display(),
        key = certificates.server.1.display(),
        ca = certificates.ca.display(),
    );
    Ok((crate::host(folder, &configuration).await?, ports))
}

fn places(ports: &Ports, certificates: &Certificates) -> Value {
    json!({
        "tcp": ["127.0.0.1", ports.tcp],
        "tls": ["localhost", ports.tls],
        "websocket": ["127.0.0.1", ports.web_socket],
        "ca": certificates.ca,
    })
}

const ALICE: [&str; 4] = ["-u", "alice", "-P", "secret"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ALICE.iter().chain(more).copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paho_is_understood() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path())?;
    let (_host, ports) = host(folder.path(), &certificates).await?;
    works(paho(&ports, &certificates)).await
}

fn paho(ports: &Ports, certificates: &Certificates) -> tokio::process::Command {
    let mut python = tokio::process::Command::new(tool::python_peer("python3"));
    python.arg(program("python/library.py")).arg(places(ports, certificates).to_string());
    python.env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

fn mqtt_js(ports: &Ports, certificates: &Certificates) -> tokio::process::Command {
    let mut node = tokio::process::Command::new(tool::path("node"));
    node.arg(program("javascript/library.js")).arg(places(ports, certificates).to_string());
    node.env("NODE_PATH", tool::node_peers());
    node
}

async fn works(program: tokio::process::Command) -> Result<()> {
    let said = tool::succeeds(program, 180).await?;
    ensure!(said.trim() == "all of it works", "{said}");
    Ok(())
}

/// Over each transport and in both versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_sessions_outlive_the_host() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path())?;
    let (host, ports) = host(folder.path(), &certificates).await?;
    for program in [paho, mqtt_js] {
        let mut leaving = program(&ports, &certificates);
        leaving.args(["leave", "outlives"]);
        works(leaving).await?;
    }
    host.kill();
    let host = Host::start(folder.path()).await?;
    host.ingress("mqtt").await?;
    for program in [paho, mqtt_js] {
        let mut coming = program(&ports, &certificates);
        coming.args(["back", "outlives"]);
        works(coming).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_js_is_understood() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path())?;
    let (_host, ports) = host(folder.path(), &certificates).await?;
    works(mqtt_js(&ports, &certificates)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquittos_clients_are_understood() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path())?;
    let (_host, ports) = host(folder.path(), &certificates).await?;
    let ca = certificates.ca.to_str().unwrap_or_default();
    for version in ["311", "5"] {
        for (port, more) in [(ports.tcp, vec![]), (ports.tls, vec!["--cafile", ca])] {
            let topic = format!("mosquitto/{version}/{port}");
            let format = ["-t", &format!("{topic}/+"), "-q", "2", "-F", "%q %r %p"];
            let mut reader = Subscriber::start(port, version, &with(&[&more[..], &format].concat())).await?;
            for qos in ["0", "1", "2"] {
                let message = ["-t", &format!("{topic}/{qos}"), "-q", qos, "-m", "hello"];
                publish(port, version, &with(&[&more[..], &message].concat())).await?;
                ensure!(reader.next().await? == format!("{qos} 0 hello"));
            }
            let kept = ["-t", &format!("{topic}/kept"), "-q", "1", "-r", "-m", "kept"];
            publish(port, version, &with(&[&more[..], &kept].concat())).await?;
            let mut later = Subscriber::start(port, version, &with(&[&more[..], &format].concat())).await?;
            ensure!(later.next().await? == "1 1 kept");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquittos_clients_leave_wills_and_share() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path())?;
    let (_host, ports) = host(folder.path(), &certificates).await?;
    let port = ports.tcp;
    for version in ["311", "5"] {
        let gone = format!("mosquitto/gone/{version}");
        let mut watcher =
            Subscriber::start(port, version, &with(&["-t", &gone, "-q", "1", "-F", "%q %r %p"])).await?;
        let will = ["--will-topic", &gone, "--will-payload", "lost", "--will-qos", "1", "-t", "nothing"];
        drop(Subscriber::start(port, version, &with(&will)).await?);
        ensure!(watcher.next().await? == "1 0 lost");

        let topic = format!("mosquitto/shared/{version}");
        let arguments = ["-t", &format!("$share/mosquitto/{topic}"), "-q", "1", "-F", "%p"];
        let mut first = Subscriber::start(port, version, &with(&arguments)).await?;
        let mut second = Subscriber::start(port, version, &with(&arguments)).await?;
        let mut counts = [0, 0];
        let mut got = std::collections::BTreeSet::new();
        for n in 0..20 {
            publish(port, version, &with(&["-t", &topic, "-q", "1", "-m", &n.to_string()])).await?;
            let (by, line) = tokio::select! {
                line = first.next() => (0, line?),
                line = second.next() => (1, line?),
            };
            counts[by] += 1;
            ensure!(got.insert(line.clone()), "{line} came twice");
        }
        ensure!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_passwords_certificates_and_topics_are_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path())?;
    let strangers = tempfile::tempdir()?;
    let stranger = Certificates::make(strangers.path())?;
    let (host, ports) = host(folder.path(), &certificates).await?;
    let message = ["-t", "both", "-q", "1", "-m", "x"];
    for version in ["311", "5"] {
        for who in [&["-u", "alice", "-P", "wrong"][..], &["-u", "mallory", "-P", "secret"], &[]] {
            let said =
                tool::run(client("mosquitto_pub", ports.tcp, version, &[who, &message].concat()), 20).await?;
            ensure!(said.code != Some(0), "{who:?} was let in: {said:?}");
        }
    }
    // Whose authority is not trusted is not let in, on either side.
    let text = |path: &Path| path.to_str().unwrap_or_default().to_owned();
    let (ca, strange_ca) = (text(&certificates.ca), text(&stranger.ca));
    let (own, own_key) = (text(&certificates.client.0), text(&certificates.client.1));
    let (strange, strange_key) = (text(&stranger.client.0), text(&stranger.client.1));
    for (arguments, lets_in) in [
        (with(&["--cafile", &strange_ca]), false),
        (vec!["--cafile", &ca, "--cert", &strange, "--key", &strange_key], false),
        (vec!["--cafile", &ca, "--cert", &own, "--key", &own_key], true),
    ] {
        let arguments = [&arguments[..], &message].concat();
        let said = tool::run(client("mosquitto_pub", ports.tls, "5", &arguments), 20).await?;
        ensure!((said.code == Some(0)) == lets_in, "{arguments:?}: {said:?}");
    }
    // Its certificate's name is the device.
    let readings = host.all("/v1/readings?ingress=mqtt&topic=both").await?;
    ensure!(readings.len() == 1 && readings[0]["device"] == "boiler", "{readings:?}");
    // Bob has topics of his own; 0x87 is what MQTT 5 has to say of others.
    let bob = ["-u", "bob", "-P", "secret", "-i", "b1"];
    for (topic, allowed) in
        [("own/bob/b1/x", true), ("both", true), ("own/bob/b2/x", false), ("other", false)]
    {
        let message = ["-t", topic, "-q", "1", "-m", "x"];
        let said =
            tool::run(client("mosquitto_pub", ports.tcp, "5", &[&bob[..], &message].concat()), 20).await?;
        let refused = said.stderr.contains("Not authorized") || said.code != Some(0);
        ensure!(refused != allowed, "publishing to {topic}: {said:?}");
    }
    for (filter, allowed) in [("own/bob/#", true), ("both", true), ("own/alice/#", false), ("#", false)] {
        let arguments = [&bob[..], &["-t", filter, "-q", "1", "-W", "1"]].concat();
        let said = tool::run(client("mosquitto_sub", ports.tcp, "5", &arguments), 20).await?;
        // 27: it waited in vain, which is what was asked of it.
        ensure!((said.code == Some(27)) == allowed, "subscribing to {filter}: {said:?}");
    }
    Ok(())
}
