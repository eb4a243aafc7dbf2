//! The message flows of Pyaiot's own programs: its CoAP node, WebSocket node, MQTT node, gateway and dashboard, written
//! anew from what is on the wire, with aiocoap, websockets, paho and `cryptography`.

use anyhow::{Result, ensure};
use sandbar_tests::free_port;
use sandbar_tests::tool;
use serde_json::json;
use tokio::process::Command;

use crate::{address, check_log, host, last_line, readings};

/// Plays all of them, and prints one JSON object of what the dashboard saw.
const PROGRAMS: &str = r#"
import asyncio, configparser, json, sys, threading
import aiocoap, paho.mqtt.client as mqtt, websockets
from aiocoap import resource
from cryptography.fernet import Fernet
web, coap, node_port, broker, keys_file = sys.argv[1:]
seen = {}

class Value(resource.Resource):
    def __init__(self, value):
        super().__init__()
        self.value = value
    async def render_get(self, request):
        return aiocoap.Message(payload=self.value)
    async def render_put(self, request):
        self.value = request.payload
        return aiocoap.Message(code=aiocoap.CHANGED)

class Dashboard:
    async def __aenter__(self):
        self.socket = await websockets.connect(f"ws://{web}/ws")
        await self.socket.send(json.dumps({"type": "new", "data": "dashboard"}))
        return self
    async def __aexit__(self, *_):
        await self.socket.close()
    async def until(self, **wanted):
        while True:
            message = json.loads(await asyncio.wait_for(self.socket.recv(), 20))
            if all(message.get(key) == value for key, value in wanted.items()):
                return message
    async def write(self, uid, endpoint, payload):
        data = {"uid": uid, "endpoint": endpoint, "payload": payload}
        await self.socket.send(json.dumps({"type": "update", "data": data}))

async def coap_node(dashboard):
    site = resource.Site()
    led = Value(b"0")
    site.add_resource([".well-known", "core"], resource.WKCResource(site.get_resources_as_linkheader))
    site.add_resource(["board"], Value(b"native"))
    site.add_resource(["led"], led)
    node = await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", int(node_port)))
    async def post(path, payload, kind=aiocoap.NON):
        message = aiocoap.Message(code=aiocoap.POST, uri=f"coap://{coap}/{path}", payload=payload, mtype=kind)
        return (await node.request(message).response).payload.decode()
    seen["alive"] = await post("alive", b"Alive:coap-1")
    await dashboard.until(type="new", uid="coap-1")
    await dashboard.until(uid="coap-1", endpoint="protocol", data="CoAP")
    await dashboard.until(uid="coap-1", endpoint="board", data="native")
    await dashboard.until(uid="coap-1", endpoint="led", data="0")
    seen["alive again"] = await post("alive", b"alive:coap-1", aiocoap.CON)
    seen["server"] = await post("server", "temperature:23.1°C".encode())
    message = await dashboard.until(uid="coap-1")
    seen["nothing was added again"] = [message["type"], message["data"]]
    await dashboard.write("coap-1", "led", "1")
    await dashboard.until(uid="coap-1", endpoint="led", data="1")
    seen["led"] = led.value.decode()
    await post("alive", b"reset:coap-1")
    await dashboard.until(type="reset", uid="coap-1")
    await dashboard.until(uid="coap-1", endpoint="led", data="1")
    await node.shutdown()
    await dashboard.until(type="out", uid="coap-1")

async def websocket_node(dashboard):
    async with websockets.connect(f"ws://{web}/node") as node:
        seen["request"] = json.loads(await node.recv())
        uid = (await dashboard.until(type="new"))["uid"]
        await node.send(json.dumps({"type": "update", "data": {"robot": "stop", "name": "rover"}}))
        await dashboard.until(uid=uid, endpoint="robot", data="stop")
        await dashboard.write(uid, "robot", "forward")
        seen["robot"] = json.loads(await node.recv())
        async with Dashboard() as late:
            await late.until(type="new", uid=uid)
            await late.until(uid=uid, endpoint="name", data="rover")
    await dashboard.until(type="out", uid=uid)

async def mqtt_node(dashboard):
    loop, lines = asyncio.get_running_loop(), asyncio.Queue()
    node = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="mqtt-1", protocol=mqtt.MQTTv311)
    def say(topic, value):
        node.publish(topic, json.dumps(value), qos=1)
    def on_message(client, data, message):
        topic, text = message.topic, message.payload.decode()
        loop.call_soon_threadsafe(lines.put_nowait, (topic, text))
        if topic == "gateway/check":
            say("node/check", {"id": "mqtt-1"})
        elif (topic, text) == ("gateway/mqtt-1/discover", "resources"):
            say("node/mqtt-1/resources", ["led"])
        elif (topic, text) == ("gateway/mqtt-1/discover", "values"):
            say("node/mqtt-1/led", {"value": "0"})
        elif topic == "gateway/mqtt-1/led/set":
            say("node/mqtt-1/led", {"value": text})
    node.on_message = on_message
    node.on_connect = lambda client, *_: client.subscribe([("gateway/check", 1), ("gateway/mqtt-1/#", 1)])
    host, port = broker.split(":")
    node.connect(host, int(port))
    node.loop_start()
    say("node/check", {"id": "mqtt-1"})
    await dashboard.until(type="new", uid="mqtt-1")
    await dashboard.until(uid="mqtt-1", endpoint="led", data="0")
    await dashboard.write("mqtt-1", "led", "1")
    await dashboard.until(uid="mqtt-1", endpoint="led", data="1")
    node.disconnect()
    node.loop_stop()
    await dashboard.until(type="out", uid="mqtt-1")

async def gateway(dashboard):
    keys = configparser.ConfigParser()
    keys.read(keys_file)
    private, secret = keys["keys"]["private"], keys["keys"]["secret"]
    def connect(token):
        return websockets.connect(f"ws://{web}/gw", additional_headers={"Sec-WebSocket-Protocol": f"token,{token}"})
    for token in (Fernet(Fernet.generate_key()).encrypt(secret.encode()).decode(), "nonsense"):
        try:
            async with connect(token):
                seen["stranger"] = "let in"
        except websockets.exceptions.InvalidStatus as refusal:
            seen["stranger"] = refusal.response.status_code
    # The header is written by hand, as Pyaiot does it; the library then finds an answer it did not ask for.
    token = Fernet(private.encode()).encrypt(secret.encode()).decode()
    async with websockets.connect(f"ws://{web}/gw", subprotocols=["token", token]) as socket:
        seen["asked"] = json.loads(await socket.recv())["type"]
        await socket.send(json.dumps({"type": "update", "uid": "alive"}))
        await socket.send(json.dumps({"type": "new", "uid": "far-1", "dst": "all"}))
        await dashboard.until(type="new", uid="far-1")
        update = {"type": "update", "uid": "far-1", "endpoint": "led", "data": "0", "dst": "all"}
        await socket.send(json.dumps(update))
        await dashboard.until(uid="far-1", endpoint="led", data="0")
        await dashboard.write("far-1", "led", "1")
        message = json.loads(await socket.recv())
        seen["forwarded"] = [message["type"], message["data"], isinstance(message["src"], str)]
    await dashboard.until(type="out", uid="far-1")

async def main():
    async with Dashboard() as dashboard:
        await coap_node(dashboard)
        await websocket_node(dashboard)
        await mqtt_node(dashboard)
        await gateway(dashboard)
        async with Dashboard() as wrong:
            await wrong.socket.send('{"type":"nonsense"}')
            try:
                while True:
                    await wrong.socket.recv()
            except websockets.exceptions.ConnectionClosed as closed:
                seen["wrong"] = closed.rcvd.code
        await dashboard.socket.ping()
    print(json.dumps(seen))

asyncio.run(asyncio.wait_for(main(), 120))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashboard_gateways_and_nodes_work_unchanged() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (coap, node, broker) = (free_port()?, free_port()?, free_port()?);
    let keys = folder.path().join("keys");
    let mut generate = Command::new(sandbar_tests::host::binary());
    generate.args(["keys", "generate"]).arg(&keys);
    tool::succeeds(generate, 10).await?;
    let text = format!(
        "[ingress.broker]\ndriver = \"mqtt\"\nlisten = \"127.0.0.1:{broker}\"\n\
         [ingress.it]\ndriver = \"pyaiot\"\nlisten = \"127.0.0.1:0\"\nkeys_file = \"{}\"\n\
         [ingress.it.coap]\nlisten = \"127.0.0.1:{coap}\"\nnode_port = {node}\nlost_after_s = 4\n\
         [ingress.it.mqtt]\nlost_after_s = 4\ncheck_interval_s = 1\n\
         broker = {{ url = \"mqtt://127.0.0.1:{broker}\", client_id = \"pyaiot\" }}\n",
        keys.display()
    );
    let host = host(folder.path(), &text).await?;
    let web = address(&host, "it").await?;
    let mut programs = Command::new(tool::python_peer("python3"));
    let arguments = [web, format!("127.0.0.1:{coap}"), node.to_string(), format!("127.0.0.1:{broker}")];
    programs.args(["-c", PROGRAMS]).args(arguments).arg(&keys);
    let seen = last_line(&tool::succeeds(programs, 150).await?)?;
    let expected = json!({
        "alive": "Received 'Alive:coap-1'",
        "alive again": "Received 'alive:coap-1'",
        "server": "Received 'temperature:23.1°C'",
        "nothing was added again": ["update", "23.1°C"],
        "led": "1",
        "request": { "request": "discover" },
        "robot": { "endpoint": "robot", "payload": "forward" },
        "stranger": 401,
        "asked": "new",
        "forwarded": ["update", { "uid": "far-1", "endpoint": "led", "payload": "1" }, true],
        "wrong": 1003,
    });
    ensure!(seen == expected, "{seen:#}");
    let readings = readings(&host, "it").await?;
    for (topic, payload) in [
        ("pyaiot/coap-1/temperature", "23.1°C"),
        ("pyaiot/coap-1/led", "1"),
        ("pyaiot/mqtt-1/led", "1"),
        ("pyaiot/far-1/led", "0"),
    ] {
        let is_there = readings.iter().any(|reading| reading.0 == topic && reading.1 == payload);
        ensure!(is_there, "{topic} {payload}: {readings:?}");
    }
    check_log(&host)?;
    let ended = host.terminate().await?;
    ensure!(ended == Some(0), "{ended:?}");
    Ok(())
}
