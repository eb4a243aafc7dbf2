//! Who is there, who left, who is lost.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::json;

use super::{Robot, ask, changes, device, host, until, until_presence};

#[tokio::test]
async fn a_device_comes_and_goes_with_its_connections() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let mut one = Robot::connect(&host, "r1").await?;
    one.say(r#"{"speed":3,"battery":71.5}"#).await?;
    let known = until(&host, "r1", |device| device["resources"]["speed"]["value"] == 3).await?;
    assert_eq!((&known["presence"], &known["reached_by"]), (&json!("online"), &json!("robots")));
    assert_eq!(known["ingresses"], json!(["robots"]));
    let listed = host.all("/v1/connections").await?;
    assert_eq!(
        (listed.len(), &listed[0]["device"], &listed[0]["received"]["messages"]),
        (1, &json!("r1"), &json!(1))
    );

    let connection = &listed[0];
    assert!(connection["remote"].is_string() && connection["created"].is_string(), "{connection}");
    assert!(connection["received"]["last"].is_string() && connection["sent"]["last"].is_null());
    assert_eq!(connection["received"]["bytes"], r#"{"speed":3,"battery":71.5}"#.len());
    let mut readings = host.all("/v1/devices/r1/readings").await?;
    readings.retain(|reading| reading["ingress"] == "robots");
    assert_eq!((readings.len(), &readings[0]["payload_json"]["speed"]), (1, &json!(3)));

    // Two connections of one device: closing one does not unlist the other.
    let two = Robot::connect(&host, "r1").await?;
    one.cut()?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let known = device(&host, "r1").await?;
    assert_eq!((&known["presence"], &known["reached_by"]), (&json!("online"), &json!("robots")));
    assert_eq!(host.all("/v1/connections").await?.len(), 1);
    two.close().await?;
    until_presence(&host, "r1", "offline").await?;

    let three = Robot::connect(&host, "r1").await?;
    until_presence(&host, "r1", "online").await?;
    // What is undone at once is not told.
    tokio::time::sleep(Duration::from_millis(300)).await;
    three.cut()?;
    let lost = until_presence(&host, "r1", "lost").await?;
    assert_eq!(lost["first_seen"], known["first_seen"], "it is the same device");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let expected = [("-", "online"), ("online", "offline"), ("offline", "online"), ("online", "lost")];
    let expected = expected.map(|(was, is)| (was.to_owned(), is.to_owned()));
    assert_eq!(changes(&host, "r1").await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_device_that_falls_silent_is_lost_on_time_and_not_added_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let address = host.ingress("meters").await?;
    let send = || host.http.post(format!("{address}/meters/m1")).json(&json!({ "kwh": 1 })).send();
    let begun = Instant::now();
    ensure!(send().await?.status().is_success());
    let first = until_presence(&host, "m1", "online").await?;
    until_presence(&host, "m1", "lost").await?;
    let took = begun.elapsed();
    ensure!(took.as_secs_f64() >= 2.0, "lost after {took:?}, not after 2 s");
    for _ in 0..3 {
        ensure!(send().await?.status().is_success());
    }
    let again = until_presence(&host, "m1", "online").await?;
    assert_eq!(again["first_seen"], first["first_seen"]);
    assert_eq!(host.all("/v1/devices").await?.len(), 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(changes(&host, "m1").await?.len(), 3, "three words, one arrival");
    Ok(())
}

#[tokio::test]
async fn what_a_person_says_of_a_device_stays_and_finds_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let body = json!({ "name": "Robbie", "type": "mayfly", "labels": { "room": "cellar" } });
    let (status, _) = ask(&host, Method::PUT, "/v1/devices/r1", &body).await?;
    assert_eq!(status, 201);
    let silent = Robot::connect(&host, "r1").await?;
    until_presence(&host, "r1", "online").await?;
    // Its type's silence counts also while it is connected.
    until_presence(&host, "r1", "lost").await?;
    let _other = Robot::connect(&host, "r2").await?;
    until_presence(&host, "r2", "online").await?;
    for (query, count) in [
        ("label=room:cellar", 1),
        ("label=room", 1),
        ("label=room:attic", 0),
        ("type=mayfly&presence=lost", 1),
        ("presence=online", 1),
        ("presence=offline", 0),
    ] {
        assert_eq!(host.all(&format!("/v1/devices?{query}")).await?.len(), count, "{query}");
    }
    let page = host.get("/v1/devices?limit=1").await?;
    assert_eq!((&page["items"][0]["id"], &page["next"]), (&json!("r1"), &json!("r1")));
    let (status, problem) = ask(&host, Method::DELETE, "/v1/devices/r1", &json!({})).await?;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")), "it is connected");
    drop(silent);
    host.terminate().await?;
    let host = super::host(folder.path()).await?;
    let kept = device(&host, "r1").await?;
    assert_eq!(
        (&kept["name"], &kept["labels"]["room"], &kept["presence"]),
        (&json!("Robbie"), &json!("cellar"), &json!("lost"))
    );
    assert_eq!(device(&host, "r2").await?["presence"], "online", "the host went, not the device");
    let (status, _) = ask(&host, Method::DELETE, "/v1/devices/r1", &json!({})).await?;
    assert_eq!(status, 204);
    assert_eq!(host.all("/v1/devices").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_was_journaled_before_a_crash_is_known_after_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let address = host.ingress("meters").await?;
    for number in 0..50 {
        let url = format!("{address}/meters/m{number}");
        ensure!(host.http.post(url).json(&json!({ "kwh": number })).send().await?.status().is_success());
    }
    // At once: nothing of the last values is in the registry's rows.
    host.kill();
    let host = super::host(folder.path()).await?;
    let known = until(&host, "m49", |device| device["resources"]["kwh"]["value"] == 49).await?;
    assert_eq!(known["ingresses"], json!(["meters"]));
    assert_eq!(host.all("/v1/devices").await?.len(), 50);
    Ok(())
}

/// 1,000 devices come and go; the registry ends up exact. `SANDBAR_FLAP_S` makes it longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_devices_that_flap_leave_the_registry_exact() -> Result<()> {
    const DEVICES: usize = 1000;
    let seconds = std::env::var("SANDBAR_FLAP_S").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let address = host.ingress("robots").await?.replace("http://", "");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..DEVICES {
        let address = address.clone();
        tasks.spawn(async move {
            let id = format!("r{number:04}");
            let mut rounds = 0;
            loop {
                let mut robot = Robot::connect_to(&address, &id).await?;
                rounds += 1;
                robot.say(&format!("{{\"round\":{rounds}}}")).await?;
                tokio::time::sleep(Duration::from_millis(300 + (number as u64 * 37) % 700)).await;
                if Instant::now() >= end {
                    // A third each stays, leaves and is cut off.
                    return match number % 3 {
                        0 => Ok((number, rounds, Some(robot))),
                        1 => robot.close().await.map(|()| (number, rounds, None)),
                        _ => robot.cut().map(|()| (number, rounds, None)),
                    };
                }
                match (number + rounds) % 2 {
                    0 => robot.close().await?,
                    _ => robot.cut()?,
                }
            }
        });
    }
    let (mut staying, mut rounds_of) = (Vec::new(), vec![0; DEVICES]);
    while let Some(ended) = tasks.join_next().await {
        let (number, rounds, robot): (usize, usize, Option<Robot>) =
            ended?.map_err(|error: anyhow::Error| error)?;
        rounds_of[number] = rounds;
        staying.extend(robot);
    }
    let mut wrong = Vec::new();
    for _ in 0..100 {
        let devices = host.all("/v1/devices").await?;
        assert_eq!(devices.len(), DEVICES);
        let expected = |number: usize| ["online", "offline", "lost"][number % 3];
        let differs =
            |(number, device): &(usize, &serde_json::Value)| device["presence"] != expected(*number);
        wrong = devices.iter().enumerate().filter(differs).map(|(_, device)| device.to_string()).collect();
        if wrong.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(wrong.is_empty(), "{} are wrong: {:?}", wrong.len(), wrong.first());
    assert_eq!(host.all("/v1/connections").await?.len(), staying.len());
    let status = host.get("/v1/status").await?;
    assert_eq!((&status["devices"]["online"], &status["devices"]["unlisted"]), (&json!(334), &json!(0)));
    for number in [0, 1, 500, 999] {
        let rounds = rounds_of[number];
        until(&host, &format!("r{number:04}"), |device| device["resources"]["round"]["value"] == rounds)
            .await?;
    }
    Ok(())
}

/// The first event of this kind whose data is as wanted. Others stay in `text`: they may be asked for next.
async fn event(
    stream: &mut reqwest::Response,
    text: &mut String,
    kind: &str,
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> Result<serde_json::Value> {
    let mut passed_over = String::new();
    let reading = async {
        loop {
            while let Some((event, rest)) = text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                *text = rest;
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                let data = serde_json::from_str(field("data: ")).unwrap_or_default();
                if field("event: ") == kind && wanted(&data) {
                    text.insert_str(0, &passed_over);
                    return Ok(data);
                }
                passed_over.push_str(&event);
                passed_over.push_str("\n\n");
            }
            let chunk = stream.chunk().await?.ok_or_else(|| anyhow::anyhow!("the stream ended"))?;
            text.push_str(std::str::from_utf8(&chunk)?);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await?
}

#[tokio::test]
async fn devices_connections_and_the_status_are_told_live() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let watch = |what: &str| host.request(Method::GET, &format!("/v1/tail/{what}")).send();
    let (mut devices, mut connections) = (watch("devices").await?, watch("connections").await?);
    let mut status = watch("status").await?;
    let (mut of_devices, mut of_connections, mut of_status) = <(String, String, String)>::default();
    let mut robot = Robot::connect(&host, "r1").await?;
    robot.say(r#"{"speed":3}"#).await?;
    event(&mut devices, &mut of_devices, "device", |device| device["presence"] == "online").await?;
    let reported = event(&mut devices, &mut of_devices, "resources", |_| true).await?;
    assert_eq!((&reported["device"], &reported["resources"]["speed"]["value"]), (&json!("r1"), &json!(3)));
    let opened = event(&mut connections, &mut of_connections, "opened", |_| true).await?;
    assert_eq!(opened["device"], "r1");
    let counted = |status: &serde_json::Value| status["traffic"]["received"]["messages"] == 1;
    let told = event(&mut status, &mut of_status, "status", counted).await?;
    assert_eq!((&told["devices"]["online"], &told["connections"]), (&json!(1), &json!(1)));
    robot.close().await?;
    let closed = event(&mut connections, &mut of_connections, "closed", |_| true).await?;
    assert_eq!((&closed["id"], &closed["received"]["messages"]), (&opened["id"], &json!(1)));
    event(&mut devices, &mut of_devices, "device", |device| device["presence"] == "offline").await?;
    assert_eq!(host.terminate().await?, Some(0), "who watches does not hold the stop up");
    Ok(())
}
