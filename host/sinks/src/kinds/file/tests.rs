use std::fs;
use std::path::PathBuf;

use sandbar_reading::DeliveryId;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::contract::{self, Behaviour, FarEnd, deliveries, delivery};

/// A folder that can be taken away.
struct Folder {
    dir: TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("out/messages.jsonl")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn aside(&self) -> PathBuf {
        self.dir.path().join("aside")
    }

    fn sink(&self, more: &Value) -> File {
        let mut settings = self.settings();
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        contract::sink::<Self>(settings)
    }

    /// The ids in the file and its predecessors, oldest first.
    fn all(&self, keep: u16) -> Vec<DeliveryId> {
        let rotated = (1..=keep).rev().map(|place| format!("out/messages.jsonl.{place}"));
        rotated
            .chain(["out/messages.jsonl".to_owned()])
            .filter_map(|name| fs::read_to_string(self.dir.path().join(name)).ok())
            .flat_map(|text| ids(&text))
            .collect()
    }
}

fn ids(text: &str) -> Vec<DeliveryId> {
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| line["id"].as_str().unwrap().parse().unwrap())
        .collect()
}

fn ids_of(batch: &[Delivery]) -> Vec<DeliveryId> {
    batch.iter().map(|delivery| delivery.id).collect()
}

impl FarEnd for Folder {
    type Sink = File;
    const REFUSES: bool = false;

    fn settings(&self) -> Value {
        json!({ "path": self.path() })
    }

    /// A file where the folder should be: nothing can be opened in it.
    fn behave(&self, behaviour: Behaviour) {
        match behaviour {
            Behaviour::FailAfter(_) => {
                fs::rename(self.out(), self.aside()).unwrap();
                fs::write(self.out(), "").unwrap();
            }
            _ if self.aside().exists() => {
                fs::remove_file(self.out()).unwrap();
                fs::rename(self.aside(), self.out()).unwrap();
            }
            _ => {}
        }
    }

    fn taken(&self) -> Vec<DeliveryId> {
        let folder = if self.aside().exists() { self.aside() } else { self.out() };
        ids(&fs::read_to_string(folder.join("messages.jsonl")).unwrap_or_default())
    }
}

#[tokio::test]
async fn keeps_the_contract_of_sinks() {
    contract::check(&Folder::new()).await;
}

#[tokio::test]
async fn the_same_id_is_written_once_also_after_a_restart_and_across_rotated_files() {
    let folder = Folder::new();
    let batch = deliveries(0..40);
    let small = json!({ "rotate_bytes": 1000, "keep": 50 });
    folder.sink(&small).deliver(&batch[..25], &Progress::default()).await.unwrap();
    assert!(folder.dir.path().join("out/messages.jsonl.5").exists(), "it was rotated");
    folder.sink(&small).deliver(&batch, &Progress::default()).await.unwrap();
    assert_eq!(folder.all(50), ids_of(&batch));
}

#[tokio::test]
async fn a_line_that_a_crash_cut_off_is_ended_and_written_again() {
    let folder = Folder::new();
    folder.sink(&json!({})).deliver(&deliveries(0..3), &Progress::default()).await.unwrap();
    let content = fs::read(folder.path()).unwrap();
    fs::write(folder.path(), &content[..content.len() - 20]).unwrap();

    folder.sink(&json!({})).deliver(&deliveries(0..3), &Progress::default()).await.unwrap();
    let text = fs::read_to_string(folder.path()).unwrap();
    assert_eq!(ids(&text), ids_of(&deliveries(0..3)));
    assert_eq!(text.lines().count(), 4, "the half line stands for itself");
}

#[tokio::test]
async fn a_line_that_lacks_only_its_newline_is_not_written_again() {
    let folder = Folder::new();
    folder.sink(&json!({})).deliver(&deliveries(0..3), &Progress::default()).await.unwrap();
    let content = fs::read(folder.path()).unwrap();
    fs::write(folder.path(), &content[..content.len() - 1]).unwrap();

    folder.sink(&json!({})).deliver(&deliveries(0..4), &Progress::default()).await.unwrap();
    assert_eq!(fs::read_to_string(folder.path()).unwrap().lines().count(), 4);
}

#[tokio::test]
async fn keeps_as_many_files_as_it_was_told() {
    let folder = Folder::new();
    folder
        .sink(&json!({ "rotate_bytes": 1, "keep": 2 }))
        .deliver(&deliveries(0..6), &Progress::default())
        .await
        .unwrap();
    assert_eq!(
        folder.all(9),
        ids_of(&deliveries(3..6)),
        "one line a file, and two files beside the current one"
    );
}

#[tokio::test]
async fn what_more_was_kept_before_goes_when_it_is_to_keep_less() {
    let folder = Folder::new();
    folder
        .sink(&json!({ "rotate_bytes": 1, "keep": 5 }))
        .deliver(&deliveries(0..6), &Progress::default())
        .await
        .unwrap();
    let others = ["messages.jsonl.1001", "messages.jsonl.03", "messages.jsonl.old"];
    others.iter().for_each(|name| fs::write(folder.out().join(name), "").unwrap());
    let less = json!({ "rotate_bytes": 1, "keep": 2 });
    folder.sink(&less).deliver(&deliveries(6..7), &Progress::default()).await.unwrap();
    let mut names: Vec<_> = fs::read_dir(folder.out())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let kept = [
        "messages.jsonl",
        "messages.jsonl.03",
        "messages.jsonl.1",
        "messages.jsonl.1001",
        "messages.jsonl.2",
        "messages.jsonl.old",
    ];
    assert_eq!(names, kept);
}

/// A disk that hangs takes one thread, not one at every offer.
#[test]
fn who_waits_for_the_file_takes_no_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let folder = Folder::new();
        let sink = folder.sink(&json!({}));
        let hanging = Arc::clone(&sink.writer).lock_owned().await;
        let batch = deliveries(0..1);
        let progress = Progress::default();
        assert!(futures::poll!(std::pin::pin!(sink.deliver(&batch, &progress))).is_pending());
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        drop(hanging);
        sink.deliver(&batch, &progress).await.unwrap();
    });
}

#[test]
fn rotates_a_file_whose_first_line_is_too_old() {
    let folder = Folder::new();
    let settings = || Settings {
        form: Arc::new(Form::Json),
        path: folder.path(),
        rotate_bytes: u64::MAX,
        rotate_after: Some(Duration::from_secs(60)),
        keep: 3,
    };
    let first = delivery(1).time;
    let write = |number, seconds| {
        Writer::new(settings())
            .write(&[line(&Form::Json, &delivery(number))], first.after(Duration::from_secs(seconds)))
            .unwrap();
    };
    write(1, 0);
    write(2, 59);
    write(3, 60);
    assert_eq!(ids(&fs::read_to_string(folder.path()).unwrap()), [delivery(3).id]);
    assert_eq!(folder.all(3), ids_of(&deliveries(1..4)));
}

#[tokio::test]
async fn follows_a_file_that_somebody_else_rotated() {
    let folder = Folder::new();
    let sink = folder.sink(&json!({}));
    sink.deliver(&deliveries(0..2), &Progress::default()).await.unwrap();
    fs::rename(folder.path(), folder.dir.path().join("elsewhere")).unwrap();
    sink.deliver(&deliveries(0..3), &Progress::default()).await.unwrap();
    assert_eq!(folder.taken(), [delivery(2).id]);
}

#[tokio::test]
async fn two_sinks_do_not_write_to_one_file_at_once() {
    let folder = Folder::new();
    let (first, second) = (folder.sink(&json!({})), folder.sink(&json!({})));
    first.deliver(&deliveries(0..1), &Progress::default()).await.unwrap();
    let error = second.deliver(&deliveries(1..2), &Progress::default()).await.unwrap_err().to_string();
    assert!(error.ends_with("messages.jsonl: another sink or process writes to it"), "{error}");
    drop(first);
    second.deliver(&deliveries(1..2), &Progress::default()).await.unwrap();
    assert_eq!(folder.taken(), ids_of(&deliveries(0..2)));
}

/// A folder with a file of records.
struct Records(Folder);

impl FarEnd for Records {
    type Sink = File;
    const REFUSES: bool = false;

    fn settings(&self) -> Value {
        json!({ "path": self.0.path(), "format": "csv", "columns": ["time", "/count", "payload"] })
    }

    fn behave(&self, behaviour: Behaviour) {
        self.0.behave(behaviour);
    }

    fn taken(&self) -> Vec<DeliveryId> {
        let folder = if self.0.aside().exists() { self.0.aside() } else { self.0.out() };
        record_ids(&folder.join("messages.jsonl"))
    }
}

fn record_ids(path: &std::path::Path) -> Vec<DeliveryId> {
    let Ok(mut reader) = ::csv::Reader::from_path(path) else { return Vec::new() };
    reader.records().map(|record| record.unwrap().iter().next_back().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn keeps_the_contract_of_sinks_as_records_too() {
    contract::check(&Records(Folder::new())).await;
}

#[tokio::test]
async fn every_file_of_records_has_its_header_and_no_record_twice() {
    let records = Records(Folder::new());
    let batch = deliveries(0..40);
    let start = |more: Value| {
        let mut settings = records.settings();
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        contract::sink::<Records>(settings)
    };
    let small = || json!({ "rotate_bytes": 500, "keep": 50 });
    start(small()).deliver(&batch[..25], &Progress::default()).await.unwrap();
    // A crash within a record, and a restart.
    let content = fs::read(records.0.path()).unwrap();
    fs::write(records.0.path(), &content[..content.len() - 3]).unwrap();
    start(small()).deliver(&batch, &Progress::default()).await.unwrap();
    let mut all = Vec::new();
    for place in (0..=50).rev() {
        let suffix = if place > 0 { format!(".{place}") } else { String::new() };
        let path = records.0.dir.path().join(format!("out/messages.jsonl{suffix}"));
        if let Ok(text) = fs::read_to_string(&path) {
            assert!(text.starts_with("time,count,payload,id\n"), "{text}");
            all.extend(record_ids(&path));
        }
    }
    assert_eq!(all, ids_of(&batch));

    // Other columns begin another file.
    start(json!({ "columns": ["topic"] })).deliver(&deliveries(40..41), &Progress::default()).await.unwrap();
    assert_eq!(
        fs::read_to_string(records.0.path()).unwrap(),
        "topic,id\nsensors/kitchen,01HF7YAT000000000000000018\n"
    );
}

#[test]
fn refuses_a_path_that_names_no_file_and_too_many_files() {
    for (settings, at) in [
        (json!({ "path": "/tmp/" }), "path"),
        (json!({ "path": "" }), "path"),
        (json!({ "path": "/tmp/x", "keep": 2000 }), "keep"),
        (json!({ "path": "/tmp/x", "rotate_bytes": 0 }), "rotate_bytes"),
        (json!({ "path": "/tmp/x", "format": "xml" }), "format"),
        (json!({ "path": "/tmp/x", "format": "csv" }), "columns"),
        (json!({ "path": "/tmp/x", "columns": ["time"] }), "columns"),
    ] {
        let error = crate::build("file", settings).err().unwrap();
        assert_eq!(error.setting, at);
    }
}
