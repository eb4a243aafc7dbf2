use serde_json::json;

use super::*;
use crate::Intake;

async fn start(more: Value) -> Running {
    Running::start(merged(json!({ "mode": "tail", "patterns": ["*.log"] }), &more)).await
}

#[tokio::test]
async fn every_line_that_is_appended_is_a_reading() {
    let running = start(json!({ "topic": "logs/{stem}", "line_max": 8 })).await;
    running.append("app.log", "one\ntwo\r\n\nthr");
    running.taken(2).await;
    running.nothing_more(2).await;
    running.append("app.log", "ee\n12345678abc\n");
    let taken = running.taken(5).await;
    assert_eq!(payloads(&taken), ["one", "two", "three", "12345678", "abc"]);
    let inbound = &taken[2].inbound;
    assert_eq!((inbound.topic.as_str(), inbound.content_type.as_str()), ("logs/app", "text/plain"));
    assert_eq!(
        (inbound.attributes.get("file.offset"), inbound.attributes.get("file.event")),
        (Some("10"), Some("line"))
    );
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let mut running = start(json!({})).await;
    running.append("app.log", "1\n2\n");
    running.taken(2).await;
    running.stop().await;
    running.append("app.log", "3\n");
    running.append("new.log", "4\n");
    running.restart(json!({})).await;
    let mut after = payloads(&running.taken(4).await).split_off(2);
    after.sort();
    assert_eq!(after, ["3", "4"]);
    running.nothing_more(4).await;
}

#[tokio::test]
async fn what_was_there_before_can_be_skipped() {
    let before = |folder: &Path| std::fs::write(folder.join("app.log"), "old\n").unwrap();
    let settings = json!({ "mode": "tail", "existing": "skip" });
    let running = Running::prepared(settings, before).await;
    running.append("app.log", "new\n");
    running.append("other.log", "all\n");
    let mut read = payloads(&running.taken(2).await);
    read.sort();
    assert_eq!(read, ["all", "new"]);
    running.nothing_more(2).await;
}

#[tokio::test]
async fn a_log_that_is_renamed_is_read_to_its_end_and_then_the_new_one() {
    // The new names fit the patterns, too.
    for rotated in ["app.log.1", "app-20261127.log"] {
        let running = start(json!({ "patterns": ["*.log*"] })).await;
        running.append("app.log", "1\n");
        running.taken(1).await;
        let mut old = std::fs::File::options().append(true).open(running.path("app.log")).unwrap();
        std::fs::rename(running.path("app.log"), running.path(rotated)).unwrap();
        std::io::Write::write_all(&mut old, b"2\n").unwrap();
        running.append("app.log", "4\n");
        std::io::Write::write_all(&mut old, b"3").unwrap();
        assert_eq!(payloads(&running.taken(4).await), ["1", "2", "3", "4"], "{rotated}");
        running.append("app.log", "5\n");
        assert_eq!(payloads(&running.taken(5).await)[4], "5");
        running.nothing_more(5).await;
    }
}

#[tokio::test]
async fn a_log_that_is_copied_and_cut_is_read_on() {
    let running = start(json!({})).await;
    running.append("app.log", "1\n2\n");
    running.taken(2).await;
    std::fs::copy(running.path("app.log"), running.path("app.log.1")).unwrap();
    std::fs::File::options().write(true).open(running.path("app.log")).unwrap().set_len(0).unwrap();
    running.append("app.log", "3\n4\n5\n");
    assert_eq!(payloads(&running.taken(5).await), ["1", "2", "3", "4", "5"]);
    running.nothing_more(5).await;
}

/// As logrotate does with copytruncate, at once after lines were written.
fn append_copy_and_cut(log: &Path, lines: &str, copy: u64) {
    let mut file = std::fs::File::options().append(true).open(log).unwrap();
    std::io::Write::write_all(&mut file, lines.as_bytes()).unwrap();
    // The reading is further each time.
    let written = std::time::Instant::now();
    while written.elapsed() < Duration::from_micros(copy * 20) {}
    std::fs::copy(log, log.with_extension(format!("log.{copy}"))).unwrap();
    file.set_len(0).unwrap();
}

#[tokio::test]
async fn a_log_that_is_cut_while_it_is_read_is_found_in_its_copy() {
    let running = start(json!({})).await;
    let log = running.path("app.log");
    running.append("app.log", "first\n");
    running.taken(1).await;
    for copy in 0..60 {
        let lines: String = (copy * 50..(copy + 1) * 50).map(|line| format!("{line}\n")).collect();
        let log = log.clone();
        tokio::task::spawn_blocking(move || append_copy_and_cut(&log, &lines, copy)).await.unwrap();
        // The clock by which files are told from one another goes in steps.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let appended = (0..60 * 50).map(|line| line.to_string());
    let expected: Vec<String> = std::iter::once("first".to_owned()).chain(appended).collect();
    assert_eq!(payloads(&running.taken(expected.len()).await), expected);
}

#[tokio::test]
async fn rotations_while_it_was_stopped_lose_nothing() {
    for by_copying in [false, true] {
        let mut running = start(json!({})).await;
        running.append("app.log", "1\n");
        running.taken(1).await;
        running.stop().await;
        running.append("app.log", "2\n");
        for number in [3, 4] {
            let pause = || tokio::time::sleep(Duration::from_millis(20));
            pause().await;
            if running.path("app.log.1").exists() {
                std::fs::rename(running.path("app.log.1"), running.path("app.log.2")).unwrap();
            }
            match by_copying {
                false => std::fs::rename(running.path("app.log"), running.path("app.log.1")).unwrap(),
                true => {
                    std::fs::copy(running.path("app.log"), running.path("app.log.1")).unwrap();
                    running.write("app.log", "");
                }
            }
            pause().await;
            running.append("app.log", &format!("{number}\n"));
        }
        running.restart(json!({})).await;
        assert_eq!(payloads(&running.taken(4).await), ["1", "2", "3", "4"], "{by_copying}");
        running.nothing_more(4).await;
    }
}

#[tokio::test]
async fn a_single_file_is_followed_in_its_folder() {
    let (folder, host) = (tempfile::tempdir().unwrap(), StandIn::new());
    let path = folder.path().join("one.txt");
    let settings = json!({ "mode": "tail", "path": path, "watch": "poll", "poll_ms": 30 });
    let ingress = supervise::<Files>(settings, &host);
    let lost = crate::contract::in_time(ingress.wait_for(|status| status.last_error.is_some())).await;
    assert!(lost.last_error.unwrap().text.contains("one.txt"), "it may become a file or a folder");
    std::fs::write(folder.path().join("other.txt"), "no\n").unwrap();
    std::fs::write(&path, "yes\n").unwrap();
    assert_eq!(payloads(&crate::contract::in_time(host.wait_taken(1)).await), ["yes"]);
}

#[tokio::test]
async fn lines_that_cannot_be_taken_now_come_later_in_order() {
    let running = start(json!({})).await;
    running.append("app.log", "0\n");
    running.taken(1).await;
    running.host.refuse(Refused::DiskFull);
    running.host.refuse(Refused::Busy { retry_after: Duration::from_millis(50) });
    let lines: Vec<String> = (1..200).map(|number| number.to_string()).collect();
    running.append("app.log", &(lines.join("\n") + "\n"));
    assert_eq!(payloads(&running.taken(200).await)[1..], lines);
    running.nothing_more(200).await;
}

#[tokio::test]
async fn more_files_than_may_be_open_are_followed_if_most_are_quiet() {
    let before = |folder: &Path| {
        for number in 0..2000 {
            std::fs::write(folder.join(format!("{number}.log")), "old\n").unwrap();
        }
    };
    let settings = json!({ "mode": "tail", "existing": "skip" });
    let mut running = Running::prepared(settings, before).await;
    for number in 0..20 {
        running.append(&format!("{number}.log"), "new\n");
    }
    assert_eq!(payloads(&running.taken(20).await), ["new"; 20]);
    running.restart(json!({})).await;
    running.append("1999.log", "newer\n");
    assert_eq!(payloads(&running.taken(21).await)[20], "newer");
    running.nothing_more(21).await;
}

#[tokio::test]
async fn what_is_kept_of_a_quiet_log_does_not_expire() {
    let host_at = |running: &Running, time: &str| running.host.start_clock(time.parse().unwrap());
    let mut running = start(json!({ "watch": "poll", "poll_ms": 30 })).await;
    host_at(&running, "2026-01-01T00:00:00Z");
    running.append("app.log", "1\n");
    running.taken(1).await;
    host_at(&running, "2027-01-01T00:00:00Z");
    let ingress = "tested".parse().unwrap();
    until("it is kept again", || running.host.kept(&ingress, "tail/app.log").unwrap().is_some()).await;
    running.restart(json!({})).await;
    running.nothing_more(1).await;
}

/// How many files of the folder this process has open.
fn open_files(running: &Running) -> usize {
    let folder = running.folder.path().canonicalize().unwrap();
    let target = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.ok()?.path()).ok();
    let targets = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(target);
    targets.filter(|target| target.starts_with(&folder) && *target != folder).count()
}

/// A log whose last line has no end, which was quiet until it was closed. The clock is paused.
async fn quiet_log() -> Running {
    let running = start(json!({ "watch": "poll", "poll_ms": 200 })).await;
    running.append("app.log", "1\n2");
    running.taken(1).await;
    assert_eq!(open_files(&running), 1);
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert_eq!(open_files(&running), 0);
    running
}

#[tokio::test(start_paused = true)]
async fn a_quiet_log_whose_last_line_has_no_end_is_closed_and_read_on() {
    let mut running = quiet_log().await;
    running.append("app.log", "3\n4");
    assert_eq!(payloads(&running.taken(2).await), ["1", "23"]);
    running.restart(json!({})).await;
    running.nothing_more(2).await;
    running.append("app.log", "\n");
    assert_eq!(payloads(&running.taken(3).await)[2], "4");
    running.nothing_more(3).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_removed_log_has_without_a_line_end_is_read_and_it_is_closed() {
    let running = start(json!({ "watch": "poll", "poll_ms": 200 })).await;
    running.append("app.log", "1\n2");
    running.taken(1).await;
    std::fs::remove_file(running.path("app.log")).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(payloads(&running.taken(2).await), ["1", "2"]);
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert_eq!(open_files(&running), 0);
    running.nothing_more(2).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_closed_log_had_without_a_line_end_is_read_once_it_is_removed() {
    // Seen to be gone, or not: the next file may even have its inode.
    for pause in [1, 0] {
        let running = quiet_log().await;
        std::fs::remove_file(running.path("app.log")).unwrap();
        tokio::time::sleep(Duration::from_secs(pause)).await;
        running.append("app.log", "3\n");
        let mut read = payloads(&running.taken(3).await);
        read.sort();
        assert_eq!(read, ["1", "2", "3"], "{pause}");
        running.nothing_more(3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_many_removed_logs_had_does_not_have_those_read_again_that_got_their_names() {
    // More than are on their way at once.
    let logs: Vec<String> = (0..100).map(|number| format!("{number}.log")).collect();
    let mut running = start(json!({ "watch": "poll", "poll_ms": 200 })).await;
    for log in &logs {
        running.append(log, "1\n2");
    }
    running.taken(logs.len()).await;
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert_eq!(open_files(&running), 0);
    for log in &logs {
        std::fs::remove_file(running.path(log)).unwrap();
        running.append(log, "3\n");
    }
    running.taken(3 * logs.len()).await;
    running.restart(json!({})).await;
    running.nothing_more(3 * logs.len()).await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_log_is_found_under_the_name_that_it_was_given() {
    for is_replaced in [true, false] {
        let running = quiet_log().await;
        std::fs::rename(running.path("app.log"), running.path("app.log.1")).unwrap();
        if is_replaced {
            running.append("app.log", "3\n");
        }
        running.append("app.log.1", "+");
        tokio::time::sleep(Duration::from_secs(62)).await;
        let wanted: &[&str] = if is_replaced { &["1", "2+", "3"] } else { &["1", "2+"] };
        assert_eq!(payloads(&running.taken(wanted.len()).await), wanted);
        tokio::time::sleep(Duration::from_secs(62)).await;
        assert_eq!(open_files(&running), 0);
        running.nothing_more(wanted.len()).await;
    }
}
