// mqtt.js against the host's `mqtt` ingress.
//
//   node library.js '{"tcp": [host, port], "tls": …, "websocket": …, "ca": path}'     prints "all of it works"
//
// NODE_PATH names the folder that the library was installed into.

const assert = require('node:assert');
const fs = require('node:fs');
const mqtt = require('mqtt');

const where = JSON.parse(process.argv[2]);
const run = process.pid.toString(16) + Date.now().toString(16);

const urls = {
  tcp: `mqtt://${where.tcp[0]}:${where.tcp[1]}`,
  tls: `mqtts://${where.tls[0]}:${where.tls[1]}`,
  websocket: `ws://${where.websocket[0]}:${where.websocket[1]}/mqtt`,
};

async function connect(how, protocolVersion, more = {}) {
  const options = {
    protocolVersion,
    username: 'alice',
    password: 'secret',
    reconnectPeriod: 0,
    ca: how === 'tls' ? fs.readFileSync(where.ca) : undefined,
    ...more,
  };
  const client = await mqtt.connectAsync(urls[how], options);
  client.inbox = [];
  client.on('message', (topic, payload, packet) => client.inbox.push({ topic, payload, packet }));
  return client;
}

async function take(client, count) {
  const deadline = Date.now() + 10000;
  while (client.inbox.length < count) {
    assert(Date.now() < deadline, `${client.inbox.length} messages, not ${count}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return client.inbox.splice(0, count);
}

async function bothWays(how, version) {
  const topic = `js/${run}/${how}/${version}`;
  const [reader, writer] = [await connect(how, version), await connect(how, version)];
  await reader.subscribeAsync(`${topic}/#`, { qos: 2 });
  const payload = Buffer.from([...Array(256).keys()]);
  for (const qos of [0, 1, 2]) await writer.publishAsync(`${topic}/${qos}`, payload, { qos });
  for (const [qos, got] of (await take(reader, 3)).entries()) {
    assert.strictEqual(got.packet.qos, qos);
    assert(got.payload.equals(payload));
  }
  // The library does not heed Receive Maximum: no more at once than the broker takes.
  for (let from = 0; from < 200; from += 100) {
    const some = [...Array(100).keys()].map((n) => from + n);
    await Promise.all(some.map((n) => writer.publishAsync(`${topic}/many`, `${n}`, { qos: 1 + (n % 2) })));
  }
  const many = (await take(reader, 200)).map((got) => Number(got.payload));
  assert.deepStrictEqual(many.sort((a, b) => a - b), [...Array(200).keys()]);
  await writer.publishAsync(`${topic}/kept`, 'kept', { qos: 1, retain: true });
  const later = await connect(how, version);
  await later.subscribeAsync(`${topic}/kept`, { qos: 1 });
  const [kept] = await take(later, 1);
  assert(kept.packet.retain && kept.payload.toString() === 'kept');
  await writer.publishAsync(`${topic}/kept`, '', { qos: 1, retain: true });
  for (const client of [reader, writer, later]) await client.endAsync();
}

async function willAndSession(how, version) {
  const topic = `js/${run}/${how}/${version}`;
  const session = {
    clientId: `js-${run}-${how}-${version}`,
    clean: false,
    properties: version === 5 ? { sessionExpiryInterval: 60 } : undefined,
  };
  const absent = await connect(how, version, { ...session, will: { topic: `${topic}/will`, payload: 'gone', qos: 1 } });
  await absent.subscribeAsync(`${topic}/session`, { qos: 2 });
  const watcher = await connect(how, version);
  await watcher.subscribeAsync(`${topic}/will`, { qos: 1 });
  absent.stream.destroy();
  assert.strictEqual((await take(watcher, 1))[0].payload.toString(), 'gone');
  for (let n = 0; n < 5; n++) await watcher.publishAsync(`${topic}/session`, `${n}`, { qos: 2 });
  const inbox = [];
  const back = mqtt.connect(urls[how], {
    protocolVersion: version, username: 'alice', password: 'secret', reconnectPeriod: 0, ...session,
    ca: how === 'tls' ? fs.readFileSync(where.ca) : undefined,
  });
  back.inbox = inbox;
  back.on('message', (topic, payload, packet) => inbox.push({ topic, payload, packet }));
  assert.deepStrictEqual((await take(back, 5)).map((got) => Number(got.payload)), [0, 1, 2, 3, 4]);
  await back.unsubscribeAsync(`${topic}/session`);
  await back.endAsync();
  await watcher.endAsync();
}

async function refused(how) {
  await assert.rejects(connect(how, 5, { password: 'wrong' }));
  await assert.rejects(connect(how, 4, { username: 'mallory' }));
}

(async () => {
  for (const how of ['tcp', 'tls', 'websocket']) {
    for (const version of [4, 5]) {
      await bothWays(how, version);
      await willAndSession(how, version);
    }
    await refused(how);
  }
  console.log('all of it works');
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
