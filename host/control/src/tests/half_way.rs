//! The store fails in the middle of a change.

use std::sync::Arc;

use sandbar_reading::{Scope, StateWrite};
use sandbar_store::simulated::Simulated;

use super::{name, send, start, until};
use crate::tables::RouteTable;
use crate::{Control, ControlError};

/// For every write that the change needs: the disk fails there.
#[tokio::test]
async fn a_change_that_the_disk_interrupts_is_put_back() {
    let mut put_back = 0;
    for operations in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let disk = Simulated::new(operations);
        let control = Control::start_on(Arc::new(disk.clone()), start(&dir, "")).await.unwrap();
        let table = RouteTable::default();
        control.put_route(name("old"), table.clone()).await.unwrap();
        send(&control, "a", "x").await;
        until(|| control.status().store.waiting == 0).await;

        disk.lose_power_after(operations);
        let changed =
            control.apply(super::declared(dir.path(), "[route.old]\nreply = true\n[route.new]\n")).await;
        let changed = match changed {
            Err(error) => Err(error),
            Ok(_) => control.apply(super::declared(dir.path(), "[route.new]\n")).await,
        };
        disk.restore_power();
        until(|| control.unready().is_empty()).await;
        let done = match changed {
            Ok(_) => true,
            Err(ControlError::Storage(_) | ControlError::DiskFull) => false,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(control.route("old").is_err(), done, "after {operations} operations");
        if !done {
            put_back += 1;
            let before = control.route("old").unwrap().status.counts.handled;
            send(&control, "a", "x").await;
            until(|| control.route("old").unwrap().status.counts.handled > before).await;
        }
        control.stop(super::GRACE).await;
        if done {
            break;
        }
    }
    assert!(put_back > 0);
}

/// It was dropped before the change could fail no more, and the old driver was put back with nothing.
#[tokio::test]
async fn what_a_driver_has_kept_is_there_when_it_is_put_back() {
    let simulated = "[ingress.a]\ndriver = \"simulator\"\ncount = 1\n[route.gone]\n";
    let web = "[ingress.a]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\npaths = [{ path = \"/a\" }]\n";
    let scope = Scope::Ingress(name("a"));
    let mut put_back = 0;
    for operations in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let disk = Simulated::new(operations);
        let start = start(&dir, simulated);
        let control = Control::start_on(Arc::new(disk.clone()), start).await.unwrap();
        let write = StateWrite { name: "k".into(), value: Some("v".into()), expires: None };
        control.inner.store.keep(scope.clone(), vec![write]).await.unwrap();
        disk.lose_power_after(operations);
        let changed = control.apply(super::declared(dir.path(), web)).await;
        disk.restore_power();
        until(|| control.unready().is_empty()).await;
        let is_kept = control.inner.store.state(&scope, "k").unwrap().is_some();
        let is_done = match changed {
            Ok(_) => !is_kept,
            Err(ControlError::Storage(_) | ControlError::DiskFull) => {
                assert!(is_kept, "after {operations} operations");
                put_back += 1;
                false
            }
            Err(other) => panic!("{other:?}"),
        };
        control.stop(super::GRACE).await;
        if is_done {
            break;
        }
    }
    assert!(put_back > 0);
}
