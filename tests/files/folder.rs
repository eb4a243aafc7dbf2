//! Files that appear in a folder.

use std::time::Duration;

use anyhow::{Result, ensure};
use sandbar_tests::host::{Host, binary};
use sandbar_tests::tool;

use crate::{check_log, configure, host, read, sh, wait};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_common_tools_write_is_read_whole_and_once() -> Result<()> {
    for program in ["rsync", "vi"] {
        tool::path(program);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    sh(path, "mkdir in src; seq 1 40000 >src/large; echo two >src/two; echo three >three").await?;
    let host = host(path, "path = \"in\"\nsettle_ms = 200\ncontent_type = \"text/plain\"").await?;
    // One after the other: what is read is in their order.
    let writers = [
        ("cp src/large in/copied", "copied", "created"),
        ("mv three in/moved", "moved", "created"),
        ("rsync -a src/two in/", "two", "created"),
        ("(seq 1 20000; sleep 1; seq 20001 40000) >in/slow", "slow", "created"),
        ("sed -i s/two/too/ in/two", "two", "modified"),
        ("vi -es -u NONE -c 'set backup' -c '%s/too/2/' -c wq in/two </dev/null", "two", "modified"),
        ("printf 'three and four' >>in/moved", "moved", "modified"),
    ];
    for (count, (script, name, event)) in (1..).zip(writers) {
        sh(path, script).await?;
        let read = wait(&host, count).await?;
        let last = &read[count - 1];
        ensure!(
            (last.name.as_str(), last.event.as_str()) == (name, event),
            "{script}: {} {}",
            last.name,
            last.event
        );
        let content = std::fs::read_to_string(path.join("in").join(name))?;
        ensure!(last.payload == content, "{script}: {} bytes of {}", last.payload.len(), content.len());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let all = read(&host).await?;
    ensure!(all.len() == writers.len(), "{:?}", all.into_iter().map(|read| read.name).collect::<Vec<_>>());
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_watches_the_folder_is_looked_at_and_that_is_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    sh(path, "mkdir -p in/1/2/3/4/5 in/6").await?;
    configure(path, "path = \"in\"\nrecursive = true\nsettle_ms = 100\npoll_ms = 100")?;
    let mut command = std::process::Command::new("unshare");
    let few = "echo 3 >/proc/sys/user/max_inotify_watches; exec \"$0\" \"$@\"";
    command.args(["-Ur", "sh", "-ec", few]).arg(binary());
    let host = Host::start_with(path, command).await?;
    sh(path, "echo a >in/1/2/3/4/5/a; echo b >in/6/b; echo c >in/c").await?;
    wait(&host, 3).await?;
    let log = host.stderr();
    ensure!(log.contains("max_user_watches") && log.contains("every 100 ms"), "{log}");
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_too_few_watches_for_what_comes_later_it_is_said_then() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    sh(path, "mkdir in").await?;
    configure(path, "path = \"in\"\nrecursive = true\nsettle_ms = 100\npoll_ms = 100")?;
    let mut command = std::process::Command::new("unshare");
    // The configuration's own folder is watched, too.
    let few = "echo 4 >/proc/sys/user/max_inotify_watches; exec \"$0\" \"$@\"";
    command.args(["-Ur", "sh", "-ec", few]).arg(binary());
    let host = Host::start_with(path, command).await?;
    sh(path, "echo a >in/a").await?;
    wait(&host, 1).await?;
    sh(path, "for n in 1 2 3 4 5 6 7 8; do mkdir in/$n; echo $n >in/$n/b; done").await?;
    wait(&host, 9).await?;
    ensure!(host.stderr().contains("max_user_watches"), "{}", host.stderr());
    check_log(&host)
}
