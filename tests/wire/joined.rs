//! Two real hosts, joined by a `sandbar` sink and a `sandbar` ingress, each killed in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use sandbar_tests::free_port;
use sandbar_tests::host::Host;
use sandbar_tests::seed::{Random, seed};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::{check_log, host, payload, readings, until};

const KILLS: usize = 6;
const CLIENTS: usize = 4;

fn central(port: u16) -> String {
    format!(
        "[ingress.sites]\ndriver = \"sandbar\"\nlisten = \"127.0.0.1:{port}\"\ntopic = \"{{host}}/{{topic}}\"\n\
         device = \"{{host}}.{{device}}\"\nhosts = {{ edge = {{ token = \"right\" }} }}\n\
         [ingress.web]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\npaths = [{{ path = \"/set\" }}]\n\
         [sink.line]\nkind = \"device\"\ndevice = \"edge.d1\"\nname = \"set\"\n\
         [sink.line.offering]\nfirst_wait_ms = 50\nlongest_wait_ms = 500\n\
         [route.set]\ningress = \"web\"\nsinks = [\"line\"]\n"
    )
}

fn edge(port: u16, token: &str) -> String {
    format!(
        "[ingress.web]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\n\
         paths = [{{ path = \"/in/{{device}}\", topic = \"in/{{device}}\" }}]\n\
         [ingress.line]\ndriver = \"tcp\"\nlisten = \"127.0.0.1:0\"\ndevice = \"d1\"\ntopic = \"line\"\n\
         [sink.central]\nkind = \"sandbar\"\nurl = \"ws://127.0.0.1:{port}\"\ntoken = \"{token}\"\n\
         [sink.central.offering]\nfirst_wait_ms = 20\nlongest_wait_ms = 200\n\
         [route.all]\ningress = [\"web\", \"line\"]\nsinks = [\"central\"]\n"
    )
}

#[derive(Default)]
struct Load {
    number: AtomicU64,
    is_over: AtomicBool,
    acknowledged: Mutex<BTreeSet<String>>,
}

/// Posts readings one after the other until the host is gone.
async fn post(load: Arc<Load>, web: String, http: reqwest::Client) {
    while !load.is_over.load(Ordering::Relaxed) {
        let number = load.number.fetch_add(1, Ordering::Relaxed);
        let text = format!("reading {number:08}");
        let sent = http.post(format!("{web}/in/d{}", number % 7)).body(text.clone()).send().await;
        match sent {
            Ok(answer) if answer.status() == 202 => drop(load.acknowledged.lock().insert(text)),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn start(load: &Arc<Load>, web: &str, host: &Host) -> Vec<tokio::task::JoinHandle<()>> {
    load.is_over.store(false, Ordering::Relaxed);
    let client = || tokio::spawn(post(Arc::clone(load), web.to_owned(), host.http.clone()));
    (0..CLIENTS).map(|_| client()).collect()
}

async fn join(clients: Vec<tokio::task::JoinHandle<()>>) -> Result<()> {
    for client in clients {
        client.await?;
    }
    Ok(())
}

/// How often each text arrived.
async fn arrived(central: &Host) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for reading in readings(central, "sites").await? {
        *counts.entry(payload(&reading)).or_default() += 1;
    }
    Ok(counts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_whichever_host_is_killed() -> Result<()> {
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let port = free_port()?;
    let mut center = host(there.path(), &central(port)).await?;
    let mut site = host(here.path(), &edge(port, "right")).await?;
    let load = Arc::new(Load::default());
    let mut random = Random::new(seed());
    let mut clients = start(&load, &site.ingress("web").await?, &site);
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(300 + random.below(700))).await;
        if kill % 2 == 0 {
            center.kill();
            tokio::time::sleep(Duration::from_millis(random.below(300))).await;
            center = Host::start(there.path()).await?;
        } else {
            site.kill();
            load.is_over.store(true, Ordering::Relaxed);
            join(clients).await?;
            site = Host::start(here.path()).await?;
            clients = start(&load, &site.ingress("web").await?, &site);
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    load.is_over.store(true, Ordering::Relaxed);
    join(clients).await?;
    let acknowledged = load.acknowledged.lock().clone();
    let mut missing = acknowledged.len();
    for _ in 0..600 {
        let counts = arrived(&center).await?;
        missing = acknowledged.iter().filter(|text| !counts.contains_key(*text)).count();
        if missing == 0 && site.all("/v1/outbox").await?.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(missing == 0, "{missing} of {} are lost: {}", acknowledged.len(), site.stderr());
    let counts = arrived(&center).await?;
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(doubled.is_empty(), "doubled: {doubled:?}");
    eprintln!(
        "{KILLS} kills, {} readings acknowledged, {} arrived, each once",
        acknowledged.len(),
        counts.len()
    );
    let of_site = readings(&site, "web").await?;
    let first = &readings(&center, "sites").await?[0];
    let origin = of_site.iter().find(|reading| payload(reading) == payload(first)).context("its origin")?;
    let attributes = first["attributes"].to_string();
    ensure!(attributes.contains(origin["id"].as_str().context("an id")?), "{attributes}");
    ensure!(attributes.contains("origin.time") && attributes.contains("origin.host"), "{attributes}");
    ensure!(
        first["topic"].as_str() == Some(&*format!("edge/{}", origin["topic"].as_str().unwrap_or_default()))
    );
    ensure!(site.all("/v1/dead-letters").await?.is_empty(), "something was given up on");
    check_log(&site)?;
    check_log(&center)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_go_down_also_after_a_restart_of_either() -> Result<()> {
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let port = free_port()?;
    let mut center = host(there.path(), &central(port)).await?;
    let mut site = host(here.path(), &edge(port, "right")).await?;
    for round in 0..3 {
        let line = site.ingress("line").await?.trim_start_matches("http://").to_owned();
        let mut device = BufReader::new(TcpStream::connect(line).await?);
        if round == 0 {
            device.get_mut().write_all(b"hello\n").await?;
            until(&center, "sites", |payload| payload == "hello").await?;
        }
        let web = center.ingress("web").await?;
        let body = format!("on {round}");
        center.http.post(format!("{web}/set")).body(body.clone()).send().await?.error_for_status()?;
        let mut said = String::new();
        tokio::time::timeout(Duration::from_secs(40), device.read_line(&mut said)).await??;
        ensure!(said.trim_end() == body, "{said:?}");
        for _ in 0..200 {
            if center.all("/v1/outbox").await?.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ensure!(center.all("/v1/outbox").await?.is_empty(), "the command is acknowledged");
        if round == 0 {
            center.kill();
            center = Host::start(there.path()).await?;
        } else {
            site.kill();
            site = Host::start(here.path()).await?;
        }
    }
    check_log(&site)?;
    check_log(&center)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_a_wrong_token_is_not_let_in_and_keeps_what_it_has() -> Result<()> {
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let port = free_port()?;
    let center = host(there.path(), &central(port)).await?;
    let site = host(here.path(), &edge(port, "wrong")).await?;
    let web = site.ingress("web").await?;
    site.http.post(format!("{web}/in/d1")).body("kept").send().await?.error_for_status()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(readings(&center, "sites").await?.is_empty(), "nothing came");
    ensure!(site.all("/v1/outbox").await?.len() == 1, "it waits");
    ensure!(site.stderr().contains("401"), "{}", site.stderr());
    write(here.path(), &edge(port, "right"))?;
    until(&center, "sites", |payload| payload == "kept").await?;
    Ok(())
}

/// A configuration that is reloaded.
fn write(folder: &Path, configuration: &str) -> Result<()> {
    let text = format!("[api]\nlisten = \"127.0.0.1:0\"\n{configuration}");
    Ok(std::fs::write(folder.join("sandbar.toml"), text)?)
}
