//! libcoap's client against the ingress, and its server as a node.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, ensure};
use sandbar_tests::free_port;
use sandbar_tests::host::Host;
use sandbar_tests::{eventually, tool};
use tokio::process::{Child, Command};

use crate::{address, check_log, has_reading, host, readings};

fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(tool::path("coap-client-openssl"));
    command.args(["-B", "10", "-v", "3"]).args(arguments);
    command
}

fn configuration(more: &str) -> String {
    format!(
        "[ingress.it]\ndriver = \"coap\"\nlisten = \"127.0.0.1:0\"\n{more}\n\
         [[ingress.it.resources]]\npath = \"/sensors/{{device}}/{{quantity}}\"\n\
         [[ingress.it.resources]]\npath = \"/blob\"\n\
         [sink.shelf]\nkind = \"local-mqtt\"\ningress = \"it\"\n\
         [route.show]\ntopic = \"sensors/#\"\nsinks = [\"shelf\"]\n"
    )
}

async fn read(address: &str, path: &str, seconds: &str) -> Result<String> {
    let url = format!("coap://{address}{path}");
    tool::succeeds(client(&["-s", seconds, "-w", "-m", "get", &url]), 20).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posts_reads_observes_and_sends_in_blocks() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path(), &configuration("")).await?;
    let address = address(&host, "it").await?;
    let url = format!("coap://{address}/sensors/d1/temp");
    for (arguments, payload) in
        [(&["-m", "post"][..], "21.5"), (&["-m", "put"], "22"), (&["-N", "-m", "put"], "23")]
    {
        tool::succeeds(client(&[arguments, &["-t", "text", "-e", payload, &url]].concat()), 20).await?;
        eventually("it is on the shelf", 10, || async {
            has_reading(&host, "it", "sensors/d1/temp", payload).await
        })
        .await;
    }
    eventually("the latest can be read", 10, || async {
        let got = tool::succeeds(client(&["-w", "-m", "get", &url]), 20).await;
        got.is_ok_and(|got| got.trim() == "23")
    })
    .await;
    let core =
        tool::succeeds(client(&["-w", "-m", "get", &format!("coap://{address}/.well-known/core")]), 20)
            .await?;
    ensure!(core.trim() == "</.well-known/core>;ct=40,</sensors/d1/temp>;obs;ct=0", "{core}");
    let observing = read(&address, "/sensors/d1/temp", "3");
    let changing = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        tool::succeeds(client(&["-m", "put", "-t", "text", "-e", "24", &url]), 20).await
    };
    let (observed, changed) = tokio::join!(observing, changing);
    changed?;
    let observed = observed?;
    ensure!(observed.contains("23") && observed.contains("24"), "{observed}");
    blocks(&host, &address, folder.path()).await?;
    let said =
        tool::run(client(&["-m", "post", "-e", "1", &format!("coap://{address}/nowhere")]), 20).await?;
    ensure!(format!("{}{}", said.stdout, said.stderr).contains("4.04"), "{said:?}");
    check_log(&host)
}

async fn blocks(host: &Host, address: &str, folder: &Path) -> Result<()> {
    let long: String = (0..2000).map(|number| format!("{number:05}")).collect();
    std::fs::write(folder.join("long"), &long)?;
    let file = folder.join("long").display().to_string();
    let url = format!("coap://{address}/blob");
    for size in ["64", "256", "1024"] {
        tool::succeeds(client(&["-b", size, "-t", "text", "-f", &file, "-m", "put", &url]), 30).await?;
    }
    let whole = readings(host, "it").await?.into_iter().filter(|(topic, _)| topic == "blob");
    let whole: Vec<_> = whole.map(|(_, payload)| payload).collect();
    ensure!(whole.len() == 3 && whole.iter().all(|payload| *payload == long), "{} bodies", whole.len());
    // And back: what was sent out is longer than a block, too.
    let url = format!("coap://{address}/sensors/d1/long");
    tool::succeeds(client(&["-b", "512", "-t", "text", "-f", &file, "-m", "put", &url]), 30).await?;
    eventually("it can be read in blocks", 10, || async {
        let got = tool::succeeds(client(&["-b", "128", "-m", "get", &url]), 20).await;
        got.is_ok_and(|got| got.trim() == long)
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_key_speaks_over_dtls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let more = format!(
        "plain = false\n[ingress.it.secure]\nlisten = \"127.0.0.1:{port}\"\n\
         keys = [{{ identity = \"d1\", key = \"s3cret\" }}, {{ identity = \"d2\", key = \"hex:6f74686572\" }}]\n"
    );
    let text = configuration(&more).replace("quantity}\"\n", "quantity}\"\ndevice = \"{identity}\"\n");
    let host = host(folder.path(), &text).await?;
    let url = format!("coaps://127.0.0.1:{port}/sensors/x/temp");
    for (identity, key) in [("d1", "s3cret"), ("d2", "other"), ("d1", "s3cret")] {
        tool::succeeds(client(&["-u", identity, "-k", key, "-m", "post", "-e", "1", &url]), 20).await?;
    }
    let wrong =
        tool::run(client(&["-B", "3", "-u", "d1", "-k", "guess", "-m", "post", "-e", "2", &url]), 20).await?;
    let plain = format!("coap://{}/sensors/x/temp", address(&host, "it").await?);
    let refused = tool::run(client(&["-m", "post", "-e", "3", &plain]), 20).await?;
    ensure!(format!("{}{}", refused.stdout, refused.stderr).contains("4.01"), "{refused:?}");
    let taken = host.all("/v1/readings?ingress=it").await?;
    let mut devices: Vec<_> = taken.iter().filter_map(|reading| reading["device"].as_str()).collect();
    devices.sort_unstable();
    ensure!(devices == ["d1", "d1", "d2"], "{devices:?} {wrong:?}");
    check_log(&host)
}

fn server(port: u16, more: &[&str]) -> Result<Child> {
    let mut command = Command::new(tool::path("coap-server-openssl"));
    command.args(["-A", "127.0.0.1", "-p", &port.to_string()]).args(more);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_server_is_observed_and_written_to_also_over_dtls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (plain, secure) = (free_port()?, free_port()?);
    let _servers = (server(plain, &[])?, server(secure - 1, &["-k", "s3cret"])?);
    let node = |device: &str, port: u16, more: &str| {
        format!(
            "[[ingress.it.nodes]]\ndevice = \"{device}\"\naddress = \"127.0.0.1:{port}\"\nagain_ms = 500\n\
             observe = [\"/time\"]\n{more}\n"
        )
    };
    let text = format!(
        "[ingress.it]\ndriver = \"coap\"\nlisten = \"127.0.0.1:0\"\n\
         [ingress.it.secure]\nlisten = \"127.0.0.1:0\"\nkeys = [{{ identity = \"gate\", key = \"s3cret\" }}]\n{}{}\
         [ingress.web]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\npaths = [{{ path = \"/{{device}}\" }}]\n\
         [sink.write]\nkind = \"device\"\nname = \"example_data\"\n\
         [route.write]\ningress = [\"web\"]\nsinks = [\"write\"]\n",
        node("plain", plain, ""),
        // libcoap's server has DTLS at the port after the plain one.
        node("secure", secure, "identity = \"gate\"\npoll = [\"/example_data\"]\npoll_interval_ms = 500"),
    );
    let host = host(folder.path(), &text).await?;
    for device in ["plain", "secure"] {
        eventually("its clock is a row of readings", 20, || async {
            let readings = readings(&host, "it").await.unwrap_or_default();
            readings.iter().filter(|(topic, _)| *topic == format!("{device}/time")).count() >= 3
        })
        .await;
    }
    let hook = host.ingress("web").await?;
    for device in ["plain", "secure"] {
        host.http.post(format!("{hook}/{device}")).body("hello").send().await?.error_for_status()?;
    }
    eventually("what was written is read again", 20, || async {
        has_reading(&host, "it", "secure/example_data", "hello").await
    })
    .await;
    let got =
        tool::succeeds(client(&["-m", "get", &format!("coap://127.0.0.1:{plain}/example_data")]), 20).await?;
    ensure!(got.trim() == "hello", "{got}");
    ensure!(host.all("/v1/dead-letters").await?.is_empty(), "a command was given up on");
    check_log(&host)
}
