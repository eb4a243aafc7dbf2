//! Commands, queries and desired values.

use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::Method;
use sandbar_mqtt_client::codec::{Ack, AckKind, Filter, Subscribe};
use sandbar_mqtt_client::{Link, Packet, Publish, Qos, Session};
use sandbar_tests::eventually;
use sandbar_tests::host::Host;
use sandbar_tests::publisher::{KEPT, broker};
use serde_json::{Value, json};

use super::{CONFIG, Robot, ask, host, host_with, until, until_presence};

async fn order(host: &Host, id: &str, body: Value) -> Result<(u16, Value)> {
    ask(host, Method::POST, &format!("/v1/devices/{id}/commands"), &body).await
}

async fn state(host: &Host, id: &str, command: &Value) -> Result<String> {
    let command = command["id"].as_str().unwrap_or_default();
    let command = host.get(&format!("/v1/devices/{id}/commands/{command}")).await?;
    Ok(command["state"].as_str().unwrap_or_default().to_owned())
}

async fn until_state(host: &Host, id: &str, command: &Value, wanted: &str) -> Result<()> {
    let mut last = String::new();
    for _ in 0..250 {
        last = state(host, id, command).await?;
        if last == wanted {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("it is {last}, not {wanted}")
}

#[tokio::test]
async fn a_command_for_a_device_that_is_away_survives_a_crash_and_arrives_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let first = host(folder.path()).await?;
    Robot::connect(&first, "r1").await?.close().await?;
    until_presence(&first, "r1", "offline").await?;
    let (status, command) = order(&first, "r1", json!({ "name": "turn", "payload": { "left": 90 } })).await?;
    assert_eq!((status, &command["state"]), (202, &json!("queued")));
    first.kill();
    let host = host(folder.path()).await?;
    assert_eq!(state(&host, "r1", &command).await?, "queued");
    let mut robot = Robot::connect(&host, "r1").await?;
    assert_eq!(robot.hear().await?, r#"{"left":90}"#);
    robot.hears_nothing().await?;
    until_state(&host, "r1", &command, "acknowledged").await?;
    robot.close().await?;
    let mut again = Robot::connect(&host, "r1").await?;
    again.hears_nothing().await?;
    Ok(())
}

#[tokio::test]
async fn a_handlers_command_takes_the_same_path() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = "function handle(reading) { return [command('r1', 'turn', { left: json(reading).kwh })]; }";
    std::fs::write(folder.path().join("turn.js"), script)?;
    let config = format!(
        "{CONFIG}[module.turn]\nfile = \"turn.js\"\n[route.turn]\ningress = \"meters\"\nmodule = \"turn\"\n"
    );
    let host = host_with(folder.path(), &config).await?;
    Robot::connect(&host, "r1").await?.close().await?;
    until_presence(&host, "r1", "offline").await?;
    let address = host.ingress("meters").await?;
    let sent = host.http.post(format!("{address}/meters/m1")).json(&json!({ "kwh": 90 })).send().await?;
    ensure!(sent.status().is_success());
    let commands = || async { host.all("/v1/devices/r1/commands").await.unwrap_or_default() };
    eventually("it waits for the robot", 20, || async { commands().await.len() == 1 }).await;
    let command = commands().await.remove(0);
    assert_eq!(
        (&command["name"], &command["state"], &command["route"]),
        (&json!("turn"), &json!("queued"), &json!("turn"))
    );
    let mut robot = Robot::connect(&host, "r1").await?;
    assert_eq!(robot.hear().await?, r#"{"left":90}"#);
    until_state(&host, "r1", &command, "acknowledged").await
}

/// The message is what was posted about the device.
async fn post(host: &Host, id: &str, body: &'static str) -> Result<()> {
    let address = host.ingress("orders").await?;
    let sent =
        host.http.post(format!("{address}/orders/{id}")).header("content-type", "text/plain").body(body);
    ensure!(sent.send().await?.status().is_success());
    Ok(())
}

#[tokio::test]
async fn a_sinks_command_waits_with_its_device_survives_a_crash_and_keeps_no_other_waiting() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = format!(
        "{CONFIG}[ingress.orders]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\n\
         paths = [{{ path = \"/orders/{{device}}\" }}]\n\
         [sink.robots]\nkind = \"device\"\nname = \"turn\"\nwaiting_max = 2\n\
         [route.orders]\ningress = \"orders\"\nsinks = [\"robots\"]\n"
    );
    let first = host_with(folder.path(), &config).await?;
    let mut present = Robot::connect(&first, "r2").await?;
    post(&first, "r1", "left").await?;
    post(&first, "r2", "right").await?;
    assert_eq!(present.hear().await?, "right");
    let commands = || async { first.all("/v1/devices/r1/commands").await.unwrap_or_default() };
    post(&first, "r1", "back").await?;
    eventually("both wait for the robot", 20, || async { commands().await.len() == 2 }).await;
    let waiting = commands().await;
    for command in &waiting {
        assert_eq!(
            (&command["name"], &command["state"], &command["route"]),
            (&json!("turn"), &json!("queued"), &json!("orders"))
        );
    }
    post(&first, "r1", "never").await?;
    eventually("one more is a dead letter that says why", 20, || async {
        let letters = first.all("/v1/dead-letters").await.unwrap_or_default();
        letters.len() == 1 && letters[0].to_string().contains("2 commands wait for the device `r1` already")
    })
    .await;
    let newest = format!("/v1/devices/r1/commands/{}", waiting[0]["id"].as_str().unwrap_or_default());
    let (status, cancelled) = ask(&first, Method::DELETE, &newest, &json!({})).await?;
    assert_eq!((status, &cancelled["state"]), (200, &json!("cancelled")));
    first.kill();
    let host = host_with(folder.path(), &config).await?;
    let mut robot = Robot::connect(&host, "r1").await?;
    assert_eq!(robot.hear().await?, "left");
    robot.hears_nothing().await?;
    until_state(&host, "r1", &waiting[1], "acknowledged").await?;
    ensure!(host.all("/v1/outbox").await?.is_empty());
    Ok(())
}

/// A device with MQTT takes a command and says nothing of it.
#[tokio::test]
async fn a_command_that_was_sent_is_known_to_be_and_is_sent_again_after_a_crash() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = format!(
        "[api]\nlisten = \"127.0.0.1:0\"\n[ingress.broker]\ndriver = \"mqtt\"\nlisten = \"127.0.0.1:{port}\"\n\
         command_topic = \"to/{{device}}/{{command}}\"\n"
    );
    let first = host_with(folder.path(), &config).await?;
    first.ingress("broker").await?;
    let mut lamp = Lamp::connect(port).await?;
    let (_, command) = order(&first, "lamp", json!({ "name": "led", "payload": "on" })).await?;
    let sent = lamp.hear().await?;
    assert_eq!((&*sent.topic, &sent.payload[..]), ("to/lamp/led", &b"on"[..]));
    let path = format!("/v1/devices/lamp/commands/{}", command["id"].as_str().unwrap_or_default());
    eventually("it is written that it is sent", 10, || async {
        let now = first.get(&path).await.unwrap_or_default();
        now["state"] == "sent" && now["changed"] != command["changed"]
    })
    .await;
    let (status, _) = ask(&first, Method::DELETE, &path, &json!({})).await?;
    assert_eq!(status, 409, "it is on its way");
    first.kill();
    let host = host_with(folder.path(), &config).await?;
    host.ingress("broker").await?;
    assert_eq!(state(&host, "lamp", &command).await?, "sent");
    let mut lamp = Lamp::connect(port).await?;
    let sent = lamp.hear().await?;
    lamp.take(&sent);
    // Whatever is said is written while it listens.
    let acknowledged = until_state(&host, "lamp", &command, "acknowledged");
    tokio::select! {
        acknowledged = acknowledged => acknowledged,
        more = lamp.hear() => anyhow::bail!("it is told again: {more:?}"),
    }
}

/// A client that says what the test says.
struct Lamp(Link);

impl Lamp {
    async fn connect(port: u16) -> Result<Self> {
        let session = Session { clean_start: true, expiry_s: 0, ..KEPT };
        let (mut link, _) = Link::open(&broker(port, "lamp", "5"), session).await?;
        let filters = vec![Filter::new("to/lamp/+", Qos::AtLeastOnce)];
        link.send(&Packet::Subscribe(Subscribe { packet_id: 1, filters }));
        let Packet::SubAck(_) = link.next().await? else { anyhow::bail!("no SUBACK") };
        Ok(Self(link))
    }

    async fn hear(&mut self) -> Result<Publish> {
        match tokio::time::timeout(Duration::from_secs(20), self.0.next()).await?? {
            Packet::Publish(publish) => Ok(publish),
            other => anyhow::bail!("{other:?}"),
        }
    }

    fn take(&mut self, publish: &Publish) {
        self.0.send(&Packet::Ack(Ack::new(AckKind::PubAck, publish.packet_id)));
    }
}

#[tokio::test]
async fn a_command_expires_is_cancelled_or_refused_when_it_should_be() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let (status, problem) = order(&host, "nobody", json!({ "name": "turn" })).await?;
    assert_eq!((status, &problem["code"]), (404, &json!("not-found")));
    Robot::connect(&host, "r1").await?.close().await?;
    until_presence(&host, "r1", "offline").await?;
    let (_, late) = order(&host, "r1", json!({ "name": "turn", "payload": "late", "timeout": 0.3 })).await?;
    let (_, kept) = order(&host, "r1", json!({ "name": "turn", "payload": "kept" })).await?;
    let (_, gone) = order(&host, "r1", json!({ "name": "turn", "payload": "gone" })).await?;
    let refuse = json!({ "name": "turn", "when_offline": "refuse" });
    let (status, problem) = order(&host, "r1", refuse).await?;
    assert_eq!((status, &problem["code"]), (409, &json!("unreachable")));
    let path = format!("/v1/devices/r1/commands/{}", gone["id"].as_str().unwrap_or_default());
    let (status, cancelled) = ask(&host, Method::DELETE, &path, &json!({})).await?;
    assert_eq!((status, &cancelled["state"]), (200, &json!("cancelled")));
    let (status, _) = ask(&host, Method::DELETE, &path, &json!({})).await?;
    assert_eq!(status, 409, "it has ended");
    until_state(&host, "r1", &late, "expired").await?;
    let mut robot = Robot::connect(&host, "r1").await?;
    assert_eq!(robot.hear().await?, "kept");
    robot.hears_nothing().await?;
    until_state(&host, "r1", &kept, "acknowledged").await?;
    let commands = host.all("/v1/devices/r1/commands").await?;
    let states: Vec<_> = commands.iter().filter_map(|command| command["state"].as_str()).collect();
    assert_eq!(states, ["cancelled", "acknowledged", "expired"], "newest first");
    Ok(())
}

#[tokio::test]
async fn a_query_waits_for_the_devices_answer() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let query = json!({ "name": "state", "payload": { "what": "battery" }, "mode": "query", "timeout": 1.0 });
    assert_eq!(order(&host, "r1", query.clone()).await?.0, 404);
    let mut robot = Robot::connect(&host, "r1").await?;
    until_presence(&host, "r1", "online").await?;
    robot.say("not an answer").await?;
    let answering = async {
        let asked = robot.hear().await?;
        robot.say(r#"{"battery":71.5}"#).await?;
        Ok::<_, anyhow::Error>(asked)
    };
    let (asked, answer) = tokio::join!(answering, order(&host, "r1", query.clone()));
    assert_eq!(asked?, r#"{"what":"battery"}"#);
    let (status, answer) = answer?;
    assert_eq!((status, &answer["state"]), (200, &json!("acknowledged")));
    assert_eq!(answer["answer"]["payload_json"], json!({ "battery": 71.5 }));
    // The answer is a reading like any other.
    until(&host, "r1", |device| device["resources"]["battery"]["value"] == 71.5).await?;
    let (silence, late) = tokio::join!(robot.hear(), order(&host, "r1", query.clone()));
    silence?;
    let (status, problem) = late?;
    assert_eq!((status, &problem["code"]), (408, &json!("unanswered")));
    let commands = host.all("/v1/devices/r1/commands").await?;
    assert_eq!((&commands[0]["state"], &commands[0]["mode"]), (&json!("expired"), &json!("query")));
    robot.close().await?;
    until_presence(&host, "r1", "offline").await?;
    let (status, problem) = order(&host, "r1", query).await?;
    assert_eq!((status, &problem["code"]), (409, &json!("unreachable")));
    Ok(())
}

#[tokio::test]
async fn a_desired_value_is_commanded_until_it_is_reported() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path()).await?;
    let mut robot = Robot::connect(&host, "r1").await?;
    robot.say(r#"{"led":0}"#).await?;
    until(&host, "r1", |device| device["resources"]["led"]["value"] == 0).await?;
    let desire = |value: Value| {
        let host = &host;
        async move { ask(host, Method::PUT, "/v1/devices/r1/desired/led", &json!({ "value": value })).await }
    };
    let (status, device) = desire(json!(1)).await?;
    assert_eq!((status, &device["desired"]["led"]["reached"]), (200, &json!(false)));
    assert_eq!(robot.hear().await?, "1");
    // It took the command and did nothing: the next arrival tells it again.
    robot.close().await?;
    let mut robot = Robot::connect(&host, "r1").await?;
    assert_eq!(robot.hear().await?, "1");
    robot.say(r#"{"led":"1"}"#).await?;
    until(&host, "r1", |device| device["desired"]["led"]["reached"] == true).await?;
    robot.close().await?;
    let mut robot = Robot::connect(&host, "r1").await?;
    robot.hears_nothing().await?;
    robot.close().await?;
    // It comes back, and has forgotten.
    let mut robot = Robot::connect(&host, "r1").await?;
    robot.say(r#"{"led":0}"#).await?;
    assert_eq!(robot.hear().await?, "1");
    robot.say(r#"{"led":0}"#).await?;
    robot.hears_nothing().await?;
    robot.close().await?;
    until_presence(&host, "r1", "offline").await?;
    // Said twice while it is away: the last word counts.
    ensure!(desire(json!("blink")).await?.0 == 200 && desire(json!(2)).await?.0 == 200);
    let mut robot = Robot::connect(&host, "r1").await?;
    assert_eq!(robot.hear().await?, "2");
    robot.hears_nothing().await?;
    let (status, _) = ask(&host, Method::DELETE, "/v1/devices/r1/desired/led", &json!({})).await?;
    assert_eq!(status, 204);
    Ok(())
}
