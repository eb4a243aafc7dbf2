//! The `serial` driver on pseudo terminals, also as Kraken's environment variables ask for it.

use std::time::Duration;

use anyhow::{Result, ensure};
use sandbar_tests::host::Host;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{Cable, check_log, host, payload, readings, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_come_in_commands_go_out_and_a_cable_may_be_pulled() -> Result<()> {
    let (folder, mut cable) = (tempfile::tempdir()?, Cable::new().await?);
    let configuration = format!(
        "[ingress.scale]\ndriver = \"serial\"\nport = \"{}\"\nbaud = 19200\nmode = \"7E1\"\ntopic = \"scales/{{device}}\"\n\
         device = \"scale-1\"\nread_timeout_ms = 300\n\
         [ingress.web]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\npaths = [{{ path = \"/zero\" }}]\n\
         [sink.scale]\nkind = \"device\"\ndevice = \"scale-1\"\nname = \"zero\"\n\
         [sink.scale.offering]\nfirst_wait_ms = 50\nlongest_wait_ms = 500\n\
         [route.zero]\ningress = \"web\"\nsinks = [\"scale\"]\n",
        cable.host().display()
    );
    let host = host(folder.path(), &configuration).await?;
    for round in 0..3 {
        cable.say(format!("first {round}\r\nsecond {round}\nno end {round}").as_bytes()).await?;
        let last = until(&host, "scale", |payload| payload == format!("no end {round}")).await?;
        ensure!(last["topic"] == "scales/scale-1" && last["device"] == "scale-1", "{last}");
        let device = tokio::fs::File::open(cable.device()).await?;
        let web = host.ingress("web").await?;
        host.http.post(format!("{web}/zero")).body("zero it").send().await?.error_for_status()?;
        let mut line = String::new();
        let mut device = BufReader::new(device);
        tokio::time::timeout(Duration::from_secs(20), device.read_line(&mut line)).await??;
        ensure!(line == "zero it\n", "{line:?}");
        drop(device);
        cable.unplug();
        tokio::time::sleep(Duration::from_millis(700)).await;
        let status = host.get("/v1/ingresses/scale").await?["status"].clone();
        ensure!(status["state"] != "running", "{status}");
        let error = status["last_error"].to_string();
        ensure!(error.contains("no such device") || error.contains("unplugged"), "{status}");
        cable.plug_in().await?;
    }
    let payloads: Vec<_> = readings(&host, "scale").await?.iter().map(payload).collect();
    let expected: Vec<_> =
        (0..3).flat_map(|n| [format!("first {n}"), format!("second {n}"), format!("no end {n}")]).collect();
    ensure!(payloads == expected, "{payloads:?}");
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn krakens_variables_open_the_port() -> Result<()> {
    let (folder, cable) = (tempfile::tempdir()?, Cable::new().await?);
    let variables = [
        ("KRKNC_SERIAL_PORT", cable.host().display().to_string()),
        ("KRKNC_SERIAL_DEVICE_NAME", "press".to_owned()),
        ("KRKNC_SERIAL_BAUDRATE", "115200".to_owned()),
        ("KRKNC_SERIAL_TIMEOUT_SEC", "0.3".to_owned()),
    ];
    let host = Host::start_without_file(folder.path(), &variables).await?;
    for piece in ["\u{1}21", ".5", "\r\n"] {
        cable.say(piece.as_bytes()).await?;
    }
    let reading = until(&host, "serial", |_| true).await?;
    ensure!(reading["device"] == "press", "{reading}");
    let encoded = base64_of(b"\x0121.5\r\n");
    ensure!(payload(&reading) == encoded || payload(&reading) == "\u{1}21.5\r\n", "{reading}");
    check_log(&host)
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
