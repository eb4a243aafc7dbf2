//! A host on the data of the one before it.

use std::path::PathBuf;
use std::sync::Arc;

use sandbar_reading::SystemClock;
use sandbar_runtime::test_components;
use sandbar_store::{Committer, Disk, Kind, Store, Subject};

use super::{Host, name};
use crate::{Control, DeadLetterFilter, DeadLetterQuery, SinkState, StartError};

fn blob(host: &Host, module: &str) -> PathBuf {
    let digest = host.control.module(module).unwrap().versions[0].digest.clone();
    host.dir.path().join("sandbar-data/modules").join(digest)
}

#[tokio::test]
async fn what_was_made_through_the_api_is_there_again_with_its_state() {
    let host = Host::start("").await;
    host.upload("m", test_components::counter()).await;
    host.put_sink("out").await;
    host.put_route("r", "m", "out").await;
    host.send("a", "x").await;
    host.settled().await;
    let (token, route) = (host.control.token().to_owned(), host.control.route("r").unwrap().table);

    let host = host.restart("").await;
    assert_eq!(host.control.token(), token);
    assert_eq!(host.control.route("r").unwrap().table, route);
    host.send("a", "x").await;
    host.settled().await;
    let count = |line: &serde_json::Value| line["payload"].as_str().unwrap().as_bytes()[0];
    assert_eq!(host.delivered().iter().map(count).collect::<Vec<_>>(), [1, 2]);
    host.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_route_that_is_gone_becomes_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.wasm"), test_components::retry()).unwrap();
    let text = "[module.m]\nfile = \"m.wasm\"\n[route.r]\nmodule = \"m\"\n";
    let host = Host::start_in(dir, text).await;
    let id = host.send("a", "x").await;
    assert_eq!(host.control.status().store.waiting, 1);

    let host = host.restart("").await;
    assert_eq!(host.control.status().store.waiting, 0);
    let query = DeadLetterQuery { limit: 10, ..DeadLetterQuery::default() };
    let letters = host.control.dead_letters(query).await.unwrap().items;
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert!(matches!(&letter.subject, Subject::Reading { lane, reading }
        if lane.route.as_str() == "r" && reading.id.to_string() == id));
    let refused = host.control.redrive(letter.id).await.unwrap_err();
    assert_eq!(refused.to_string(), "route `r` is no longer there");

    // With the route, it can be handled after all.
    std::fs::write(host.dir.path().join("m.wasm"), test_components::nothing()).unwrap();
    host.control.apply(host.declared(text)).await.unwrap();
    host.control.redrive(letter.id).await.unwrap();
    super::until(|| host.handled("r") == 1).await;
    host.stop().await;
}

#[tokio::test]
async fn a_damaged_module_breaks_its_routes_until_it_is_uploaded_again() {
    let host = Host::start("").await;
    host.upload("m", test_components::echo()).await;
    host.put_sink("out").await;
    host.put_route("r", "m", "out").await;
    std::fs::write(blob(&host, "m"), "garbage").unwrap();

    let host = host.restart("").await;
    let broken = host.control.route("r").unwrap().status.broken.unwrap();
    assert!(broken.starts_with("module `m`: its component cannot be read"), "{broken}");
    host.send("a", "x").await;
    // A change of something else is no reason to refuse, and does not mend it.
    host.put_sink("other").await;
    assert!(host.control.route("r").unwrap().status.broken.is_some());
    let store = host.control.status().store;
    assert_eq!((store.waiting, store.dead_letters), (1, 0));

    host.upload("m", test_components::echo()).await;
    assert_eq!(host.control.route("r").unwrap().status.broken, None);
    host.settled().await;
    assert_eq!(host.delivered()[0]["payload"], "x");
    assert_eq!(host.control.module("m").unwrap().versions.len(), 1);
    host.stop().await;
}

#[tokio::test]
async fn a_sink_that_lost_its_secret_keeps_what_is_queued_until_it_is_mended() {
    let host = Host::start("").await;
    let secret = host.dir.path().join("secret");
    std::fs::write(&secret, "http://127.0.0.1:9/").unwrap();
    let table = serde_json::json!({ "kind": "http", "secret_url": { "file": secret } });
    host.control.put_sink(name("far"), serde_json::from_value(table).unwrap()).await.unwrap();
    host.upload("m", test_components::echo()).await;
    host.put_route("r", "m", "far").await;
    std::fs::remove_file(&secret).unwrap();

    let host = host.restart("").await;
    assert!(matches!(host.control.sink("far").unwrap().status, SinkState::Broken(_)));
    host.send("a", "x").await;
    super::until(|| host.control.status().store.outbox == 1).await;
    std::fs::write(&secret, "http://127.0.0.1:9/").unwrap();
    host.control.apply(host.declared("")).await.unwrap();
    assert!(matches!(host.control.sink("far").unwrap().status, SinkState::Offered(_)));
    host.stop().await;
}

#[tokio::test]
async fn a_module_that_left_the_file_stays_for_the_routes_that_use_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.wasm"), test_components::echo()).unwrap();
    let host = Host::start_in(dir, "[module.m]\nfile = \"m.wasm\"\n").await;
    host.put_sink("out").await;
    host.put_route("r", "m", "out").await;
    let host = host.restart("").await;
    assert_eq!(host.control.route("r").unwrap().status.broken, None);
    assert!(!host.control.module("m").unwrap().declared);
    host.stop().await;
}

#[tokio::test]
async fn a_module_that_left_the_file_leaves_no_component_behind() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.wasm"), test_components::echo()).unwrap();
    let host = Host::start_in(dir, "[module.m]\nfile = \"m.wasm\"\n").await;
    let component = blob(&host, "m");
    assert!(component.exists());
    let host = host.restart("").await;
    assert!(host.control.module("m").is_err() && !component.exists());
    host.stop().await;
}

/// Its rows waited for ever: only names that were kept in mind were looked for.
#[tokio::test]
async fn what_waits_for_a_route_that_nobody_remembers_becomes_a_dead_letter_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.wasm"), test_components::retry()).unwrap();
    let text = "[module.m]\nfile = \"m.wasm\"\n[route.r]\nmodule = \"m\"\n";
    let host = Host::start_in(dir, text).await;
    host.send("a", "x").await;
    assert_eq!(host.control.status().store.waiting, 1);
    let dir = host.stop().await;
    {
        let data = dir.path().join("sandbar-data");
        let disk = Arc::new(Disk::new(data.join("store")));
        let (clock, options) = (Arc::new(SystemClock), Default::default());
        let store = Store::open(disk, data.join("modules"), options, clock, Committer::Thread).unwrap();
        let nobody = (Kind::Setting, "known".to_owned(), Some(br#"{"routes":[]}"#.to_vec()));
        store.put_documents(vec![nobody]).await.unwrap();
        store.close().await;
    }
    let host = Host::start_in(dir, "").await;
    let store = host.control.status().store;
    assert_eq!((store.waiting, store.dead_letters), (0, 1));
    host.stop().await;
}

#[tokio::test]
async fn a_declared_file_that_is_gone_breaks_its_route_and_not_the_host() {
    let text = "[module.m]\nfile = \"m.wasm\"\n[route.r]\nmodule = \"m\"\n";
    let host = Host::start(text).await;
    assert!(host.control.route("r").unwrap().status.broken.is_some());
    host.send("a", "x").await;
    std::fs::write(host.dir.path().join("m.wasm"), test_components::nothing()).unwrap();
    host.control.apply(host.declared(text)).await.unwrap();
    super::until(|| host.handled("r") == 1).await;
    host.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_work_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    for (text, line) in [
        ("[ingress.a]\ndriver = \"simulator\"\n\nrate = -1.0\n", 4),
        ("[sink.a]\nkind = \"file\"\npath = \"/\"\n", 3),
        ("[route.a]\nsinks = \"b\"\n", 2),
        ("[api]\ntoken = { file = \"/does/not/exist\" }\n", 2),
    ] {
        let refused = Control::start(super::start(&dir, text)).await.err().unwrap();
        assert!(matches!(&refused, StartError::Problem(problem) if problem.line == line), "{refused}");
    }
}

/// It waited for a route that nobody took out any more, and with it the journal kept the reading.
#[tokio::test]
async fn nothing_is_redriven_to_a_route_that_is_about_to_go() {
    let host = Host::start("").await;
    host.upload("m", test_components::reject()).await;
    host.put_sink("out").await;
    host.put_route("r", "m", "out").await;
    host.send("a", "x").await;
    super::until(|| host.control.status().store.dead_letters == 1).await;
    let query = DeadLetterQuery { limit: 10, ..DeadLetterQuery::default() };
    let letter = host.control.dead_letters(query).await.unwrap().items[0].id;

    // The removal waits for whoever still routes by it.
    let router = host.control.inner.pipeline.router();
    let control = host.control.clone();
    let removal = tokio::spawn(async move { control.remove_route(name("r")).await });
    super::until(|| host.control.inner.pipeline.router().route("r").is_none()).await;
    let refused = host.control.redrive(letter).await.unwrap_err();
    assert_eq!(refused.to_string(), "route `r` is no longer there");
    assert_eq!(host.control.redrive_all(DeadLetterFilter::default()).await.unwrap(), 0);
    drop(router);
    removal.await.unwrap().unwrap();
    assert_eq!(host.control.status().store.waiting, 0);

    // Another of that name is there at once.
    host.put_route("r", "m", "out").await;
    host.control.redrive(letter).await.unwrap();
    host.stop().await;
}
