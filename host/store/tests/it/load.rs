//! Many at once, on a real file and with the committer's own thread.

use std::sync::Arc;

use sandbar_reading::SystemClock;
use sandbar_store::{Committer, Disk, Options, Outcome, Store};

use crate::rig::{accept, delivery, handled, lane, name, scope_of, sink, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_users_share_commits_and_lose_nothing() {
    const USERS: usize = 16;
    const EACH: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let disk = Arc::new(Disk::new(folder.path().join("store")));
        let modules = folder.path().join("modules");
        Store::open(disk, modules, Options::default(), Arc::new(SystemClock), Committer::Thread).unwrap()
    };
    let store = open();
    let user = |n: usize, store: Store| async move {
        let lane = lane("r", &n.to_string());
        for round in 1..=EACH {
            let id = store.accept(accept(&[&lane], "x")).unwrap().committed.await.unwrap().id();
            let waiting = store.waiting(&lane.route, lane.id(), &|_| false, 2, usize::MAX).unwrap();
            assert_eq!(waiting.items.iter().map(|waiting| waiting.reading.id).collect::<Vec<_>>(), [id]);
            let outcome = Outcome {
                deliveries: vec![delivery(&sink("out"), id, "y")],
                state: vec![write("count", &round.to_string())],
                ..handled(&lane, &[id])
            };
            store.settle(outcome).await.unwrap();
        }
    };
    let users: Vec<_> = (0..USERS).map(|n| tokio::spawn(user(n, store.clone()))).collect();
    for user in users {
        user.await.unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.readings, stats.waiting, stats.outbox), (1600, 0, 1600));
    assert!(stats.commits < 3200, "{} commits", stats.commits);
    store.close().await;

    let store = open();
    assert_eq!(store.stats().journal_count, 1600);
    for n in 0..USERS {
        let count = store.state(&scope_of(&lane("r", &n.to_string())), "count").unwrap();
        assert_eq!(count.as_deref(), Some(EACH.to_string().as_bytes()));
    }
    assert_eq!(store.lanes(&name("r"), None, 10).unwrap(), []);
    store.close().await;
}
