//! aiocoap, as a client and as a node that is discovered.

use std::process::Stdio;

use anyhow::{Result, ensure};
use sandbar_tests::free_port;
use sandbar_tests::{eventually, tool};
use serde_json::json;
use tokio::process::Command;

use crate::{address, check_log, has_reading, host, last_line, readings};

/// Prints one JSON object of what it saw.
const CLIENT: &str = r#"
import asyncio, json, sys, aiocoap
from aiocoap import Message, GET, POST, PUT
base = "coap://" + sys.argv[1]
long = b"".join(b"%05d" % n for n in range(4000))

async def main():
    context, seen = await aiocoap.Context.create_client_context(), {}
    async def ask(code, path, payload=b"", **options):
        return await context.request(Message(code=code, uri=base + path, payload=payload, **options)).response
    answers = [await ask(POST, "/sensors/d1/t", b"1", content_format=0),
               await ask(PUT, "/sensors/d1/t", b'{"t":2}', content_format=50),
               await ask(POST, "/sensors/d1/long", long, content_format=0),
               await ask(POST, "/nowhere", b"1"),
               await ask(PUT, "/blob", b"x" * 300000)]
    seen["codes"] = [str(answer.code).split()[0] for answer in answers]
    reply = await ask(POST, "/ask/d1", b"who?", content_format=0)
    seen["reply"] = [str(reply.code).split()[0], len(reply.payload)]
    for _ in range(100):
        got = await ask(GET, "/sensors/d1/long")
        if got.payload == long:
            break
        await asyncio.sleep(0.1)
    seen["long"] = got.payload == long
    observing = context.request(Message(code=GET, uri=base + "/sensors/d1/t", observe=0))
    first = await observing.response
    seen["first"] = first.payload.decode()
    notes = observing.observation.__aiter__()
    for value in (b"3", b"4"):
        await ask(POST, "/sensors/d1/t", value, content_format=0)
        note = await asyncio.wait_for(notes.__anext__(), 10)
        seen.setdefault("notes", []).append(note.payload.decode())
    print(json.dumps(seen))
    await context.shutdown()

asyncio.run(asyncio.wait_for(main(), 60))
"#;

/// A node with a counter that can be observed, a text that cannot, and a lamp.
const NODE: &str = r#"
import asyncio, sys, aiocoap
from aiocoap import resource

class Text(resource.Resource):
    async def render_get(self, request):
        await asyncio.sleep(3)
        return aiocoap.Message(payload=b"slow " * 600, content_format=0)

class Counter(resource.ObservableResource):
    count = 0
    async def run(self):
        while True:
            await asyncio.sleep(0.3)
            self.count += 1
            self.updated_state()
    async def render_get(self, request):
        return aiocoap.Message(payload=b"%d" % self.count, content_format=0)

class Lamp(resource.ObservableResource):
    state = b"0"
    async def render_get(self, request):
        return aiocoap.Message(payload=self.state, content_format=0)
    async def render_put(self, request):
        if len(request.payload) < 2:
            return aiocoap.Message(code=aiocoap.BAD_REQUEST)
        self.state = request.payload
        self.updated_state()
        return aiocoap.Message(code=aiocoap.CHANGED)

async def main():
    site, counter = resource.Site(), Counter()
    site.add_resource([".well-known", "core"], resource.WKCResource(site.get_resources_as_linkheader))
    site.add_resource(["counter"], counter)
    site.add_resource(["text"], Text())
    site.add_resource(["lamp"], Lamp())
    await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", int(sys.argv[1])))
    await counter.run()

asyncio.run(main())
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_client_sends_reads_and_observes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let text = "[ingress.it]\ndriver = \"coap\"\nlisten = \"127.0.0.1:0\"\nbody_max = 200000\n\
         [[ingress.it.resources]]\npath = \"/sensors/{device}/{quantity}\"\n\
         [[ingress.it.resources]]\npath = \"/ask/{device}\"\n\
         [[ingress.it.resources]]\npath = \"/blob\"\n\
         [sink.shelf]\nkind = \"local-mqtt\"\ningress = \"it\"\n\
         [route.show]\ntopic = \"sensors/#\"\nsinks = [\"shelf\"]\n";
    let host = host(folder.path(), text).await?;
    let address = address(&host, "it").await?;
    let mut command = Command::new(tool::python_peer("python3"));
    command.args(["-c", CLIENT, &address]);
    let seen = last_line(&tool::succeeds(command, 90).await?)?;
    let expected = json!({
        "codes": ["2.04", "2.04", "2.04", "4.04", "4.13"],
        "reply": ["2.04", 0],
        "long": true,
        "first": seen["first"],
        "notes": ["3", "4"],
    });
    ensure!(seen == expected, "{seen}");
    ensure!(readings(&host, "it").await?.len() == 6, "repeated messages are one reading");
    check_log(&host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_node_is_discovered_observed_and_asked() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let text = format!(
        "[ingress.it]\ndriver = \"coap\"\nlisten = \"127.0.0.1:0\"\n\
         [[ingress.it.nodes]]\ndevice = \"n1\"\naddress = \"127.0.0.1:{port}\"\nagain_ms = 300\n\
         discover = true\npoll_interval_ms = 500\n\
         [ingress.web]\ndriver = \"webhook\"\nlisten = \"127.0.0.1:0\"\npaths = [{{ path = \"/{{device}}\" }}]\n\
         [sink.write]\nkind = \"device\"\nname = \"lamp\"\n\
         [route.write]\ningress = [\"web\"]\nsinks = [\"write\"]\n"
    );
    let host = host(folder.path(), &text).await?;
    // It comes later than the host.
    let node = || {
        let mut node = Command::new(tool::python_peer("python3"));
        node.args(["-c", NODE, &port.to_string()]).stdin(Stdio::null()).kill_on_drop(true).spawn()
    };
    let mut running = node()?;
    let counted = async || {
        let readings = readings(&host, "it").await.unwrap_or_default();
        readings.iter().filter(|(topic, _)| topic == "n1/counter").count()
    };
    eventually("its counter is a row of readings", 60, || async { counted().await >= 4 }).await;
    let slow = "slow ".repeat(600);
    eventually("a slow answer in blocks is a reading", 30, || async {
        has_reading(&host, "it", "n1/text", &slow).await
    })
    .await;
    let hook = host.ingress("web").await?;
    host.http.post(format!("{hook}/n1")).body("on").send().await?.error_for_status()?;
    eventually("the lamp says that it is on", 20, || async {
        has_reading(&host, "it", "n1/lamp", "on").await
    })
    .await;
    host.http.post(format!("{hook}/n1")).body("x").send().await?.error_for_status()?;
    eventually("what it refuses is a dead letter", 20, || async {
        host.all("/v1/dead-letters").await.is_ok_and(|letters| letters.len() == 1)
    })
    .await;
    running.kill().await?;
    let before = counted().await;
    let _running = node()?;
    // Registered again once nothing is heard any more, or the registration is refused: Max-Age and some.
    eventually("a restarted node is observed again", 100, || async { counted().await > before + 3 }).await;
    check_log(&host)
}
