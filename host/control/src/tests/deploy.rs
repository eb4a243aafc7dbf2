//! Modules: uploads, versions, roll-backs, trials.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use expect_test::expect;
use sandbar_reading::{ContentType, Inbound, Output};
use sandbar_runtime::test_components;

use super::{Host, name, send};
use crate::tables::{RouteTable, Scalar};
use crate::{ControlError, Trial};

#[tokio::test(flavor = "multi_thread")]
async fn versions_change_under_load_without_losing_or_doubling_a_reading() {
    let host = Host::start("").await;
    host.upload("m", test_components::echo()).await;
    host.upload("m", test_components::counter()).await;
    host.put_sink("out").await;
    host.put_route("r", "m", "out").await;
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|device| {
            let (control, stop) = (host.control.clone(), stop.clone());
            tokio::spawn(async move {
                let mut sent = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    sent.push(send(&control, device, "x").await);
                }
                sent
            })
        })
        .collect();
    for change in 0..20 {
        host.control.activate(name("m"), 1 + change % 2).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut sent = BTreeSet::new();
    for sender in senders {
        sent.extend(sender.await.unwrap());
    }
    host.settled().await;
    let delivered = host.delivered();
    let readings: BTreeSet<_> =
        delivered.iter().map(|line| line["reading"].as_str().unwrap().to_owned()).collect();
    assert!(sent.len() > 20, "{} readings were under way", sent.len());
    assert_eq!(readings, sent);
    assert_eq!(delivered.len(), sent.len());
    assert_eq!(host.handled("r"), sent.len() as u64);
    host.stop().await;
}

#[tokio::test]
async fn the_active_bytes_are_no_new_version_and_other_bytes_are() {
    let host = Host::start("").await;
    assert_eq!(host.upload("m", test_components::echo()).await, 1);
    assert_eq!(host.upload("m", test_components::echo()).await, 1);
    assert_eq!(host.upload("m", test_components::nothing()).await, 2);
    let waiting = host.control.upload(name("m"), test_components::counter().into(), false).await.unwrap();
    assert_eq!((waiting.version.version, waiting.active, waiting.created), (3, false, false));
    let module = host.control.activate(name("m"), 1).await.unwrap();
    assert_eq!((module.active, module.versions.len()), (1, 3));
    let error = host.control.activate(name("m"), 9).await.unwrap_err();
    expect!["there is no module `m, version 9`"].assert_eq(&error.to_string());
    host.stop().await;
}

#[tokio::test]
async fn the_last_ten_versions_are_kept_and_the_bytes_of_no_others() {
    let host = Host::start("").await;
    let wasm = [test_components::echo(), test_components::nothing(), test_components::counter()];
    host.upload("m", test_components::reject()).await;
    for upload in 0..12 {
        host.upload("m", wasm[upload % 3].clone()).await;
    }
    let module = host.control.module("m").unwrap();
    let versions: Vec<_> = module.versions.iter().map(|version| version.version).collect();
    assert_eq!(versions, (4..=13).collect::<Vec<_>>());
    let blobs = std::fs::read_dir(host.dir.path().join("sandbar-data/modules")).unwrap().count();
    assert_eq!(blobs, 3);
    host.stop().await;
}

#[tokio::test]
async fn what_a_route_cannot_work_with_is_not_activated() {
    let host = Host::start("").await;
    host.upload("m", test_components::echo()).await;
    host.put_sink("out").await;
    host.put_route("r", "m", "out").await;
    let refused = host.control.upload(name("m"), test_components::greeting().into(), true).await.unwrap_err();
    assert!(matches!(refused, ControlError::Conflict(_)), "{refused:?}");
    expect!["route `r`: config: the module refuses it: set `greeting`"].assert_eq(&refused.to_string());
    let module = host.control.module("m").unwrap();
    assert_eq!((module.active, module.versions.len()), (1, 1));
    host.send("a", "still here").await;
    host.settled().await;
    assert_eq!(host.delivered()[0]["payload"], "still here");

    // As a version that waits it is welcome; the route that gives it what it wants may have it.
    host.control.upload(name("m"), test_components::greeting().into(), false).await.unwrap();
    let table = serde_json::json!({ "module": "m", "sinks": "out", "config": { "greeting": 1 } });
    host.control.put_route(name("r"), serde_json::from_value(table).unwrap()).await.unwrap();
    host.control.activate(name("m"), 2).await.unwrap();
    host.stop().await;
}

#[tokio::test]
async fn what_is_no_component_is_refused_with_the_reason() {
    let host = Host::start("").await;
    for wasm in [test_components::garbage(), test_components::truncated(), test_components::missing_export()]
    {
        let refused = host.control.upload(name("m"), wasm.into(), true).await.unwrap_err();
        assert!(matches!(refused, ControlError::Component(_)), "{refused:?}");
    }
    let huge = Bytes::from(vec![0; crate::MODULE_MAX_BYTES + 1]);
    let refused = host.control.upload(name("m"), huge, true).await.unwrap_err();
    assert!(matches!(refused, ControlError::TooLarge { .. }), "{refused:?}");
    assert!(host.control.modules().is_empty());
    host.stop().await;
}

#[tokio::test]
async fn what_is_used_is_not_removed() {
    let host = Host::start("").await;
    host.upload("m", test_components::echo()).await;
    host.put_sink("out").await;
    host.put_route("r", "m", "out").await;
    let refused = host.control.remove_module(name("m")).await.unwrap_err();
    expect!["the module `m` is used by route r"].assert_eq(&refused.to_string());
    let refused = host.control.remove_sink(name("out")).await.unwrap_err();
    expect!["the sink `out` is used by route r"].assert_eq(&refused.to_string());
    let unknown = RouteTable { sinks: [name("outt")].into_iter().collect(), ..RouteTable::default() };
    let refused = host.control.put_route(name("s"), unknown).await.unwrap_err();
    expect!["sinks[0]: there is no sink `outt`; did you mean `out`?"].assert_eq(&refused.to_string());
    host.control.remove_route(name("r")).await.unwrap();
    host.control.remove_module(name("m")).await.unwrap();
    host.control.remove_sink(name("out")).await.unwrap();
    let refused = host.control.remove_route(name("r")).await.unwrap_err();
    expect!["there is no route `r`"].assert_eq(&refused.to_string());
    host.stop().await;
}

fn trial(route: Option<&str>) -> Trial {
    let inbound = Inbound::new("t".parse().unwrap(), ContentType::TEXT, "x".into());
    Trial {
        module: name("m"),
        version: None,
        route: route.map(name),
        config: None,
        reading: Inbound { device: Some("a".into()), ..inbound },
    }
}

async fn counted(host: &Host, route: Option<&str>) -> Vec<u8> {
    let tried = host.control.invoke(trial(route)).await.unwrap().result.unwrap();
    assert_eq!(tried.writes.len(), 1);
    match &tried.outputs[..] {
        [Output::Message(message)] => message.payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_trial_sees_the_routes_state_and_commits_nothing() {
    let host = Host::start("").await;
    host.upload("m", test_components::counter()).await;
    host.put_sink("out").await;
    host.put_route("r", "m", "out").await;
    for _ in 0..3 {
        host.send("a", "x").await;
    }
    host.settled().await;
    for _ in 0..2 {
        assert_eq!(counted(&host, Some("r")).await, 4_u64.to_le_bytes());
        assert_eq!(counted(&host, None).await, 1_u64.to_le_bytes());
    }
    assert_eq!((host.delivered().len(), host.handled("r")), (3, 3));
    host.stop().await;
}

#[tokio::test]
async fn a_trial_has_the_configuration_that_it_is_given() {
    let host = Host::start("").await;
    host.upload("m", test_components::greeting()).await;
    let refused = host.control.invoke(trial(None)).await.unwrap().result.unwrap_err();
    assert_eq!(refused.code(), "configure");
    let config = [("greeting".to_owned(), Scalar("hello".to_owned()))].into();
    let tried = host.control.invoke(Trial { config: Some(config), ..trial(None) }).await.unwrap();
    assert_eq!(tried.result.unwrap().outputs.len(), 1);
    host.stop().await;
}
