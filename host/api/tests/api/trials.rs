//! Tries, and what a route's handler logs.

use sandbar_runtime::test_components as components;
use serde_json::{Value, json};

use crate::support::{Host, wasm};

#[tokio::test]
async fn a_version_is_tried_on_dead_letters() {
    let host = Host::start().await;
    host.ask("PUT", "/v1/modules/no", wasm(components::reject())).await.done();
    host.ask("PUT", "/v1/routes/r", json!({ "module": "no" })).await.done();
    let mut tail = host.tail("").await;
    for payload in ["x", "y"] {
        host.ask("POST", "/v1/readings", json!({ "topic": "a", "payload": payload })).await.done();
        tail.wait_for("dead-letter").await;
    }
    let path = "/v1/try?route=r&dead_letters=true";
    let tried = host.ask("POST", path, wasm(components::echo())).await.done();
    let payloads: Vec<_> =
        tried["items"].as_array().unwrap().iter().map(|item| &item["reading"]["payload"]).collect();
    assert_eq!((&tried["tried"], payloads), (&json!(2), vec![&json!("x"), &json!("y")]), "oldest first");
    assert_eq!(tried["items"][0]["difference"], "the active version failed: no such sensor");
    let newest = host.ask("POST", &format!("{path}&last=1"), wasm(components::echo())).await.done();
    assert_eq!(newest["items"][0]["reading"]["payload"], "y");
    let no_text = host.ask("POST", path, ("text/javascript", vec![0xff])).await;
    let detail = no_text.problem(422, "invalid-component")["detail"].to_string();
    assert!(detail.contains("the script is not UTF-8 text"), "{detail}");
    let letters = host.get("/v1/dead-letters").await.done();
    assert_eq!(letters["items"].as_array().unwrap().len(), 2, "nothing is kept of it");

    for wrong in ["route=r&dead_letters=true&topic=a", "dead_letters=true", "route=r&dead_letters=perhaps"] {
        let answer = host.ask("POST", &format!("/v1/try?{wrong}"), wasm(components::echo())).await;
        assert_eq!(answer.problem(400, "invalid-parameter")["setting"], "dead_letters", "{wrong}");
    }
    host.end().await;
}

#[tokio::test]
async fn a_watcher_of_logs_begins_with_what_is_kept_and_misses_nothing_in_between() {
    let host = Host::start().await;
    host.ask("PUT", "/v1/modules/m", wasm(components::talkative())).await.done();
    let route = json!({ "module": "m", "attempts": { "max": 1 }, "limits": { "log_lines": 10 } });
    host.ask("PUT", "/v1/routes/r", route).await.done();
    let mut tail = host.tail("").await;
    host.ask("POST", "/v1/readings", json!({ "topic": "a" })).await.done();
    tail.wait_for("dead-letter").await;

    let mut watch = host.watch("/v1/routes/r/logs/tail?last=3").await;
    let mut only_new = host.watch("/v1/routes/r/logs/tail").await;
    host.ask("POST", "/v1/readings", json!({ "topic": "a" })).await.done();
    // Ten of the handler's, one that counts the rest, and what became of the attempt.
    let (mut numbers, mut new) = (Vec::new(), Vec::new());
    for _ in 0..3 + 12 {
        numbers.push(watch.wait_for("log").await["number"].as_u64().unwrap());
    }
    for _ in 0..12 {
        new.push(only_new.wait_for("log").await["number"].as_u64().unwrap());
    }
    assert_eq!((numbers, new), ((9..24).collect(), (12..24).collect::<Vec<_>>()));
    let kept: Value = host.get("/v1/routes/r/logs").await.done();
    assert_eq!(kept["items"].as_array().unwrap().len(), 24);
    host.end().await;
}
