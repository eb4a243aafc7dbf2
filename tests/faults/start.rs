//! Starting where something is in the way.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_tests::eventually;
use sandbar_tests::host::{Host, binary};
use sandbar_tests::seed::{Random, seed};
use sandbar_tests::sender::Sender;
use sandbar_tests::tool;

use crate::{check_all, configure};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_killed_again_and_again_while_it_starts_has_everything() -> Result<()> {
    let mut random = Random::new(seed());
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let host = Host::start(folder.path()).await?;
    let mut sender = Sender::new(&host).await?;
    sender.send_many("/d/a", 100).await?;
    host.kill();
    for _ in 0..12 {
        let mut starting = Command::new(binary())
            .args(["run", "--config", "sandbar.toml"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        starting.kill()?;
        starting.wait()?;
    }
    let host = Host::start(folder.path()).await?;
    sender.follow(&host).await?;
    sender.send_many("/d/a", 5).await?;
    check_all(&host, &sender).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_host_on_the_same_data_is_refused_and_harms_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let mut host = Host::start(folder.path()).await?;
    let mut sender = Sender::new(&host).await?;
    sender.send_many("/d/a", 10).await?;
    let mut second = tokio::process::Command::new(binary());
    second.args(["run", "--config", "sandbar.toml"]).current_dir(folder.path());
    let said = tool::run(second, 30).await?;
    ensure!(said.code == Some(1), "{said:?}");
    ensure!(said.stderr.contains("sandbar-data/store is in use by another process"), "{said:?}");
    ensure!(host.is_running());
    sender.send_many("/d/a", 10).await?;
    check_all(&host, &sender).await
}

/// It ended, with the code of a failure or of none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_that_cannot_be_written_ends_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let api = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut host = tokio::process::Command::new(binary())
        .args(["run", "--config", "sandbar.toml", "--api-listen", &api])
        .current_dir(folder.path())
        .stdout(std::fs::File::options().write(true).open("/dev/full")?)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    eventually("the API is there", 30, || async { tokio::net::TcpStream::connect(&api).await.is_ok() }).await;
    let id = host.id().context("it has ended")?.to_string();
    ensure!(Command::new("kill").args(["-TERM", &id]).status()?.success(), "kill -TERM failed");
    let ended = host.wait().await?;
    ensure!(ended.code() == Some(0), "{ended}");
    Ok(())
}

/// Given a file and what it holds.
type Damage = fn(&Path, Vec<u8>) -> std::io::Result<()>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_compiled_code_is_compiled_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let host = Host::start(folder.path()).await?;
    ensure!(host.terminate().await? == Some(0));
    let damages: [Damage; 4] = [
        |path, mut code| {
            let middle = code.len() / 2;
            code[middle] ^= 0xff;
            std::fs::write(path, code)
        },
        |path, code| std::fs::write(path, &code[..code.len() / 2]),
        |path, _| std::fs::write(path, []),
        |path, _| std::fs::remove_file(path.with_extension("sum")),
    ];
    for damage in damages {
        let path = compiled(folder.path())?;
        let code = std::fs::read(&path)?;
        damage(&path, code.clone())?;
        let host = Host::start(folder.path()).await?;
        let mut sender = Sender::new(&host).await?;
        sender.send_many("/d/a", 3).await?;
        check_all(&host, &sender).await?;
        ensure!(std::fs::read(compiled(folder.path())?)?.len() == code.len(), "the code was not kept again");
        ensure!(host.terminate().await? == Some(0));
    }
    Ok(())
}

/// The file with the one module's code.
fn compiled(folder: &Path) -> Result<std::path::PathBuf> {
    let files = std::fs::read_dir(folder.join("sandbar-data/code"))?.map(|entry| Ok(entry?.path()));
    let files: Vec<_> = files.collect::<std::io::Result<_>>()?;
    files
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "code"))
        .context("no compiled code")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gibibytes_of_address_space_are_enough() -> Result<()> {
    let folder = tempfile::tempdir()?;
    configure(folder.path())?;
    let mut command = Command::new(tool::path("prlimit"));
    command.arg(format!("--as={}", 2_u64 << 30)).arg(binary());
    let host = Host::start_with(folder.path(), command).await?;
    let mut sender = Sender::new(&host).await?;
    sender.send_many("/d/a", 5).await?;
    check_all(&host, &sender).await?;
    ensure!(host.terminate().await? == Some(0));
    Ok(())
}
