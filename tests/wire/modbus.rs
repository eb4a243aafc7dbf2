//! The `modbus` driver against pymodbus, over TCP and over a serial line.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::free_port;
use sandbar_tests::host::Host;
use sandbar_tests::tool;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::{Cable, check_log, host, payload, readings, until};

async fn serve(kind: &str, place: &str) -> Result<Child> {
    let program = sandbar_tests::checkout().join("tests/wire/modbus_server.py");
    let mut server = Command::new(tool::python_peer("python3"))
        .args(["-W", "ignore"])
        .arg(program)
        .args([kind, place])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(server.stdout.take().context("no output")?).lines();
    let said = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await??;
    ensure!(said.as_deref() == Some("serving"), "{said:?}");
    Ok(server)
}

/// Where commands come from: a webhook whose bodies are written.
fn configuration(place: &str) -> String {
    let values = r#"[
  { name = "voltage", function = "input", address = 0, type = "f32", unit = "V" },
  { name = "celsius", function = "input", address = 2, type = "i16", scale = 0.5, offset = 1, unit = "C" },
  { name = "count", function = "holding", address = 4, type = "u32", word_order = "little" },
  { name = "label", function = "holding", address = 6, type = "string", registers = 4 },
  { name = "setpoint", function = "holding", address = 20, type = "f64" },
  { name = "relay", function = "coil", address = 3 },
  { name = "door", function = "discrete", address = 2 },
]"#;
    format!(
        "[ingress.plc]\ndriver = \"modbus\"\n{place}\ninterval_ms = 200\ntimeout_ms = 400\ngap_max = 4\n\
         topic = \"plc/{{unit}}\"\nstate_topic = \"plc/{{unit}}/state\"\n\
         [[ingress.plc.units]]\nunit = 1\ndevice = \"press\"\nvalues = {values}\n\
         [[ingress.plc.units]]\nunit = 9\ndevice = \"missing\"\nvalues = [{{ name = \"a\", function = \"holding\", address = 0 }}]\n\
         [[ingress.plc.units]]\nunit = 2\ndevice = \"pump\"\nvalues = [\n\
           {{ name = \"label\", function = \"holding\", address = 6, type = \"string\", registers = 4 }},\n\
           {{ name = \"beyond\", function = \"holding\", address = 500 }},\n]\n\
         [ingress.web]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\npaths = [{{ path = \"/write\" }}]\n\
         [sink.press]\nkind = \"device\"\ndevice = \"press\"\nname = \"write\"\n\
         [sink.press.offering]\nfirst_wait_ms = 50\nlongest_wait_ms = 500\n\
         [route.write]\ningress = \"web\"\nsinks = [\"press\"]\n"
    )
}

async fn values(host: &Host, topic: &str) -> Result<Vec<Value>> {
    let of_topic = readings(host, "plc").await?.into_iter().filter(|reading| reading["topic"] == topic);
    of_topic.map(|reading| Ok(serde_json::from_str(&payload(&reading))?)).collect()
}

async fn write(host: &Host, body: Value) -> Result<()> {
    let web = host.ingress("web").await?;
    host.http.post(format!("{web}/write")).json(&body).send().await?.error_for_status()?;
    Ok(())
}

async fn check(host: &Host) -> Result<()> {
    until(host, "plc", |payload| payload.contains("PUMP 2")).await?;
    let expected = json!({
        "voltage": { "value": 230.1, "unit": "V" }, "celsius": { "value": -19.0, "unit": "C" },
        "count": { "value": 0x1234_5678 }, "label": { "value": "PUMP 1" }, "setpoint": { "value": 0.0 },
        "relay": { "value": false }, "door": { "value": true },
    });
    ensure!(values(host, "plc/1").await?[0] == expected, "{:?}", values(host, "plc/1").await?[0]);
    let pump = &values(host, "plc/2").await?[0];
    let refused = "illegal data address (exception 2)";
    ensure!(*pump == json!({ "label": { "value": "PUMP 2" }, "beyond": { "error": refused } }), "{pump}");
    let missing = json!({ "state": "failing", "cause": "holding 0: device failure (exception 4)" });
    ensure!(values(host, "plc/9/state").await? == [missing], "{:?}", values(host, "plc/9/state").await?);
    ensure!(values(host, "plc/1/state").await? == [json!({ "state": "online" })], "one state");
    let failing = json!({ "state": "failing", "cause": format!("holding 500: {refused}") });
    ensure!(values(host, "plc/2/state").await? == [failing], "{:?}", values(host, "plc/2/state").await?);
    write(host, json!([{ "name": "setpoint", "value": -12.25 }, { "name": "relay", "value": true }])).await?;
    until(host, "plc", |payload| {
        let written = serde_json::from_str::<Value>(payload).unwrap_or_default();
        written["setpoint"]["value"] == -12.25 && written["relay"]["value"] == true
    })
    .await?;
    write(host, json!({ "name": "count", "value": -1 })).await?;
    for _ in 0..200 {
        if let [dead] = &host.all("/v1/dead-letters").await?[..] {
            let cause = dead.to_string();
            ensure!(cause.contains("count: -1 is out of range: 0 to 4294967295"), "{cause}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("what cannot be written becomes a dead letter")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pymodbus_is_read_and_written_over_tcp_and_may_go_away() -> Result<()> {
    let (folder, port) = (tempfile::tempdir()?, free_port()?);
    let mut server = serve("tcp", &port.to_string()).await?;
    let host = host(folder.path(), &configuration(&format!("connect = \"127.0.0.1:{port}\""))).await?;
    check(&host).await?;
    server.kill().await?;
    for count in [2, 3] {
        for _ in 0..600 {
            if values(&host, "plc/1/state").await?.len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let states = values(&host, "plc/1/state").await?;
        let expected = if count == 2 { "unreachable" } else { "online" };
        ensure!(states.len() == count && states[count - 1]["state"] == expected, "{states:?}");
        if count == 2 {
            // Longer than a poll: it is said once.
            tokio::time::sleep(Duration::from_secs(1)).await;
            ensure!(values(&host, "plc/1/state").await?.len() == 2, "said once");
            server = serve("tcp", &port.to_string()).await?;
        }
    }
    server.kill().await?;
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pymodbus_is_read_and_written_over_a_serial_line() -> Result<()> {
    let (folder, cable) = (tempfile::tempdir()?, Cable::new().await?);
    let mut server = serve("rtu", &cable.device().display().to_string()).await?;
    let place = format!("port = \"{}\"\nmode = \"8N1\"", cable.host().display());
    let host = host(folder.path(), &configuration(&place)).await?;
    check(&host).await?;
    server.kill().await?;
    // The line is there; nobody answers on it.
    let silent = "{\"cause\":\"no answer within 400 ms\",\"state\":\"unreachable\"}";
    until(&host, "plc", |payload| payload == silent).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let states = values(&host, "plc/1/state").await?;
    ensure!(states.len() == 2 && states[1]["state"] == "unreachable", "said once: {states:?}");
    check_log(&host)
}
