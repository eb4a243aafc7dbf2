//! Python's `websockets`, as a client of the ingress and as the server of the sink.

use anyhow::{Result, ensure};
use sandbar_tests::host::guest;
use sandbar_tests::sender::{all_is_done, check_journal};
use sandbar_tests::tool;
use serde_json::Value;

use crate::certificates::self_signed;
use crate::{address, check_log, host};

/// Prints one JSON object of what it saw.
const CLIENT: &str = r#"
import asyncio, json, ssl, sys, urllib.request, websockets
address, trusted, hook = sys.argv[1:]
tls = ssl.create_default_context(cafile=trusted)

async def refused(path, **options):
    try:
        async with websockets.connect(f"wss://{address}{path}", ssl=tls, server_hostname="localhost", **options):
            return None
    except websockets.exceptions.InvalidStatus as refusal:
        return refusal.response.status_code

def command():
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{hook}/set", b'{"on":true}', headers))

async def main():
    seen = {}
    options = dict(ssl=tls, server_hostname="localhost", additional_headers={"Authorization": "Bearer s3cret"},
                   subprotocols=["other", "kraken"])
    async with websockets.connect(f"wss://{address}/live?topic=%23&access_token=s3cret", ssl=tls,
                                  server_hostname="localhost", subprotocols=["kraken"]) as live:
        await live.recv()
        async with websockets.connect(f"wss://{address}/ws/boiler", **options) as socket:
            seen["sub_protocol"] = socket.subprotocol
            seen["greeting"] = json.loads(await socket.recv())
            await socket.send('{"temperature":71.6,"unit":"F"}')
            seen["ids"] = [json.loads(await socket.recv())["accepted"]]
            seen["reply"] = json.loads(await socket.recv())
            await asyncio.get_running_loop().run_in_executor(None, command)
            seen["command"] = json.loads(await socket.recv())
            await (await socket.ping())
            async def pieces():
                for piece in ['{"temperature":', '212,"unit"', ':"F"}']:
                    yield piece
            await socket.send(pieces())
            seen["ids"].append(json.loads(await socket.recv())["accepted"])
            await socket.recv()
        published = json.loads(await live.recv())
        seen["published"] = [published["topic"], published["payload"]]
        async with websockets.connect(f"wss://{address}/ws/boiler", **options) as socket:
            await socket.recv()
            await socket.send(b"x" * 70000)
            try:
                await socket.recv()
            except websockets.exceptions.ConnectionClosedError as closed:
                seen["oversized"] = closed.rcvd.code
    seen["refused"] = [await refused("/ws/boiler", subprotocols=["kraken"]),
                       await refused("/nowhere?access_token=s3cret", subprotocols=["kraken"]),
                       await refused("/ws/boiler?access_token=s3cret")]
    print(json.dumps(seen))

asyncio.run(main())
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pythons_client_is_understood_both_ways() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = self_signed(folder.path()).await?;
    let configuration = format!(
        r#"
[ingress.ws]
driver = "websocket"
listen = "127.0.0.1:0"
token = "s3cret"
sub_protocols = ["kraken"]
greeting = '{{"kraken":"hello"}}'
acknowledge = '{{"accepted":"{{id}}"}}'
message_max = 65536
paths = [{{ path = "/ws/{{device}}", topic = "f/{{device}}" }}, {{ path = "/live", subscribe = true, readings = false }}]
tls = {{ certificate_file = "{}", key_file = "{}" }}
[ingress.hook]
driver = "webhook"
listen = "127.0.0.1:0"
paths = [{{ path = "/set" }}]
[sink.boiler]
kind = "device"
device = "boiler"
[route.set]
ingress = ["hook"]
sinks = ["boiler"]
[module.celsius]
file = "{}"
[sink.live]
kind = "websocket"
ingress = "ws"
[route.celsius]
ingress = ["ws"]
module = "celsius"
reply = true
[route.live]
topic = "f/#"
module = "celsius"
sinks = ["live"]
"#,
        made.certificate.display(),
        made.key.display(),
        guest("fahrenheit-to-celsius").display()
    );
    let host = host(folder.path(), &configuration).await?;
    let mut python = tokio::process::Command::new(tool::python_peer("python"));
    python.arg("-c").arg(CLIENT).arg(address(&host, "ws").await?);
    python.arg(&made.certificate).arg(host.ingress("hook").await?);
    let seen: Value = serde_json::from_str(&tool::succeeds(python, 60).await?)?;
    ensure!(seen["sub_protocol"] == "kraken", "{seen}");
    ensure!(seen["greeting"] == serde_json::json!({ "kraken": "hello" }), "{seen}");
    ensure!(seen["reply"] == serde_json::json!({ "temperature": 22.0, "unit": "C" }), "{seen}");
    ensure!(seen["command"] == serde_json::json!({ "on": true }), "{seen}");
    ensure!(seen["published"][1] == serde_json::json!({ "temperature": 22.0, "unit": "C" }), "{seen}");
    ensure!(seen["oversized"] == 1009, "{seen}");
    ensure!(seen["refused"] == serde_json::json!([401, 404, 400]), "{seen}");
    let ids: Vec<String> = serde_json::from_value(seen["ids"].clone())?;
    check_journal(&host, &ids).await?;
    check_log(&host)
}

/// Prints the port, then every message; the first connection is dropped after its second message.
const SERVER: &str = r#"
import asyncio, websockets
connections = 0

async def serve(socket):
    global connections
    connections += 1
    number, messages = connections, 0
    async for message in socket:
        messages += 1
        if number == 1 and messages == 2:
            socket.transport.abort()
            return
        print(message, flush=True)
        await socket.send("taken")

async def main():
    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pythons_server_gets_every_message_also_over_a_new_connection() -> Result<()> {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let folder = tempfile::tempdir()?;
    let mut python = tokio::process::Command::new(tool::python_peer("python"));
    python.args(["-c", SERVER]).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut python = python.spawn()?;
    let stdout = python.stdout.take().ok_or_else(|| anyhow::anyhow!("no stdout"))?;
    let mut lines = BufReader::new(stdout).lines();
    let mut line = async || -> Result<String> {
        let line = tokio::time::timeout(std::time::Duration::from_secs(20), lines.next_line()).await??;
        line.ok_or_else(|| anyhow::anyhow!("the server ended"))
    };
    let configuration = format!(
        "[ingress.lines]\ndriver = \"tcp\"\nlisten = \"127.0.0.1:0\"\nacknowledge = \"+\"\n\
         [sink.feed]\nkind = \"websocket\"\nurl = \"ws://127.0.0.1:{}/feed\"\nawait_answer = true\n\
         [sink.feed.offering]\nfirst_wait_ms = 10\nlongest_wait_ms = 100\n\
         [route.all]\nsinks = [\"feed\"]\n",
        line().await?
    );
    let host = host(folder.path(), &configuration).await?;
    let mut stream = tokio::net::TcpStream::connect(address(&host, "lines").await?).await?;
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"1\n2\n3\n4\n").await?;
    let mut got = Vec::new();
    while got.len() < 4 {
        let message = line().await?;
        // One whose answer was lost with the connection comes again.
        if !got.contains(&message) {
            got.push(message);
        }
    }
    ensure!(got == ["1", "2", "3", "4"], "{got:?}");
    all_is_done(&host, 20).await;
    check_log(&host)
}

/// Shows its certificate.
const SHOWN: &str = r#"
import asyncio, ssl, sys, websockets
address, certificate, key = sys.argv[1:]
tls = ssl.create_default_context(cafile=certificate)
tls.load_cert_chain(certificate, key)

async def main():
    async with websockets.connect(f"wss://{address}/ws", ssl=tls, server_hostname="localhost") as socket:
        await socket.send("21.5")
        print(await socket.recv())

asyncio.run(main())
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_names_the_device() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = self_signed(folder.path()).await?;
    let (certificate, key) = (made.certificate.display(), made.key.display());
    let configuration = format!(
        "[ingress.ws]\ndriver = \"websocket\"\nlisten = \"127.0.0.1:0\"\nacknowledge = \"ok\"\n\
         tls = {{ certificate_file = \"{certificate}\", key_file = \"{key}\", client_ca_file = \"{certificate}\" }}\n\
         paths = [{{ path = \"/ws\", device = \"{{certificate}}\" }}]\n"
    );
    let host = host(folder.path(), &configuration).await?;
    let mut python = tokio::process::Command::new(tool::python_peer("python"));
    python.arg("-c").arg(SHOWN).arg(address(&host, "ws").await?).args([&made.certificate, &made.key]);
    ensure!(tool::succeeds(python, 20).await?.trim() == "ok");
    let readings = host.all("/v1/readings?ingress=ws").await?;
    ensure!(readings.len() == 1 && readings[0]["device"] == "localhost", "{readings:?}");
    ensure!(readings[0]["attributes"]["tls.certificate"] == "localhost", "{readings:?}");
    check_log(&host)
}
