use sandbar_runtime::test_components as components;
use serde_json::{Value, json};

use crate::support::{Host, wasm};

#[tokio::test]
async fn a_reading_goes_through_an_uploaded_component_to_a_sink() {
    let host = Host::start().await;
    let made = host.ask("PUT", "/v1/modules/echo", wasm(components::echo())).await;
    assert_eq!(made.status, 201);
    assert_eq!((&made.json()["version"], &made.json()["active"]), (&json!(1), &json!(true)));
    assert_eq!(host.ask("PUT", "/v1/sinks/out", json!({ "kind": "log" })).await.status, 201);
    let route = json!({ "topic": "a/#", "module": "echo", "sinks": ["out"] });
    assert_eq!(host.ask("PUT", "/v1/routes/r", route.clone()).await.status, 201);
    assert_eq!(host.ask("PUT", "/v1/routes/r", route).await.status, 200);

    let mut tail = host.tail("?topic=a%2F%2B").await;
    let other = json!({ "topic": "b", "payload": "not for this tail" });
    assert_eq!(host.ask("POST", "/v1/readings", other).await.status, 202);
    let reading = json!({ "topic": "a/b", "device": "d", "attributes": { "k": ["1", "2"] }, "payload_json": { "t": 1 } });
    let id = host.ask("POST", "/v1/readings", reading).await.done()["id"].clone();
    let (event, seen) = tail.next().await.unwrap();
    assert_eq!((event.as_str(), &seen["id"], &seen["ingress"]), ("reading", &id, &json!("api")));
    let output = tail.wait_for("output").await;
    assert_eq!((&output["reading"], &output["target"]), (&id, &json!("sink/out")));
    assert_eq!(output["message"]["payload_json"], json!({ "t": 1 }));

    let shown = host.get(&format!("/v1/readings/{}", id.as_str().unwrap())).await.done();
    assert_eq!((&shown["device"], &shown["attributes"]), (&json!("d"), &json!({ "k": ["1", "2"] })));
    let listed = host.get("/v1/readings?device=d").await.done();
    assert_eq!((&listed["items"][0]["id"], &listed["next"]), (&id, &json!(null)));
    let metrics = String::from_utf8(host.get("/metrics").await.bytes.to_vec()).unwrap();
    assert!(metrics.contains("sandbar_readings_total 2"), "{metrics}");
    assert!(metrics.contains("sandbar_route_handled_total{route=\"r\"}"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
    host.end().await;
}

#[tokio::test]
async fn pages_follow_one_another_newest_first() {
    let host = Host::start().await;
    let mut sent = Vec::new();
    for number in 0..70 {
        let reading = json!({ "topic": "n", "payload_json": number });
        sent.push(host.ask("POST", "/v1/readings", reading).await.done()["id"].clone());
    }
    sent.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = host.get(&format!("/v1/readings?limit=40{cursor}")).await.done();
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
        match &page["next"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    assert_eq!(seen, sent);
    host.end().await;
}

#[tokio::test]
async fn a_dead_letter_is_shown_redriven_and_discarded() {
    let host = Host::start().await;
    host.ask("PUT", "/v1/modules/no", wasm(components::reject())).await.done();
    host.ask("PUT", "/v1/routes/r", json!({ "module": "no" })).await.done();
    let mut tail = host.tail("").await;
    host.ask("POST", "/v1/readings", json!({ "topic": "a", "payload": "x" })).await.done();
    let letter = tail.wait_for("dead-letter").await;
    assert_eq!((&letter["route"], &letter["cause"]), (&json!("r"), &json!("rejected: no such sensor")));
    let path = format!("/v1/dead-letters/{}", letter["id"].as_str().unwrap());
    assert_eq!(host.get(&path).await.done()["reading"]["payload"], "x");
    assert_eq!(host.get("/v1/dead-letters?route=r").await.done()["items"].as_array().unwrap().len(), 1);
    assert_eq!(host.get("/v1/dead-letters?sink=r").await.done()["items"], json!([]));

    assert_eq!(host.ask("POST", &format!("{path}/redrive"), ()).await.done(), json!({ "redriven": 1 }));
    host.ask("POST", &format!("{path}/redrive"), ()).await.problem(404, "not-found");
    let again = tail.wait_for("dead-letter").await;
    assert_eq!(
        host.ask("POST", "/v1/dead-letters/redrive", json!({ "route": "r" })).await.done()["redriven"],
        1
    );
    let again = (again, tail.wait_for("dead-letter").await).1;
    let path = format!("/v1/dead-letters/{}", again["id"].as_str().unwrap());
    assert_eq!(host.ask("DELETE", &path, ()).await.status, 204);
    host.ask("DELETE", &path, ()).await.problem(404, "not-found");
    host.end().await;
}

#[tokio::test]
async fn a_tail_ends_when_the_host_stops() {
    let host = Host::start().await;
    let mut tail = host.tail("").await;
    host.stop.cancel();
    assert!(tail.next().await.is_none());
    host.end().await;
}

#[tokio::test]
async fn a_watcher_that_is_behind_is_told_how_many_it_missed() {
    let host = Host::start().await;
    let mut tail = host.tail("").await;
    let all = (0..1100).map(|_| host.ask("POST", "/v1/readings", json!({ "topic": "a" })));
    assert!(futures::future::join_all(all).await.iter().all(|answer| answer.status == 202));
    let (event, data) = tail.next().await.unwrap();
    assert_eq!(event, "missed");
    assert!(data["count"].as_u64().unwrap() >= 1100 - 1024, "{data}");
    host.end().await;
}
