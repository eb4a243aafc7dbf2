use serde_json::json;

use super::*;

#[tokio::test]
async fn the_whole_file_comes_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let (host, path) = (StandIn::new(), folder.path().join("data.txt"));
    let settings =
        json!({ "mode": "interval", "path": path, "interval_ms": 40, "content_type": "text/plain" });
    let ingress = supervise::<Files>(settings, &host);
    let lost = crate::contract::in_time(ingress.wait_for(|status| status.last_error.is_some())).await;
    assert!(lost.last_error.unwrap().text.contains("data.txt"));
    std::fs::write(&path, "1").unwrap();
    let taken = crate::contract::in_time(host.wait_taken(3)).await;
    assert_eq!(texts(&taken)[..3], vec![("interval".to_owned(), "1".to_owned()); 3]);
    std::fs::write(&path, "2").unwrap();
    until("the new content", || payloads(&host.taken()).contains(&"2".to_owned())).await;
    assert_eq!(taken[0].inbound.topic.as_str(), "files/data.txt");
}

#[tokio::test]
async fn one_that_is_removed_may_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let (host, path) = (StandIn::new(), folder.path().join("data.txt"));
    let settings = json!({ "mode": "interval", "path": path, "interval_ms": 40, "remove_all_files": true });
    let ingress = supervise::<Files>(settings, &host);
    for count in 1..=3 {
        std::fs::write(folder.path().join("part"), count.to_string()).unwrap();
        std::fs::rename(folder.path().join("part"), &path).unwrap();
        until("it is read and removed", || !path.exists()).await;
        assert_eq!(host.taken().len(), count);
    }
    assert_eq!(ingress.status().last_error, None);
}

#[tokio::test]
async fn one_that_is_too_large_stops_nothing() {
    let running = {
        let (folder, host) = (tempfile::tempdir().unwrap(), StandIn::with_reading_max(10));
        std::fs::write(folder.path().join("a"), "12345678901").unwrap();
        let settings = json!({ "mode": "interval", "path": folder.path().join("a"), "interval_ms": 30 });
        let ingress = supervise::<Files>(settings.clone(), &host);
        running(&ingress).await;
        Running { folder, host, settings, ingress }
    };
    running.write("a", "1");
    assert_eq!(payloads(&running.taken(1).await)[0], "1");
}
