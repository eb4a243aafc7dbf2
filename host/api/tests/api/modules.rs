use axum::body::Body;
use sandbar_runtime::test_components as components;
use serde_json::json;

use crate::support::{Host, wasm, with_token};

#[tokio::test]
async fn versions_come_go_back_and_are_kept_while_they_are_used() {
    let host = Host::start().await;
    let first = host.ask("PUT", "/v1/modules/m", wasm(components::echo())).await.done();
    let same = host.ask("PUT", "/v1/modules/m", wasm(components::echo())).await;
    assert_eq!((same.status.as_u16(), &same.json()["version"]), (200, &first["version"]));
    let request = with_token("PUT", "/v1/modules/m").header("sandbar-activate", "false");
    let kept = host.send(request.body(Body::from(components::nothing())).unwrap()).await.done();
    assert_eq!((&kept["version"], &kept["active"]), (&json!(2), &json!(false)));
    let activated = host.ask("POST", "/v1/modules/m/activate", json!({ "version": 2 })).await.done();
    assert_eq!((&activated["active"], activated["versions"].as_array().unwrap().len()), (&json!(2), 2));
    host.ask("POST", "/v1/modules/m/activate", json!({ "version": 9 })).await.problem(404, "not-found");

    host.ask("PUT", "/v1/routes/r", json!({ "module": "m" })).await.done();
    let problem = host.ask("DELETE", "/v1/modules/m", ()).await.problem(409, "in-use");
    assert_eq!(problem["used_by"].as_array().unwrap().len(), 1, "{problem}");
    assert_eq!(host.ask("DELETE", "/v1/routes/r", ()).await.status, 204);
    assert_eq!(host.ask("DELETE", "/v1/modules/m", ()).await.status, 204);
    assert_eq!(host.get("/v1/modules").await.done()["items"], json!([]));
    host.end().await;
}

#[tokio::test]
async fn bytes_that_are_no_component_are_refused() {
    let host = Host::start().await;
    host.ask("PUT", "/v1/modules/m", wasm(b"garbage".to_vec())).await.problem(422, "invalid-component");
    host.ask("PUT", "/v1/modules/m", wasm(Vec::new())).await.problem(422, "invalid-component");
    let request = with_token("PUT", "/v1/modules/m").header("sandbar-activate", "perhaps");
    let problem = host.send(request.body(Body::empty()).unwrap()).await.problem(400, "invalid-parameter");
    assert_eq!(problem["setting"], "Sandbar-Activate");
    host.end().await;
}

#[tokio::test]
async fn a_trial_shows_what_would_be_put_out_and_keeps_nothing() {
    let host = Host::start().await;
    host.ask("PUT", "/v1/modules/count", wasm(components::counter())).await.done();
    let trial = json!({ "reading": { "topic": "a/b", "payload": "x" } });
    let tried = host.ask("POST", "/v1/modules/count/invoke", trial.clone()).await.done();
    assert_eq!(
        (&tried["outputs"][0]["kind"], &tried["state"][0]["name"]),
        (&json!("message"), &json!("count"))
    );
    let again = host.ask("POST", "/v1/modules/count/invoke", trial.clone()).await.done();
    assert_eq!(tried["outputs"], again["outputs"]);
    assert_eq!(host.get("/v1/readings").await.done()["items"], json!([]));

    host.ask("PUT", "/v1/modules/trap", wasm(components::trap())).await.done();
    let tried = host.ask("POST", "/v1/modules/trap/invoke", trial.clone()).await.done();
    assert_eq!(tried["fault"]["code"], "trap", "{tried}");
    assert!(tried.get("outputs").is_none());
    host.ask("PUT", "/v1/modules/both", wasm(components::reply_and_command())).await.done();
    let tried = host.ask("POST", "/v1/modules/both/invoke", trial).await.done();
    assert_eq!(
        (&tried["outputs"][0]["kind"], &tried["outputs"][1]["kind"]),
        (&json!("reply"), &json!("command"))
    );
    assert_eq!(tried["outputs"][1]["device"], "lamp");
    host.end().await;
}
