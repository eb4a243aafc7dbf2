//! `make bench`: what the host costs, as ratios to a peer or a floor of the same run. Interleaved, because these
//! machines are noisy; the loads are bounded in time.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

mod devices;
mod drivers;
mod floor;
mod growth;
mod large;
mod load;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use sandbar_tests::host::{Host, binary, guest};

use crate::load::{Measured, NoOp, wrk};

const ROUNDS: usize = 3;
const CONNECTIONS: [usize; 3] = [1, 64, 256];

#[tokio::main]
async fn main() -> Result<()> {
    if std::env::args().any(|arg| arg == "--no-op-server") {
        return load::serve_nothing().await;
    }
    with_a_bus_of_its_own()?;
    println!("{}\n", machine());
    if std::env::args().any(|arg| arg == "--large") {
        return large::large().await;
    }
    if std::env::args().any(|argument| argument == "--devices") {
        return devices::devices().await;
    }
    // `cargo bench … -- --drivers [NAME]`: that part alone, as `--large` and `--devices` are.
    let mut arguments = std::env::args().skip_while(|argument| argument != "--drivers");
    if arguments.next().is_some() {
        let name = arguments.next().filter(|argument| !argument.starts_with('-'));
        return drivers::drivers(name.as_deref()).await;
    }
    webhook().await?;
    large::large().await?;
    drivers::drivers(None).await?;
    devices::devices().await?;
    growth::routes().await?;
    growth::restart().await?;
    footprint().await
}

/// Begins this process anew, if it would look for the system's D-Bus where that of this machine is.
fn with_a_bus_of_its_own() -> Result<()> {
    const BUS: &str = "DBUS_SYSTEM_BUS_ADDRESS";
    let address = drivers::bus_address();
    if std::env::var(BUS).is_ok_and(|is| is == address) {
        return Ok(());
    }
    let mut anew = Command::new(std::env::current_exe()?);
    Err(anew.args(std::env::args_os().skip(1)).env(BUS, address).exec().into())
}

/// The durable webhook against a server of the same library that does nothing, one worker each.
async fn webhook() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("sandbar.toml"), webhook_configuration())?;
    let host = start(folder.path()).await?;
    let no_op = NoOp::start().await?;
    let web = host.ingress("web").await?;
    let paths = [("journal only", "plain"), ("handler", "handled"), ("handler and outbox", "stored")];
    println!("## Durable webhook, 200-byte JSON, readings/s (median of {ROUNDS}), one server worker\n");
    println!(
        "| connections | no-op axum | journal only | ratio | handler | ratio | handler, outbox, file sink | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for connections in CONNECTIONS {
        let mut no_ops = Vec::new();
        let mut ours = vec![Vec::new(); paths.len()];
        for _ in 0..ROUNDS {
            no_ops.push(wrk(&no_op.url, connections).await?);
            for (measured, (_, path)) in ours.iter_mut().zip(paths) {
                measured.push(wrk(&format!("{web}/{path}/a"), connections).await?);
            }
        }
        let floor = Measured::median(no_ops);
        print!("| {connections} | {:.0} |", floor.per_second);
        for measured in ours {
            let measured = Measured::median(measured);
            print!(
                " {:.0} (p50 {:.2} ms, p99 {:.2} ms) |",
                measured.per_second, measured.p50_ms, measured.p99_ms
            );
            print!(" {:.2} |", measured.per_second / floor.per_second);
            if connections == 1 && measured.errors > 0 {
                println!("\n{} errors", measured.errors);
            }
        }
        println!();
    }
    let floor = floor::fdatasync(folder.path(), 300)?;
    let one = wrk(&format!("{web}/handled/a"), 1).await?;
    println!(
        "\nOne connection: p50 {:.3} ms ÷ raw append and fdatasync {floor:.3} ms = {:.2}",
        one.p50_ms,
        one.p50_ms / floor
    );
    println!("Resident memory after this load: {:.1} MB", load::resident_mb(host.id())?);
    let status = host.get("/v1/status").await?;
    println!("Store: {}\n", status["store"]);
    Ok(())
}

fn webhook_configuration() -> String {
    format!(
        r#"
[api]
listen = "127.0.0.1:0"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{{ path = "/{{kind}}/{{device}}", device = "{{device}}", topic = "{{kind}}/{{device}}" }}]
[module.fahrenheit]
file = "{}"
[sink.out]
kind = "file"
path = "out.jsonl"
[route.handled]
topic = "handled/+"
module = "fahrenheit"
[route.stored]
topic = "stored/+"
module = "fahrenheit"
sinks = ["out"]
"#,
        guest("fahrenheit-to-celsius").display()
    )
}

/// What it takes to be there: size, memory, and the time from nothing to ready.
async fn footprint() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut text = "[api]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    for n in 0..10 {
        let module = guest(["fahrenheit-to-celsius", "counter"][n % 2]);
        text += &format!(
            "[module.m{n}]\nfile = \"{}\"\n[route.r{n}]\ntopic = \"t/{n}\"\nmodule = \"m{n}\"\n",
            module.display()
        );
    }
    std::fs::write(folder.path().join("sandbar.toml"), text)?;
    start(folder.path()).await?.terminate().await?;
    let mut starts = Vec::new();
    let mut idle = 0.0;
    for _ in 0..ROUNDS {
        let began = std::time::Instant::now();
        let host = start(folder.path()).await?;
        starts.push(began.elapsed().as_secs_f64() * 1000.0);
        idle = load::resident_mb(host.id())?;
        host.terminate().await?;
    }
    starts.sort_by(f64::total_cmp);
    println!("## Footprint\n");
    println!("| what | |\n|---|---|");
    println!("| binary | {:.1} MB |", std::fs::metadata(binary())?.len() as f64 / 1e6);
    println!("| resident, idle, 10 routes with modules | {idle:.1} MB |");
    println!("| start to ready, 10 modules already compiled | {:.0} ms |", starts[ROUNDS / 2]);
    Ok(())
}

/// With one worker, as the no-op server has.
async fn start(folder: &Path) -> Result<Host> {
    let mut command = Command::new(binary());
    command.env("TOKIO_WORKER_THREADS", "1");
    Host::start_with(folder, command).await.context("starting the host under test")
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("# Benchmark\n\n{cores} × {model}; figures are this machine's, ratios are what to compare.")
}
