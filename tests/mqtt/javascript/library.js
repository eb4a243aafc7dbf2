// mqtt.js against the host's `mqtt` ingress.
//
//   node library.js '{"tcp": [host, port], "tls": …, "websocket": …, "ca": path}'     prints "all of it works"
//   node library.js … leave RUN     leaves sessions with messages in them, and retained ones
//   node library.js … back RUN      finds them
//
// NODE_PATH names the folder that the library was installed into.

const assert = require('node:assert');
const fs = require('node:fs');
const mqtt = require('mqtt');

const where = JSON.parse(process.argv[2]);
const run = process.argv[4] ?? process.pid.toString(16) + Date.now().toString(16);

const urls = {
  tcp: `mqtt://${where.tcp[0]}:${where.tcp[1]}`,
  tls: `mqtts://${where.tls[0]}:${where.tls[1]}`,
  websocket: `ws://${where.websocket[0]}:${where.websocket[1]}/mqtt`,
};

function optionsOf(how, protocolVersion, more) {
  return {
    protocolVersion,
    username: 'alice',
    password: 'secret',
    reconnectPeriod: 0,
    ca: how === 'tls' ? fs.readFileSync(where.ca) : undefined,
    ...more,
  };
}

async function connect(how, protocolVersion, more = {}) {
  const client = await mqtt.connectAsync(urls[how], optionsOf(how, protocolVersion, more));
  client.inbox = [];
  client.on('message', (topic, payload, packet) => client.inbox.push({ topic, payload, packet }));
  return client;
}

// With a session that has something: it may come before the promise of a connection is kept.
function comeBack(how, protocolVersion, session) {
  const client = mqtt.connect(urls[how], optionsOf(how, protocolVersion, session));
  client.inbox = [];
  client.on('message', (topic, payload, packet) => client.inbox.push({ topic, payload, packet }));
  return client;
}

function sessionOf(name, version) {
  return {
    clientId: `js-${run}-${name}-${version}`,
    clean: false,
    properties: version === 5 ? { sessionExpiryInterval: 600 } : undefined,
  };
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
  const session = sessionOf(how, version);
  const absent = await connect(how, version, { ...session, will: { topic: `${topic}/will`, payload: 'gone', qos: 1 } });
  await absent.subscribeAsync(`${topic}/session`, { qos: 2 });
  const watcher = await connect(how, version);
  await watcher.subscribeAsync(`${topic}/will`, { qos: 1 });
  absent.stream.destroy();
  assert.strictEqual((await take(watcher, 1))[0].payload.toString(), 'gone');
  for (let n = 0; n < 5; n++) await watcher.publishAsync(`${topic}/session`, `${n}`, { qos: 2 });
  const back = comeBack(how, version, session);
  assert.deepStrictEqual((await take(back, 5)).map((got) => Number(got.payload)), [0, 1, 2, 3, 4]);
  await back.unsubscribeAsync(`${topic}/session`);
  await back.endAsync();
  await watcher.endAsync();
}

async function refused(how) {
  await assert.rejects(connect(how, 5, { password: 'wrong' }));
  await assert.rejects(connect(how, 4, { username: 'mallory' }));
}

// Bob has topics of his own.
async function refusedTopics(how, version) {
  const watcher = await connect(how, version);
  await watcher.subscribeAsync(['other', 'both'], { qos: 1 });
  const bob = await connect(how, version, { username: 'bob', clientId: `bob-${run}` });
  await assert.rejects(bob.subscribeAsync('other', { qos: 1 }));
  await bob.subscribeAsync('both', { qos: 1 });
  const hidden = bob.publishAsync('other', 'hidden', { qos: 1 });
  // Only MQTT 5 has a word for it.
  await (version === 5 ? assert.rejects(hidden) : hidden);
  await bob.publishAsync('both', 'seen', { qos: 1 });
  for (const client of [watcher, bob]) {
    assert.strictEqual((await take(client, 1))[0].payload.toString(), 'seen');
    assert.strictEqual(client.inbox.length, 0);
    await client.endAsync();
  }
}

async function shared(how) {
  const topic = `js/${run}/${how}/shared`;
  const readers = [await connect(how, 5), await connect(how, 5)];
  for (const reader of readers) await reader.subscribeAsync(`$share/js/${topic}`, { qos: 1 });
  const alone = await connect(how, 5);
  await alone.subscribeAsync(topic, { qos: 1 });
  const writer = await connect(how, 5);
  for (let n = 0; n < 40; n++) await writer.publishAsync(topic, `${n}`, { qos: 1 });
  await take(alone, 40);
  const deadline = Date.now() + 10000;
  while (readers[0].inbox.length + readers[1].inbox.length < 40) {
    assert(Date.now() < deadline, 'some of them went to nobody');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const numbers = readers.flatMap((reader) => reader.inbox.map((got) => Number(got.payload)));
  assert.deepStrictEqual(numbers.sort((a, b) => a - b), [...Array(40).keys()]);
  assert(readers.every((reader) => reader.inbox.length > 0), 'one has got them all');
  for (const client of [...readers, alone, writer]) await client.endAsync();
}

async function expiry(how) {
  const [topic, session] = [`js/${run}/${how}/expiry`, sessionOf(`expiry-${how}`, 5)];
  const absent = await connect(how, 5, session);
  await absent.subscribeAsync(topic, { qos: 1 });
  await absent.endAsync();
  const writer = await connect(how, 5);
  for (const [payload, seconds] of [['short', 1], ['long', 60]]) {
    await writer.publishAsync(topic, payload, { qos: 1, properties: { messageExpiryInterval: seconds } });
  }
  await new Promise((resolve) => setTimeout(resolve, 1200));
  const back = comeBack(how, 5, session);
  const [got] = await take(back, 1);
  assert.strictEqual(got.payload.toString(), 'long');
  assert(got.packet.properties.messageExpiryInterval < 60);
  await back.endAsync();
  await writer.endAsync();
}

async function leave(how, version) {
  const topic = `js/${run}/${how}/${version}`;
  const reader = await connect(how, version, sessionOf(how, version));
  await reader.subscribeAsync(`${topic}/+`, { qos: 2 });
  await reader.endAsync();
  const writer = await connect(how, version);
  for (const qos of [1, 2]) await writer.publishAsync(`${topic}/${qos}`, `${qos}`, { qos });
  await writer.publishAsync(`${topic}/retained/of/it`, 'kept', { qos: 1, retain: true });
  await writer.endAsync();
}

async function back(how, version) {
  const topic = `js/${run}/${how}/${version}`;
  const reader = comeBack(how, version, sessionOf(how, version));
  const got = (await take(reader, 2)).map(({ payload, packet }) => `${packet.qos} ${payload}`);
  assert.deepStrictEqual(got.sort(), ['1 1', '2 2']);
  await reader.subscribeAsync(`${topic}/retained/#`, { qos: 1 });
  const [kept] = await take(reader, 1);
  assert(kept.packet.retain && kept.payload.toString() === 'kept');
  await reader.endAsync();
}

const HOWS = ['tcp', 'tls', 'websocket'];

async function all(how) {
  for (const version of [4, 5]) {
    await bothWays(how, version);
    await willAndSession(how, version);
    await refusedTopics(how, version);
  }
  await shared(how);
  await expiry(how);
  await refused(how);
}

(async () => {
  const part = { leave, back }[process.argv[3]];
  for (const how of HOWS) {
    if (!part) await all(how);
    else for (const version of [4, 5]) await part(how, version);
  }
  console.log('all of it works');
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
