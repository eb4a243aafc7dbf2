"""paho-mqtt against the host's `mqtt` ingress, over TCP, TLS and WebSocket.

    library.py '{"tcp": [host, port], "tls": …, "websocket": …, "ca": path}'     prints "all of it works"
    library.py … leave RUN     leaves sessions with messages in them, and retained ones
    library.py … back RUN      finds them
"""

import json
import queue
import ssl
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

WHERE = json.loads(sys.argv[1])
RUN = sys.argv[3] if len(sys.argv) > 3 else format(time.time_ns() % 0xFFFFFF, "x")


class Client:
    """A connected client whose callbacks have become queues."""

    def __init__(self, how, version, name="", clean=True, expiry=None, will=None, user="alice", password="secret"):
        self.messages, self.connected, self.subscribed = queue.Queue(), queue.Queue(), queue.Queue()
        self.published = queue.Queue()
        options = {} if version == mqtt.MQTTv5 else {"clean_session": clean}
        self.client = client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=version,
                                           transport="websockets" if how == "websocket" else "tcp", **options)
        if user:
            client.username_pw_set(user, password)
        if how == "tls":
            client.tls_set(WHERE["ca"], tls_version=ssl.PROTOCOL_TLS_CLIENT)
        if how == "websocket":
            client.ws_set_options(path="/mqtt")
        if will:
            client.will_set(**will)
        client.on_message = lambda _client, _data, message: self.messages.put(message)
        client.on_connect = lambda _c, _d, flags, code, _p: self.connected.put((flags, code))
        client.on_subscribe = lambda _c, _d, _mid, codes, _p: self.subscribed.put(codes)
        client.on_publish = lambda _c, _d, _mid, code, _p: self.published.put(code)
        properties = None
        if version == mqtt.MQTTv5:
            options = {"clean_start": clean}
            if expiry:
                properties = Properties(PacketTypes.CONNECT)
                properties.SessionExpiryInterval = expiry
        else:
            options = {}
        host, port = WHERE[how]
        client.connect(host, port, keepalive=30, properties=properties, **options)
        client.loop_start()
        self.flags, self.code = self.connected.get(timeout=10)

    def subscribe(self, *filters):
        self.client.subscribe(list(filters))
        return self.subscribed.get(timeout=10)

    def publish(self, topic, payload, qos=1, retain=False, properties=None):
        info = self.client.publish(topic, payload, qos, retain, properties)
        info.wait_for_publish(timeout=10)
        assert info.is_published(), f"{topic} was not acknowledged"

    def take(self, count):
        return [self.messages.get(timeout=10) for _ in range(count)]

    def nothing(self):
        time.sleep(0.3)
        assert self.messages.empty(), [m.payload for m in self.take(self.messages.qsize())]

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()


def both_ways(how, version):
    topic = f"paho/{RUN}/{how}/{version}"
    reader, writer = Client(how, version), Client(how, version)
    assert not reader.code.is_failure, reader.code
    reader.subscribe((f"{topic}/#", 2) if version == mqtt.MQTTv311 else (f"{topic}/#", SubscribeOptions(qos=2)))
    payload = bytes(range(256)) * 40
    for qos in (0, 1, 2):
        writer.publish(f"{topic}/{qos}", payload, qos)
    got = reader.take(3)
    assert [(m.qos, m.payload) for m in got] == [(qos, payload) for qos in (0, 1, 2)]
    for number in range(300):
        writer.client.publish(f"{topic}/many", str(number), 1 + number % 2)
    # A client shows a message of QoS 2 once it was released: each QoS is in order by itself.
    many = [int(m.payload) for m in reader.take(300)]
    for odd in (0, 1):
        assert [n for n in many if n % 2 == odd] == list(range(odd, 300, 2)), many
    reader.nothing()
    reader.end()
    writer.end()


def retained(how, version):
    topic = f"paho/{RUN}/{how}/{version}/kept"
    writer = Client(how, version)
    writer.publish(topic, b"kept", retain=True)
    reader = Client(how, version)
    reader.subscribe((topic, 1) if version == mqtt.MQTTv311 else (topic, SubscribeOptions(qos=1)))
    message, = reader.take(1)
    assert (message.payload, message.retain) == (b"kept", True)
    writer.publish(topic, b"", retain=True)
    reader.end()
    writer.end()


def will(how, version):
    topic = f"paho/{RUN}/{how}/{version}/will"
    reader = Client(how, version)
    reader.subscribe((topic, 1) if version == mqtt.MQTTv311 else (topic, SubscribeOptions(qos=1)))
    dying = Client(how, version, will=dict(topic=topic, payload=b"gone", qos=1))
    dying.client.loop_stop()
    dying.client.socket().close()
    assert reader.take(1)[0].payload == b"gone"
    reader.end()


def session(how, version):
    topic, name = f"paho/{RUN}/{how}/{version}/session", f"paho-{RUN}-{how}-{version}"
    options = dict(name=name, clean=False, expiry=60)
    reader = Client(how, version, **options)
    reader.subscribe((topic, 2) if version == mqtt.MQTTv311 else (topic, SubscribeOptions(qos=2)))
    reader.end()
    writer = Client(how, version)
    for number in range(10):
        writer.publish(topic, str(number), 1 + number % 2)
    reader = Client(how, version, **options)
    assert reader.flags.session_present
    assert sorted(int(m.payload) for m in reader.take(10)) == list(range(10))
    reader.end()
    writer.end()
    Client(how, version, name=name).end()


def shared(how):
    topic = f"paho/{RUN}/{how}/shared"
    readers = [Client(how, mqtt.MQTTv5) for _ in range(2)]
    for reader in readers:
        reader.subscribe((f"$share/paho/{topic}", SubscribeOptions(qos=1)))
    writer = Client(how, mqtt.MQTTv5)
    for number in range(40):
        writer.publish(topic, str(number))
    deadline = time.monotonic() + 10
    while sum(reader.messages.qsize() for reader in readers) < 40 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)  # One too many would come now.
    got = [int(m.payload) for reader in readers for m in reader.take(reader.messages.qsize())]
    assert sorted(got) == list(range(40)), sorted(got)
    for one in (*readers, writer):
        one.end()


def properties(how):
    topic = f"paho/{RUN}/{how}/properties"
    reader, writer = Client(how, mqtt.MQTTv5), Client(how, mqtt.MQTTv5)
    reader.subscribe((topic, SubscribeOptions(qos=1)))
    sent = Properties(PacketTypes.PUBLISH)
    sent.UserProperty = [("a", "1"), ("a", "2")]
    sent.ContentType = "text/plain"
    sent.ResponseTopic = "answers"
    sent.CorrelationData = b"7"
    sent.MessageExpiryInterval = 60
    sent.PayloadFormatIndicator = 1
    writer.publish(topic, "x", properties=sent)
    got = reader.take(1)[0].properties
    assert (got.UserProperty, got.ContentType, got.ResponseTopic, got.CorrelationData, got.PayloadFormatIndicator) \
        == ([("a", "1"), ("a", "2")], "text/plain", "answers", b"7", 1)
    assert 58 <= got.MessageExpiryInterval <= 60
    reader.end()
    writer.end()


def refused(how):
    for user, password in (("alice", "wrong"), ("mallory", "secret")):
        for version in (mqtt.MQTTv311, mqtt.MQTTv5):
            client = Client(how, version, user=user, password=password)
            assert client.code.is_failure, f"{user} got in"
            client.end()


def filter_of(version, topic, qos):
    return (topic, qos) if version == mqtt.MQTTv311 else (topic, SubscribeOptions(qos=qos))


def refused_topics(how, version):
    """Bob has topics of his own."""
    watcher = Client(how, version)
    watcher.subscribe(filter_of(version, "other", 1), filter_of(version, "both", 1))
    bob = Client(how, version, name=f"bob-{RUN}", user="bob")
    codes = bob.subscribe(filter_of(version, "other", 1), filter_of(version, "both", 1))
    assert [code.is_failure for code in codes] == [True, False], codes
    bob.publish("other", "hidden")
    # Only MQTT 5 has a word for it.
    assert bob.published.get(timeout=10).is_failure == (version == mqtt.MQTTv5)
    bob.publish("both", "seen")
    assert not bob.published.get(timeout=10).is_failure
    assert [m.payload for m in watcher.take(1) + bob.take(1)] == [b"seen"] * 2
    watcher.nothing()
    for one in (watcher, bob):
        one.end()


def expiry(how):
    topic, name = f"paho/{RUN}/{how}/expiry", f"paho-expiry-{RUN}-{how}"
    absent = Client(how, mqtt.MQTTv5, name=name, clean=False, expiry=60)
    absent.subscribe((topic, SubscribeOptions(qos=1)))
    absent.end()
    writer = Client(how, mqtt.MQTTv5)
    for payload, seconds in (("short", 1), ("long", 60)):
        sent = Properties(PacketTypes.PUBLISH)
        sent.MessageExpiryInterval = seconds
        writer.publish(topic, payload, properties=sent)
    time.sleep(1.2)
    absent = Client(how, mqtt.MQTTv5, name=name, clean=False, expiry=60)
    message, = absent.take(1)
    assert message.payload == b"long" and 50 < message.properties.MessageExpiryInterval < 60
    absent.nothing()
    for one in (absent, writer):
        one.end()


def leave(how, version):
    topic, name = f"paho/{RUN}/{how}/{version}", f"paho-{RUN}-{how}-{version}"
    reader = Client(how, version, name=name, clean=False, expiry=600)
    reader.subscribe(filter_of(version, f"{topic}/+", 2))
    reader.end()
    writer = Client(how, version)
    for qos in (1, 2):
        writer.publish(f"{topic}/{qos}", str(qos), qos)
    writer.publish(f"{topic}/retained/of/it", "kept", retain=True)
    writer.end()


def back(how, version):
    topic, name = f"paho/{RUN}/{how}/{version}", f"paho-{RUN}-{how}-{version}"
    reader = Client(how, version, name=name, clean=False, expiry=600)
    assert reader.flags.session_present
    assert sorted((m.qos, m.payload) for m in reader.take(2)) == [(1, b"1"), (2, b"2")]
    reader.subscribe(filter_of(version, f"{topic}/retained/#", 1))
    message, = reader.take(1)
    assert (message.payload, message.retain) == (b"kept", True)
    reader.nothing()
    reader.end()


def main():
    for part in sys.argv[2:3]:
        for how in ("tcp", "tls", "websocket"):
            for version in (mqtt.MQTTv311, mqtt.MQTTv5):
                {"leave": leave, "back": back}[part](how, version)
        return print("all of it works")
    for how in ("tcp", "tls", "websocket"):
        for version in (mqtt.MQTTv311, mqtt.MQTTv5):
            for test in (both_ways, retained, will, session, refused_topics):
                test(how, version)
        for test in (shared, properties, expiry, refused):
            test(how)
    print("all of it works")


if __name__ == "__main__":
    main()
