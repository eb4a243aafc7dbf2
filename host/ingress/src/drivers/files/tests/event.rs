use std::io::Write;

use sandbar_reading::ContentType;
use serde_json::json;

use super::super::file::look;
use super::super::seen::{Entry, Event, Standing};
use super::*;
use crate::Intake;

fn pair(event: &str, text: &str) -> (String, String) {
    (event.to_owned(), text.to_owned())
}

#[tokio::test]
async fn a_file_is_a_reading_when_it_is_new_and_when_it_has_changed() {
    let running = Running::start(json!({ "topic": "in/{stem}", "device": "{name}" })).await;
    running.write("a.csv", "1;2");
    let taken = running.taken(1).await;
    let inbound = &taken[0].inbound;
    assert_eq!((inbound.topic.as_str(), inbound.device.as_deref()), ("in/a", Some("a.csv")));
    assert_eq!(inbound.content_type.as_str(), "text/csv");
    let attribute = |name: &str| inbound.attributes.get(name).unwrap().to_owned();
    assert_eq!(attribute("file.path"), running.path("a.csv").to_string_lossy());
    assert_eq!((attribute("file.name"), attribute("file.size")), ("a.csv".to_owned(), "3".to_owned()));
    attribute("file.modified").parse::<sandbar_reading::Timestamp>().unwrap();
    running.write("a.csv", "3;4");
    assert_eq!(texts(&running.taken(2).await), [pair("created", "1;2"), pair("modified", "3;4")]);
    running.nothing_more(2).await;
    // As editors write: to another name, which is renamed.
    running.write("a.csv~new", "5;6");
    std::fs::rename(running.path("a.csv"), running.path("a.csv~")).unwrap();
    std::fs::rename(running.path("a.csv~new"), running.path("a.csv")).unwrap();
    std::fs::remove_file(running.path("a.csv~")).unwrap();
    let texts = texts(&running.taken(3).await);
    assert!(texts.contains(&pair("modified", "5;6")), "{texts:?}");
}

#[tokio::test]
async fn a_file_is_not_read_until_its_writer_closed_it() {
    let running = Running::start(json!({})).await;
    let mut file = std::fs::File::create(running.path("a.txt")).unwrap();
    for _ in 0..5 {
        file.write_all(b"part ").unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert!(running.host.taken().is_empty());
    drop(file);
    assert_eq!(payloads(&running.taken(1).await), ["part ".repeat(5)]);
    running.nothing_more(1).await;
}

#[tokio::test]
async fn a_writer_that_stalls_is_not_waited_for_for_ever() {
    let running = Running::start(json!({ "stalled_ms": 200 })).await;
    let mut file = std::fs::File::create(running.path("a.txt")).unwrap();
    file.write_all(b"half").unwrap();
    assert_eq!(payloads(&running.taken(1).await), ["half"]);
}

#[tokio::test]
async fn where_nothing_is_told_two_looks_must_agree() {
    let running = Running::start(json!({ "watch": "poll", "poll_ms": 20, "settle_ms": 150 })).await;
    for text in ["a", "ab", "abc"] {
        running.write("a.txt", text);
        tokio::time::sleep(Duration::from_millis(70)).await;
    }
    assert!(running.host.taken().is_empty());
    assert_eq!(payloads(&running.taken(1).await), ["abc"]);
    std::fs::remove_file(running.path("a.txt")).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.write("a.txt", "abc");
    assert_eq!(texts(&running.taken(2).await)[1], pair("created", "abc"));
}

#[tokio::test]
async fn what_came_while_it_was_stopped_is_read_and_nothing_twice() {
    let prepare = |folder: &Path| std::fs::write(folder.join("first"), "1").unwrap();
    let mut running = Running::prepared(json!({}), prepare).await;
    running.write("second", "2");
    running.taken(2).await;
    running.stop().await;
    running.write("third", "3");
    running.write("second", "22");
    std::fs::remove_file(running.path("first")).unwrap();
    running.restart(json!({})).await;
    let mut after = texts(&running.taken(4).await).split_off(2);
    after.sort();
    assert_eq!(after, [pair("created", "3"), pair("modified", "22")]);
    running.nothing_more(4).await;
    running.restart(json!({})).await;
    running.write("first", "1");
    assert_eq!(texts(&running.taken(5).await)[4], pair("created", "1"));
    running.nothing_more(5).await;
}

#[tokio::test]
async fn a_kill_between_the_reading_and_the_removal_reads_nothing_twice() {
    let (folder, host) = (tempfile::tempdir().unwrap(), StandIn::new());
    let path = folder.path().join("a.txt");
    std::fs::write(&path, "1").unwrap();
    let signature = look(&path, false).unwrap().unwrap();
    let standing = Standing::Read { event: Event::Created, tidy: true };
    let kept = Entry { signature, standing }.write("a.txt");
    host.keep("tested".parse().unwrap(), vec![kept]).await.unwrap();
    let settings = json!({ "path": folder.path(), "settle_ms": 30, "remove_created": true });
    let _ingress = supervise::<Files>(settings, &host);
    until("it is removed", || !path.exists()).await;
    assert!(host.taken().is_empty());
    until("it is forgotten", || host.kept_names(&"tested".parse().unwrap(), "seen/").unwrap().is_empty())
        .await;
}

#[tokio::test]
async fn the_policies_remove_what_they_say() {
    for (policy, created, modified) in [
        (json!({}), true, true),
        (json!({ "remove_created": true }), false, true),
        (json!({ "remove_except_modified": true }), false, true),
        (json!({ "remove_all_files": true }), false, false),
    ] {
        let before = |folder: &Path| std::fs::write(folder.join("modified"), "1").unwrap();
        let mut running = Running::prepared(json!({ "existing": "skip" }), before).await;
        running.restart(policy.clone()).await;
        running.write("modified", "2");
        running.write("created", "3");
        running.taken(2).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let there = (running.path("created").exists(), running.path("modified").exists());
        assert_eq!(there, (created, modified), "{policy}");
    }
}

#[tokio::test]
async fn folders_go_when_all_that_was_in_them_was_read() {
    let settings = json!({ "recursive": true, "remove_all_folders": true, "patterns": ["*.txt"] });
    let running = Running::start(settings).await;
    std::fs::create_dir_all(running.path("a/b")).unwrap();
    std::fs::create_dir_all(running.path("c")).unwrap();
    for file in ["a/b/1.txt", "a/2.txt", "c/3.txt", "c/4.csv"] {
        running.write(file, file);
    }
    running.taken(3).await;
    until("a is gone", || !running.path("a").exists()).await;
    assert!(running.path("c/4.csv").exists() && !running.path("c/3.txt").exists());
    assert!(running.folder.path().exists());
}

#[tokio::test]
async fn what_was_read_is_moved_and_not_read_there() {
    let done = tempfile::tempdir().unwrap();
    let mut running = Running::start(json!({ "recursive": true })).await;
    running.restart(json!({ "move_to": running.path("done") })).await;
    running.write("a.txt", "1");
    running.taken(1).await;
    until("it is moved", || running.path("done/a.txt").exists()).await;
    assert!(!running.path("a.txt").exists());
    running.nothing_more(1).await;
    running.restart(json!({ "move_to": done.path() })).await;
    running.write("b.txt", "2");
    running.taken(2).await;
    until("it is moved", || done.path().join("b.txt").exists()).await;
}

#[tokio::test]
async fn a_file_that_is_too_large_stays_and_is_tried_once() {
    let mut running = Running::start(json!({ "remove_all_files": true })).await;
    running.write("large", &"x".repeat(1001));
    running.write("small", &"x".repeat(1000));
    running.taken(1).await;
    running.nothing_more(1).await;
    assert!(running.path("large").exists());
    running.restart(json!({ "chunk_bytes": 400 })).await;
    let taken = running.taken(4).await;
    let part = |taken: &Taken| {
        let attribute = |name: &str| taken.inbound.attributes.get(name).unwrap().to_owned();
        (
            attribute("file.chunk"),
            attribute("file.chunks"),
            attribute("file.offset"),
            taken.inbound.payload.len(),
        )
    };
    let expected =
        |chunk: &str, offset: &str, size| (chunk.to_owned(), "3".to_owned(), offset.to_owned(), size);
    let parts: Vec<_> = taken[1..].iter().map(part).collect();
    assert_eq!(parts, [expected("1", "0", 400), expected("2", "400", 400), expected("3", "800", 201)]);
    until("it is removed", || !running.path("large").exists()).await;
}

#[tokio::test]
async fn a_file_that_was_read_in_part_goes_on_there() {
    let (folder, host) = (tempfile::tempdir().unwrap(), StandIn::new());
    let path = folder.path().join("a.bin");
    std::fs::write(&path, "aaaabbbbcc").unwrap();
    let signature = look(&path, false).unwrap().unwrap();
    let standing = Standing::Partly { event: Event::Created, offset: 4 };
    host.keep("tested".parse().unwrap(), vec![Entry { signature, standing }.write("a.bin")]).await.unwrap();
    let settings = json!({ "path": folder.path(), "settle_ms": 30, "chunk_bytes": 4 });
    let _ingress = supervise::<Files>(settings, &host);
    let taken = crate::contract::in_time(host.wait_taken(2)).await;
    assert_eq!(payloads(&taken), ["bbbb", "cc"]);
    assert_eq!(taken[0].inbound.content_type, ContentType::OCTETS);
}

#[tokio::test]
async fn the_switches_are_heard() {
    let before = |folder: &Path| std::fs::write(folder.join("a"), "1").unwrap();
    let mut running = Running::prepared(json!({ "existing": "skip", "on_modify": false }), before).await;
    running.write("a", "2");
    running.write("b", "3");
    assert_eq!(payloads(&running.taken(1).await), ["3"]);
    running.nothing_more(1).await;
    running.restart(json!({ "on_modify": true, "on_create": false })).await;
    running.write("c", "4");
    running.nothing_more(1).await;
    running.write("c", "5");
    assert_eq!(texts(&running.taken(2).await)[1], pair("modified", "5"));
}

#[tokio::test]
async fn links_are_followed_only_if_that_is_set() {
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("secret"), "s").unwrap();
    let link = |folder: &Path| {
        std::os::unix::fs::symlink(other.path().join("secret"), folder.join("a")).unwrap();
        std::os::unix::fs::symlink(other.path(), folder.join("deep")).unwrap();
    };
    let mut running = Running::prepared(json!({ "recursive": true }), link).await;
    running.nothing_more(0).await;
    running.restart(json!({ "follow_links": true })).await;
    assert_eq!(payloads(&running.taken(2).await), ["s", "s"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_looked_at_is_in_nobody_s_way() {
    let running = Running::start(json!({ "follow_links": true })).await;
    std::os::unix::fs::symlink(running.path("loop"), running.path("loop")).unwrap();
    running.write("a", "1");
    assert_eq!(payloads(&running.taken(1).await), ["1"]);
    std::fs::remove_file(running.path("loop")).unwrap();
    running.write("loop", "2");
    assert_eq!(payloads(&running.taken(2).await), ["1", "2"]);
}

#[tokio::test]
async fn a_folder_that_vanished_is_waited_for() {
    let running = Running::start(json!({})).await;
    let moved = running.folder.path().with_extension("moved");
    std::fs::rename(running.folder.path(), &moved).unwrap();
    let lost = crate::contract::in_time(running.ingress.wait_for(|status| status.last_error.is_some())).await;
    let text = lost.last_error.unwrap().text;
    assert!(text.contains("No such file or directory") && text.contains("reading /"), "{text}");
    std::fs::rename(&moved, running.folder.path()).unwrap();
    running.write("a", "1");
    assert_eq!(payloads(&running.taken(1).await), ["1"]);
}

#[tokio::test]
async fn what_was_read_is_not_forgotten_while_the_folder_is_not_mounted() {
    let before = |folder: &Path| std::fs::write(folder.join("a"), "1").unwrap();
    let mut running = Running::prepared(json!({}), before).await;
    running.taken(1).await;
    running.stop().await;
    let mounted = running.folder.path().with_extension("mounted");
    std::fs::rename(running.folder.path(), &mounted).unwrap();
    std::fs::create_dir(running.folder.path()).unwrap();
    running.restart(json!({})).await;
    running.stop().await;
    std::fs::remove_dir(running.folder.path()).unwrap();
    std::fs::rename(&mounted, running.folder.path()).unwrap();
    running.restart(json!({})).await;
    running.nothing_more(1).await;
}

#[tokio::test]
async fn what_cannot_be_taken_now_is_read_later() {
    let running = Running::start(json!({})).await;
    running.host.refuse(Refused::DiskFull);
    for name in ["a", "b", "c"] {
        running.write(name, name);
    }
    let mut read = payloads(&running.taken(3).await);
    read.sort();
    assert_eq!(read, ["a", "b", "c"]);
    running.nothing_more(3).await;
}
