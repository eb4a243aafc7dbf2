//! Live changes of the configuration file.

use std::net::SocketAddr;

use expect_test::expect;
use sandbar_reading::{Scope, StateWrite};
use sandbar_runtime::test_components;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Host, name};
use crate::{ControlError, HIDDEN, IngressState};

const WEB: &str = r#"
[ingress.web]
driver = "webhook"
listen = "127.0.0.1:0"
token = "hunter2"
paths = [{ path = "/in/{device}" }]
[sink.out]
kind = "file"
path = "DIR/out.jsonl"
[module.m]
file = "m.wasm"
[route.r]
module = "m"
sinks = "out"
"#;

async fn with_module(text: &str) -> Host {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.wasm"), test_components::echo()).unwrap();
    Host::start_in(dir, text).await
}

async fn address(host: &Host, ingress: &str) -> SocketAddr {
    let mut found = None;
    super::until(|| {
        if let IngressState::Supervised(status) = host.control.ingress(ingress).unwrap().status {
            found = status.address;
        }
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// One request on a connection that stays open; the status line.
async fn post(connection: &mut TcpStream, body: &str) -> String {
    let request = format!(
        "POST /in/a HTTP/1.1\r\nhost: x\r\nauthorization: Bearer hunter2\r\ncontent-type: text/plain\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = connection.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_unchanged_ingress_keeps_its_connections() {
    let host = with_module(WEB).await;
    let mut connection = TcpStream::connect(address(&host, "web").await).await.unwrap();
    assert_eq!(post(&mut connection, "one").await, "HTTP/1.1 202 Accepted");
    let more =
        "[ingress.sim]\ndriver = \"simulator\"\ncount = 1\n[route.s]\ningress = \"sim\"\nsinks = \"out\"\n";
    std::fs::write(host.dir.path().join("m.wasm"), test_components::counter()).unwrap();
    let applied = host.control.apply(host.declared(&format!("{WEB}{more}"))).await.unwrap();
    let text = |items: &[crate::Item]| items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    expect!["route s, ingress sim"].assert_eq(&text(&applied.added));
    expect!["module m, route r"].assert_eq(&text(&applied.changed));
    assert_eq!(post(&mut connection, "two").await, "HTTP/1.1 202 Accepted");
    // One line each for the two that were sent; the simulated one goes through `r`, `s`, and from `s` through `r`.
    super::until(|| host.delivered().len() == 5).await;
    assert_eq!(host.control.module("m").unwrap().active, 2);

    // Back again: what is gone takes nothing more, the rest goes on.
    let applied = host.control.apply(host.declared(WEB)).await.unwrap();
    expect!["route s, ingress sim"].assert_eq(&text(&applied.removed));
    assert_eq!(post(&mut connection, "three").await, "HTTP/1.1 202 Accepted");
    host.settled().await;
    host.stop().await;
}

#[tokio::test]
async fn a_changed_ingress_runs_as_changed() {
    let host = with_module(WEB).await;
    let before = address(&host, "web").await;
    let changed = WEB.replace("/in/{device}", "/other/{device}");
    host.control.apply(host.declared(&changed)).await.unwrap();
    let after = address(&host, "web").await;
    assert!(TcpStream::connect(before).await.is_err());
    let mut connection = TcpStream::connect(after).await.unwrap();
    assert_eq!(post(&mut connection, "x").await, "HTTP/1.1 404 Not Found");
    host.stop().await;
}

#[tokio::test]
async fn what_cannot_work_changes_nothing_and_names_its_line() {
    let host = with_module(WEB).await;
    let sound = "[route.new]\nsinks = \"out\"\n";
    for (wrong, problem) in [
        (
            "[sink.b]\nkind = \"file\"\npath = \"/\"\n",
            expect!["DIR/sandbar.toml:19: sink.b.path: must name a file"],
        ),
        (
            "[ingress.b]\ndriver = \"webhook\"\npaths = [\n { path = \"/a\" },\n { path = 1 },\n]\n",
            expect![
                "DIR/sandbar.toml:21: ingress.b.paths[1].path: invalid type: integer `1`, expected a string"
            ],
        ),
        (
            "[route.b]\nsinks = [\n  \"out\",\n  \"otu\",\n]\n",
            expect!["DIR/sandbar.toml:20: route.b.sinks[1]: there is no sink `otu`; did you mean `out`?"],
        ),
        (
            "[route.b]\nmodule = \"n\"\n",
            expect!["DIR/sandbar.toml:18: route.b.module: there is no module `n`; did you mean `m`?"],
        ),
        (
            "[module.n]\nfile = \"none.wasm\"\n",
            expect![
                "DIR/sandbar.toml:18: module.n.file: DIR/none.wasm cannot be read: No such file or directory (os error 2)"
            ],
        ),
        (
            "[module.n]\nfile = \"sandbar.toml\"\n",
            expect![[
                r#"DIR/sandbar.toml:18: module.n.file: this is not WebAssembly: it does not begin with `\0asm`"#
            ]],
        ),
    ] {
        let text = format!("{WEB}{sound}{wrong}");
        std::fs::write(host.dir.path().join("sandbar.toml"), &text).unwrap();
        let refused = host.control.apply(host.declared(&text)).await.unwrap_err();
        assert!(matches!(refused, ControlError::Problem(_)), "{refused:?}");
        let refused = refused.to_string().replace(host.dir.path().to_str().unwrap(), "DIR");
        problem.assert_eq(&refused);
        let checked = host.control.check(&host.declared(&text)).await.unwrap_err().to_string();
        assert_eq!(checked.replace(host.dir.path().to_str().unwrap(), "DIR"), refused);
        assert!(host.control.route("new").is_err());
    }
    let module = "[module.g]\nfile = \"g.wasm\"\n[route.g]\nmodule = \"g\"\n\n[route.g.config]\nword = 1\n";
    std::fs::write(host.dir.path().join("g.wasm"), test_components::greeting()).unwrap();
    let refused = host.control.apply(host.declared(&format!("{WEB}{sound}{module}"))).await.unwrap_err();
    let refused = refused.to_string().replace(host.dir.path().to_str().unwrap(), "DIR");
    expect!["DIR/sandbar.toml:22: route.g.config: the module refuses it: set `greeting`"].assert_eq(&refused);
    assert!(host.control.route("new").is_err() && host.control.module("g").is_err());
    host.stop().await;
}

#[tokio::test]
async fn what_the_file_declares_cannot_be_changed_through_the_api() {
    let host = with_module(WEB).await;
    let refusals = [
        host.control.remove_route(name("r")).await.unwrap_err(),
        host.control.remove_sink(name("out")).await.unwrap_err(),
        host.control.remove_ingress(name("web")).await.unwrap_err(),
        host.control.activate(name("m"), 1).await.unwrap_err(),
        host.control.upload(name("m"), test_components::nothing().into(), true).await.unwrap_err(),
    ];
    for refused in refusals {
        assert!(matches!(refused, ControlError::Declared { .. }), "{refused:?}");
    }
    host.stop().await;
}

#[tokio::test]
async fn what_routes_of_the_api_use_cannot_leave_the_file() {
    let host = with_module(WEB).await;
    host.put_route("mine", "m", "out").await;
    let refused = host.control.apply(host.declared("")).await.unwrap_err();
    expect!["the module `m` is used by route mine"].assert_eq(&refused.to_string());
    assert!(host.control.route("r").is_ok());
    host.stop().await;
}

#[tokio::test]
async fn secrets_are_not_shown_and_what_is_shown_is_not_taken_for_one() {
    let host = with_module(WEB).await;
    let shown = host.control.ingress("web").unwrap().table;
    assert_eq!(shown["token"], HIDDEN);
    let config = host.control.config().to_string();
    assert!(!config.contains("hunter2") && !config.contains(host.control.token()), "{config}");
    let refused =
        host.control.put_ingress(name("web2"), serde_json::from_value(shown).unwrap()).await.unwrap_err();
    expect!["token: this stands for a secret that is not shown: send the secret itself"]
        .assert_eq(&refused.to_string());
    host.stop().await;
}

#[tokio::test]
async fn how_devices_are_kept_changes_at_once() {
    let host = Host::start("[devices]\nmax = 1\n").await;
    host.send("a", "x").await;
    super::until(|| host.control.device_counts().known == 1).await;
    host.send("b", "x").await;
    super::until(|| host.control.device_counts().unlisted == 1).await;
    let more = host.control.apply(host.declared("[devices]\nmax = 2\n")).await.unwrap();
    assert!(more.at_next_start.is_empty(), "{more:?}");
    host.send("b", "x").await;
    super::until(|| host.control.device_counts().known == 2).await;
    assert_eq!(host.control.device_counts().lost, 0);
    host.control.apply(host.declared("[devices]\nsilence_s = 1\n")).await.unwrap();
    super::until(|| host.control.device_counts().lost == 2).await;
    host.stop().await;
}

#[tokio::test]
async fn the_hosts_own_settings_wait_for_the_next_start() {
    let host = with_module(WEB).await;
    let text = format!("[host]\ndepth_max = 3\n[api]\nlisten = \"127.0.0.1:1\"\n{WEB}");
    let applied = host.control.apply(host.declared(&text)).await.unwrap();
    assert_eq!(applied.at_next_start, ["host.depth_max", "api.listen"]);
    assert!(applied.added.is_empty() && applied.changed.is_empty() && applied.removed.is_empty());
    host.stop().await;
}

/// It was never dropped, and whatever driver came next under the name found it.
#[tokio::test]
async fn what_a_driver_has_kept_waits_for_its_ingress_to_come_back_and_not_for_another_driver() {
    let simulated = "[ingress.a]\ndriver = \"simulator\"\ncount = 1\n";
    let web = "[ingress.a]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\npaths = [{ path = \"/a\" }]\n";
    let scope = Scope::Ingress(name("a"));
    let keep = async |host: &Host| {
        let write = StateWrite { name: "k".into(), value: Some("v".into()), expires: None };
        host.control.inner.store.keep(scope.clone(), vec![write]).await.unwrap();
    };
    let is_kept = |host: &Host| host.control.inner.store.state(&scope, "k").unwrap().is_some();
    let host = Host::start(simulated).await;
    keep(&host).await;
    for text in ["", simulated] {
        host.control.apply(host.declared(text)).await.unwrap();
        assert!(is_kept(&host), "{text}");
    }
    host.control.apply(host.declared(web)).await.unwrap();
    assert!(!is_kept(&host));

    keep(&host).await;
    let host = host.restart("").await.restart(web).await;
    assert!(is_kept(&host));
    let host = host.restart(simulated).await;
    assert!(!is_kept(&host));
    host.stop().await;
}
