use axum::body::Body;
use serde_json::json;

use crate::support::{Asked, Host, with_token};

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_asked_is_said() {
    let host = Host::start().await;
    host.get("/nothing").await.problem(404, "not-found");
    host.get("/v1/nothing").await.problem(404, "not-found");
    host.get("/v1/modules/none").await.problem(404, "not-found");
    host.get("/v1/readings/01ARZ3NDEKTSV4RRFFQ69G5FAV").await.problem(404, "not-found");
    let answer = host.ask("PATCH", "/v1/routes/a", ()).await;
    let allowed = answer.header("allow").to_owned();
    for method in ["GET", "PUT", "DELETE"] {
        assert!(allowed.contains(method), "{allowed}");
    }
    answer.problem(405, "method-not-allowed");
    host.end().await;
}

#[tokio::test]
async fn the_parameter_that_is_wrong_is_named() {
    let host = Host::start().await;
    for (path, parameter) in [
        ("/v1/readings?limit=0", "limit"),
        ("/v1/readings?limit=1001", "limit"),
        ("/v1/readings?limit=ten", "limit"),
        ("/v1/readings?limt=10", "limt"),
        ("/v1/readings?limit=1&limit=2", "limit"),
        ("/v1/readings?topic=a%2F%23%2Fb", "topic"),
        ("/v1/readings?topic=%00", "topic"),
        ("/v1/readings?since=yesterday", "since"),
        ("/v1/readings?cursor=1", "cursor"),
        ("/v1/readings?ingress=Web", "ingress"),
        ("/v1/readings/1", "id"),
        ("/v1/tail?device=", "device"),
        ("/v1/devices?presence=gone", "presence"),
        ("/v1/devices?label=", "label"),
        ("/v1/devices/d1/commands/1", "command"),
        ("/v1/outbox?target=alerts", "target"),
        ("/v1/outbox?cursor=x", "cursor"),
        ("/v1/dead-letters?route=-", "route"),
        ("/v1/modules/A", "name"),
    ] {
        let problem = host.get(path).await.problem(400, "invalid-parameter");
        assert_eq!(problem["setting"], parameter, "{path}: {problem}");
    }
    host.get("/v1/modules/%FF").await.problem(400, "invalid-parameter");
    host.end().await;
}

#[tokio::test]
async fn the_place_in_the_json_is_named() {
    let host = Host::start().await;
    let problem = host.ask("POST", "/v1/readings", "{\n  \"topic\": \"a\",\n  \"x\" }").await;
    let problem = problem.problem(400, "invalid-json");
    assert_eq!((&problem["line"], &problem["column"]), (&json!(3), &json!(7)), "{problem}");
    for (path, body, field) in [
        ("/v1/readings", json!({ "topic": 1 }), "topic"),
        ("/v1/readings", json!({ "topic": "a", "tpic": 1 }), "tpic"),
        ("/v1/readings", json!({ "topic": "a/+" }), "topic"),
        ("/v1/readings", json!({ "topic": "a", "attributes": { "k": 1 } }), "attributes.k"),
        ("/v1/readings", json!({ "topic": "a", "payload": "x", "payload_json": 1 }), "payload"),
        ("/v1/modules/m/activate", json!({ "version": -1 }), "version"),
        ("/v1/modules/m/invoke", json!({ "reading": { "topic": "#" } }), "reading.topic"),
        ("/v1/outbox/retry", json!({ "target": "x" }), "target"),
        ("/v1/dead-letters/redrive", json!({ "sink": "X" }), "sink"),
    ] {
        let problem = host.ask("POST", path, body).await.problem(400, "invalid-json");
        assert_eq!(problem["setting"], field, "{path}: {problem}");
    }
    for (body, setting) in [
        (json!({ "topics": [] }), "topics"),
        (json!({ "topic": ["a/#/b"] }), "topic"),
        (json!({ "limits": { "memory_mib": "x" } }), "limits.memory_mib"),
    ] {
        let problem = host.ask("PUT", "/v1/routes/r", body).await.problem(422, "invalid-config");
        assert!(problem["setting"].as_str().unwrap().starts_with(setting), "{problem}");
    }
    host.ask("PUT", "/v1/sinks/s", json!({ "kind": "no-such" })).await.problem(422, "invalid-config");
    host.ask("PUT", "/v1/ingresses/api", json!({ "driver": "simulator" }))
        .await
        .problem(422, "invalid-config");
    host.end().await;
}

#[tokio::test]
async fn a_body_of_the_wrong_type_or_size_is_refused() {
    let host = Host::start().await;
    let form: Asked = ("application/x-www-form-urlencoded", b"topic=a".to_vec()).into();
    host.ask("POST", "/v1/readings", form).await.problem(415, "unsupported-media-type");
    host.ask("POST", "/v1/readings", ()).await.problem(415, "unsupported-media-type");
    let text: Asked = ("text/html", b"x".to_vec()).into();
    host.ask("PUT", "/v1/modules/m", text).await.problem(415, "unsupported-media-type");
    let large = json!({ "toml": "x".repeat(1 << 20) });
    host.ask("POST", "/v1/config/check", large).await.problem(413, "too-large");
    let large = json!({ "topic": "a", "payload": "x".repeat((16 << 20) + 1) });
    host.ask("POST", "/v1/readings", large).await.problem(413, "too-large");

    // 200 MB are refused by their announcement: this body never ends.
    let endless = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = with_token("PUT", "/v1/modules/m").header("content-length", "200000000").body(endless);
    let answer = host.send(request.unwrap()).await;
    assert_eq!(answer.header("connection"), "close");
    answer.problem(413, "too-large");
    host.end().await;
}

#[tokio::test]
async fn what_the_file_declares_is_changed_there() {
    let host = Host::declaring("[sink.out]\nkind = \"log\"\n[route.all]\nsinks = [\"out\"]\n").await;
    assert_eq!(host.get("/v1/sinks/out").await.done()["declared"], true);
    host.ask("PUT", "/v1/sinks/out", json!({ "kind": "log" })).await.problem(409, "declared-in-file");
    host.ask("DELETE", "/v1/routes/all", ()).await.problem(409, "declared-in-file");
    let wrong = json!({ "toml": "[route.all]\n\ntopc = \"a\"\n" });
    let problem = host.ask("POST", "/v1/config/check", wrong).await.problem(422, "invalid-config");
    assert_eq!((&problem["line"], &problem["setting"]), (&json!(3), &json!("route.all.topc")), "{problem}");
    let planned =
        host.ask("POST", "/v1/config/check", json!({ "toml": "[sink.out]\nkind = \"log\"\n" })).await;
    assert_eq!(planned.done()["removed"], json!(["route/all"]));
    host.ask("POST", "/v1/config/reload", ()).await.done();
    assert_eq!(host.get("/v1/config").await.done()["sink"]["out"]["kind"], "log");
    host.end().await;
}
