"""What a broker must do, one function a behaviour; names end in the version they are of.

    behaviours.py HOST PORT [NAME…]        prints one JSON object a behaviour: {"name", "ok", "detail"}

What ends in `/nosubscribe` must be refused to subscribers. They cover what interoperability suites check, and the normative statements beside it (numbers are of the two
specifications). Each uses topics and client ids of its own, so that any can run alone, and on a broker in use.
"""

import json
import sys
import time
import traceback

from raw import (CONNACK, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, AUTH,
                 Client, Closed, Nothing)

ADDRESS = None
RUN = format(time.time_ns() % 0xFFFFFF, "x")
NEVER = 0xFFFFFFFF


def client(name="", version=5, **options):
    return Client(ADDRESS, f"{name}-{RUN}" if name else "", version, **options)


def topic(text):
    return f"b{RUN}/{text}"


def payloads(messages):
    return [message.payload for message in messages]


def equal(found, wanted):
    assert found == wanted, f"{found}, not {wanted}"


def retained_by(filter_, version=5, options=0, count=None):
    reader = client("", version)
    reader.subscribe((filter_, options))
    if count is not None and count > 0:
        reader.collect(count)
    else:
        reader.settle()
    messages = reader.messages
    reader.disconnect()
    return messages


# ---- both versions -------------------------------------------------------------------------------------------

def basic(version):
    """Every pair of QoS: the lower one wins; payloads are byte-exact."""
    reader, writer = client("basic-r", version), client("basic-w", version)
    for granted in (0, 1, 2):
        answer = reader.subscribe((topic(f"basic/{granted}"), granted))
        equal(answer.codes, [granted])
    body = bytes(range(256))
    for granted in (0, 1, 2):
        for qos in (0, 1, 2):
            reader.messages.clear()
            writer.publish(topic(f"basic/{granted}"), body, qos)
            got = reader.collect(1)[0]
            equal((got.qos, got.payload, got.retain, got.dup), (min(granted, qos), body, False, False))
    reader.messages.clear()
    writer.publish(topic("basic/0"), b"", 1)
    equal(reader.collect(1)[0].payload, b"")
    reader.disconnect()
    writer.disconnect()


def retained(version):
    """3.3.1.3: kept per topic, the last one, gone with an empty payload, flagged only for those who come later."""
    writer = client("retained-w", version)
    for qos in (0, 1, 2):
        writer.publish(topic(f"retained/{qos}"), b"old", qos, retain=True)
        writer.publish(topic(f"retained/{qos}"), f"kept {qos}", qos, retain=True)
    got = retained_by(topic("retained/+"), version, 2, count=3)
    equal(sorted(payloads(got)), [b"kept 0", b"kept 1", b"kept 2"])
    assert all(message.retain for message in got)
    equal(sorted(message.qos for message in got), [0, 1, 2])
    watcher = client("", version)
    watcher.subscribe((topic("retained/+"), 1))
    watcher.collect(3)
    for qos in (0, 1, 2):
        writer.publish(topic(f"retained/{qos}"), b"", qos, retain=True)
    later = watcher.collect(6)[3:]
    equal([(message.payload, message.retain) for message in later], [(b"", False)] * 3)
    equal(payloads(retained_by(topic("retained/#"), version)), [])
    writer.disconnect()


def retained_not_again(version):
    """A subscription made again sends the retained messages again (3.8.4)."""
    writer = client("", version)
    writer.publish(topic("again"), b"kept", 1, retain=True)
    reader = client("", version)
    for count in (1, 2):
        reader.subscribe((topic("again"), 1))
        reader.collect(count)
    writer.publish(topic("again"), b"", 1, retain=True)


def offline_queueing(version):
    """3.1.2.4: QoS 1 and 2 wait for an absent session, in order."""
    options = dict(clean=False, properties={"session_expiry": 60} if version == 5 else None)
    reader = client("offline", version, **options)
    equal(reader.connack.session_present, 0)
    reader.subscribe((topic("offline/#"), 2))
    reader.disconnect()
    writer = client("", version)
    for number in range(20):
        writer.publish(topic(f"offline/{number % 3}"), str(number), 1 + number % 2)
    writer.publish(topic("offline/last"), b"20", 1)
    reader = client("offline", version, **options)
    equal(reader.connack.session_present, 1)
    equal(payloads(reader.collect(21)), [str(n).encode() for n in range(21)])
    reader.unsubscribe(topic("offline/#"))
    reader.disconnect()
    client("offline", version, clean=True).disconnect()


def will(version):
    """3.1.2.5: published when a connection is lost, not after DISCONNECT."""
    watcher = client("", version)
    watcher.subscribe((topic("will/+"), 2))
    dying = client("", version, will=dict(topic=topic("will/lost"), payload=b"gone", qos=1, retain=True))
    dying.close()
    got = watcher.collect(1)[0]
    equal((got.topic, got.payload, got.qos, got.retain), (topic("will/lost"), b"gone", 1, False))
    equal(payloads(retained_by(topic("will/lost"), version, 1, count=1)), [b"gone"])
    leaving = client("", version, will=dict(topic=topic("will/left"), payload=b"gone"))
    leaving.disconnect()
    watcher.collect(1)
    client("", version).publish(topic("will/lost"), b"", 1, retain=True)


def will_on_keep_alive(version):
    """3.1.2.5: also when the client falls silent for one and a half times its keep-alive."""
    watcher = client("", version)
    watcher.subscribe((topic("silent"), 0))
    silent = client("", version, keep_alive=1, will=dict(topic=topic("silent"), payload=b"gone"))
    began = time.monotonic()
    watcher.collect(1, timeout=6)
    took = time.monotonic() - began
    assert 1.2 <= took <= 4, f"after {took:.1f} s of a keep-alive of 1 s"
    silent.close()


def overlapping(version):
    """4.7.3, 3.3.4: every matching subscription at most once; at the highest QoS if it is one message."""
    reader = client("", version)
    reader.subscribe((topic("over/#"), 2), (topic("over/+"), 1))
    client("", version).publish(topic("over/x"), b"x", 2)
    reader.settle()
    got = sorted(message.qos for message in reader.messages)
    assert got in ([2], [1, 2]), got


def keep_alive(version):
    """3.1.2.10: silence ends the connection after 1.5 times the keep-alive; pings keep it."""
    silent, lively = client("", version, keep_alive=1), client("", version, keep_alive=1)
    began = time.monotonic()
    while time.monotonic() - began < 2.6:
        lively.send(PINGREQ, 0, b"")
        equal(lively.read().kind, PINGRESP)
        time.sleep(0.4)
    lively.settle()
    lively.close()
    code = silent.ended()
    if version == 5:
        equal(code, 0x8D)


def keep_alive_0(version):
    """3.1.2.10: 0 turns it off."""
    quiet = client("", version, keep_alive=0)
    try:
        packet = quiet.read(3)
        raise AssertionError(f"{packet}")
    except Nothing:
        quiet.settle()


def redelivery(version):
    """4.4: what was not acknowledged is sent again, with DUP and the same packet identifier, and only then."""
    options = dict(clean=False, properties={"session_expiry": 60} if version == 5 else None)
    reader = client("redelivery", version, auto_ack=False, **options)
    reader.subscribe((topic("redelivery"), 2))
    writer = client("", version)
    for qos in (1, 2):
        writer.publish(topic("redelivery"), f"{qos}", qos)
    first = reader.collect(2)
    equal([message.dup for message in first], [False, False])
    reader.close()
    reader = client("redelivery", version, auto_ack=False, **options)
    equal(reader.connack.session_present, 1)
    second = reader.collect(2)
    equal([(m.packet_id, m.payload, m.dup) for m in second], [(m.packet_id, m.payload, True) for m in first])
    reader.ack(PUBACK, second[0].packet_id)
    reader.ack(PUBREC, second[1].packet_id)
    equal(reader.expect(PUBREL).packet_id, second[1].packet_id)
    reader.close()
    # PUBREC was given: only the release comes again (4.3.3).
    reader = client("redelivery", version, auto_ack=False, **options)
    equal(reader.expect(PUBREL).packet_id, second[1].packet_id)
    reader.ack(PUBCOMP, second[1].packet_id)
    reader.settle()
    equal(reader.messages, [])
    reader.close()
    reader = client("redelivery", version, auto_ack=False, **options)
    reader.settle()
    equal(reader.messages, [])
    reader.disconnect()
    client("redelivery", version).disconnect()


def qos_2_once(version):
    """4.3.3: a repeated PUBLISH of QoS 2 is one message, also over another connection."""
    options = dict(clean=False, properties={"session_expiry": 60} if version == 5 else None)
    watcher = client("", version)
    watcher.subscribe((topic("once"), 2))
    writer = client("once", version, **options)
    writer.publish(topic("once"), b"a", 2, packet_id=77, wait=False)
    writer.expect(PUBREC, 77)
    writer.publish(topic("once"), b"a", 2, packet_id=77, dup=True, wait=False)
    writer.expect(PUBREC, 77)
    writer.close()
    writer = client("once", version, **options)
    writer.publish(topic("once"), b"a", 2, packet_id=77, dup=True, wait=False)
    writer.expect(PUBREC, 77)
    writer.ack(PUBREL, 77)
    writer.expect(PUBCOMP, 77)
    writer.publish(topic("once"), b"b", 2, packet_id=77, wait=False)
    writer.expect(PUBREC, 77)
    writer.ack(PUBREL, 77)
    writer.expect(PUBCOMP, 77)
    equal(payloads(watcher.collect(2)), [b"a", b"b"])
    # A release of what is not known is answered, so that the client can go on.
    writer.ack(PUBREL, 999)
    equal(writer.expect(PUBCOMP, 999).code, 0x92 if version == 5 else 0)
    writer.disconnect()
    client("once", version).disconnect()


def dollar_topics(version):
    """4.7.2: wildcards do not match topics that begin with $."""
    reader = client("", version)
    reader.subscribe(("#", 1), ("+/dollar", 1))
    reader.settle()
    reader.messages.clear()
    writer = client("", version)
    try:
        writer.publish("$x/dollar", b"hidden", 1)
    except Closed:
        pass  # A broker may refuse to publish there at all.
    reader.settle()
    equal([m for m in reader.messages if m.topic.startswith("$")], [])


def unsubscribe(version):
    """3.10: nothing more after UNSUBACK, also for those that were never there."""
    reader, writer = client("", version), client("", version)
    reader.subscribe((topic("un/a"), 1), (topic("un/b"), 1))
    answer = reader.unsubscribe(topic("un/a"), topic("un/never"))
    if version == 5:
        equal(answer.codes, [0x00, 0x11])
    for name in "ab":
        writer.publish(topic(f"un/{name}"), name, 1)
    equal(payloads(reader.collect(1)), [b"b"])


def subscribe_failure(version):
    """3.9.3: what is not allowed is refused by its code, and what was asked for beside it stands."""
    reader, writer = client("", version), client("", version)
    answer = reader.subscribe((topic("nosubscribe"), 2), (topic("allowed"), 1))
    equal(answer.codes, [0x80 if version == 4 else 0x87, 1])
    writer.publish(topic("nosubscribe"), b"hidden", 1)
    writer.publish(topic("allowed"), b"seen", 1)
    equal(payloads(reader.collect(1)), [b"seen"])


def wildcards(version):
    """4.7.1: which filters match which topics."""
    reader, writer = client("", version), client("", version)
    base = topic("wild")
    for filter_, name, matches in [
        ("#", "a", True), ("#", "a/b", True), ("+", "a", True), ("+", "a/b", False), ("+/+", "/", True),
        ("a/#", "a", True), ("a/+", "a", False), ("a/+", "a/", True), ("+/b/#", "a/b", True), ("a", "A", False),
        ("/a", "a", False), ("+/", "a", False), ("a//b", "a//b", True), ("a/+/b", "a//b", True),
    ]:
        reader.messages.clear()
        reader.subscribe((f"{base}/{filter_}", 0))
        writer.publish(f"{base}/{name}", b"x", 1)
        reader.settle(0.05)
        equal((filter_, name, len(reader.messages) == 1), (filter_, name, matches))
        reader.unsubscribe(f"{base}/{filter_}")


def zero_length_id(version):
    """3.1.3.1: a clean client may have none; with 3.1.1 only a clean one."""
    nameless = client("", version)
    equal(nameless.connack.code, 0)
    if version == 5:
        assert nameless.connack.properties["assigned_client_id"]
    nameless.disconnect()
    if version == 4:
        refused = Client(ADDRESS, "", 4, clean=False)
        equal((refused.connack.code, refused.connack.session_present), (2, 0))
        refused.ended()


def take_over(version):
    """3.1.4: the newer connection of a client id ends the older one; the session goes on."""
    options = dict(clean=False, properties={"session_expiry": 60} if version == 5 else None)
    older = client("taken", version, **options)
    older.subscribe((topic("taken"), 1))
    newer = client("taken", version, **options)
    equal(newer.connack.session_present, 1)
    code = older.ended()
    if version == 5:
        equal(code, 0x8E)
    client("", version).publish(topic("taken"), b"x", 1)
    newer.collect(1)
    newer.disconnect()
    client("taken", version).disconnect()


def clean_session(version):
    """3.1.2.4: a clean start ends what was kept, and keeps nothing after it."""
    options = dict(clean=False, properties={"session_expiry": 60} if version == 5 else None)
    kept = client("clean", version, **options)
    kept.subscribe((topic("clean"), 1))
    kept.disconnect()
    clean = client("clean", version)
    equal(clean.connack.session_present, 0)
    client("", version).publish(topic("clean"), b"x", 1)
    clean.settle()
    equal(clean.messages, [])
    clean.subscribe((topic("clean"), 1))
    clean.disconnect()
    again = client("clean", version, clean=False)
    equal(again.connack.session_present, 0)
    again.settle()
    equal(again.messages, [])
    again.disconnect()
    client("clean", version).disconnect()


def order(version):
    """4.6: messages of one publisher and topic arrive in order, whatever the window."""
    reader, writer = client("", version), client("", version)
    reader.subscribe((topic("order"), 1))
    batch = b"".join(
        writer.publish_packet(topic("order"), str(n).encode(), 1, packet_id=n + 1) for n in range(100))
    writer.send_bytes(batch)
    acknowledged = [writer.expect(PUBACK).packet_id for _ in range(100)]
    equal(acknowledged, list(range(1, 101)))
    equal(payloads(reader.collect(100)), [str(n).encode() for n in range(100)])


def large(version):
    """A message of 200 KiB, byte by byte on its way in."""
    reader, writer = client("", version), client("", version)
    reader.subscribe((topic("large"), 1))
    body = bytes(n * 7 % 256 for n in range(200 * 1024))
    packet = writer.publish_packet(topic("large"), body, 1, packet_id=5)
    writer.send_bytes(packet[:1])
    for at in range(1, 6):
        time.sleep(0.02)
        writer.send_bytes(packet[at:at + 1])
    writer.send_bytes(packet[6:])
    writer.expect(PUBACK, 5)
    equal(reader.collect(1, timeout=10)[0].payload, body)


def malformed(version):
    """Who breaks the protocol is disconnected (4.13), and nobody else notices."""
    witness = client("", version)
    for name, data in [
        ("reserved flags of SUBSCRIBE", b"\x80\x06\x00\x01\x00\x01a\x00"),
        ("QoS 3", b"\x36\x06\x00\x01a\x00\x01x"),
        ("packet type 0", b"\x00\x00"),
        ("length of five bytes", b"\x30\xff\xff\xff\xff\x01"),
        ("second CONNECT", b"\x10\x10\x00\x04MQTT\x04\x02\x00\x0a\x00\x04aaaa"),
        ("wildcard in a topic", b"\x30\x04\x00\x02a#" if version == 4 else b"\x30\x05\x00\x02a#\x00"),
        ("topic with NUL", b"\x30\x04\x00\x02a\x00" if version == 4 else b"\x30\x05\x00\x02a\x00\x00"),
        ("empty topic", b"\x30\x02\x00\x00" if version == 4 else b"\x30\x03\x00\x00\x00"),
        ("packet identifier 0", b"\x32\x06\x00\x01a\x00\x00\x00"),
        ("SUBSCRIBE of nothing", b"\x82\x02\x00\x01" if version == 4 else b"\x82\x03\x00\x01\x00"),
        ("no UTF-8", b"\x30\x04\x00\x02\xff\xfe" if version == 4 else b"\x30\x05\x00\x02\xff\xfe\x00"),
        ("a packet of the server", b"\x20\x02\x00\x00"),
    ]:
        rude = client("", version)
        rude.send_bytes(data)
        try:
            code = rude.ended(3)
        except Nothing:
            raise AssertionError(f"{name}: not disconnected") from None
        assert version == 4 or code is None or code >= 0x80, f"{name}: code {code}"
    witness.settle()


def not_mqtt(version):
    """What does not begin with a CONNECT that is one is not talked to (3.1)."""
    for name, data in [
        ("PUBLISH first", b"\x30\x03\x00\x01a"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("wrong name", b"\x10\x0f\x00\x03MQX\x04\x02\x00\x0a\x00\x04aaaa"),
        ("reserved flag", b"\x10\x10\x00\x04MQTT\x04\x03\x00\x0a\x00\x04aaaa"),
    ]:
        rude = client("", version, connect=False)
        rude.send_bytes(data)
        try:
            assert rude.ended(3) is None
        except Nothing:
            raise AssertionError(f"{name}: not disconnected") from None
        except AssertionError:
            pass
    # Whoever knows 5.0 answers in its words, whatever the level was (3.1.2.2).
    refused = client("", 5, connect=False)
    refused.send_connect("x", level=9)
    try:
        answer = refused.read(3)
        assert answer.kind == CONNACK and answer.code in (1, 0x84), answer
    except Closed:
        pass


# ---- 3.1.1 alone ---------------------------------------------------------------------------------------------

def return_codes_of_subscribe_v3():
    """3.9.3: one code a filter, in order."""
    answer = client("", 4).subscribe((topic("a"), 0), (topic("b/#"), 2), (topic("c"), 1))
    equal(answer.codes, [0, 2, 1])


# ---- 5 alone -------------------------------------------------------------------------------------------------

def session_expiry_v5():
    """3.1.2.11.2: 0 ends with the connection, n after n seconds, and DISCONNECT can change it."""
    client("expiry", properties={"session_expiry": 0}, clean=False).disconnect()
    equal(client("expiry", clean=False).connack.session_present, 0)
    client("expiry", properties={"session_expiry": 2}).close()
    back = client("expiry", properties={"session_expiry": 2}, clean=False)
    equal(back.connack.session_present, 1)
    back.close()
    time.sleep(3.5)
    back = client("expiry", properties={"session_expiry": 30}, clean=False)
    equal(back.connack.session_present, 0)
    back.disconnect(properties={"session_expiry": 0})
    equal(client("expiry", clean=False).connack.session_present, 0)
    # From 0 it cannot be raised (3.14.2.2.2).
    zero = client("expiry", clean=True)
    zero.send(DISCONNECT, 0, b"\x00\x05\x11\x00\x00\x00\x10")
    assert zero.ended() in (0x82, None)
    equal(client("expiry", clean=False).connack.session_present, 0)


def shared_v5():
    """4.8.2: each message to one of the group; others get theirs."""
    readers = [client() for _ in range(3)]
    for reader in readers:
        equal(reader.subscribe((f"$share/g{RUN}/{topic('shared/+')}", 1)).codes, [1])
    alone = client()
    alone.subscribe((topic("shared/+"), 1))
    other_group = client()
    other_group.subscribe((f"$share/h{RUN}/{topic('shared/+')}", 1))
    writer = client()
    wanted = sorted(str(n).encode() for n in range(60))
    for number in range(60):
        writer.publish(topic(f"shared/{number % 2}"), str(number), 1)
    equal(sorted(payloads(alone.collect(60))), wanted)
    equal(sorted(payloads(other_group.collect(60))), wanted)
    for reader in readers:
        reader.settle()
    together = [payload for reader in readers for payload in payloads(reader.messages)]
    equal(sorted(together), wanted)
    assert sum(1 for reader in readers if reader.messages) > 1, "one has got them all"


def shared_leaver_v5():
    """4.8.2: what one of the group leaves behind unacknowledged goes to another, or to it again."""
    group = f"$share/l{RUN}/{topic('leaver')}"
    stays, leaves = client("stays"), client("leaves", auto_ack=False)
    for reader in (stays, leaves):
        reader.subscribe((group, 1))
    writer = client()
    for number in range(10):
        writer.publish(topic("leaver"), str(number), 1)
    leaves.settle()
    leaves.close()
    deadline = time.monotonic() + 5
    while len(set(payloads(stays.messages))) < 10 and time.monotonic() < deadline:
        stays.settle(0.1)
    equal(len(set(payloads(stays.messages))), 10)


def shared_wrong_v5():
    """4.8.2, 3.8.3.1: no local is a protocol error for a shared subscription; retained are not sent."""
    writer = client()
    writer.publish(topic("shared-kept"), b"x", 1, retain=True)
    reader = client()
    reader.subscribe((f"$share/w{RUN}/{topic('shared-kept')}", 1))
    reader.settle()
    equal(reader.messages, [])
    writer.publish(topic("shared-kept"), b"", 1, retain=True)
    rude = client()
    rude.subscribe((f"$share/w{RUN}/a", 4), wait=False)
    assert rude.ended() in (0x82, None)


def user_properties_v5():
    """3.3.2.3.7: all of them, in order, also those that repeat."""
    reader, writer = client(), client()
    reader.subscribe((topic("user"), 2))
    properties = {"user": [("a", "1"), ("b", "ü"), ("a", "2"), ("", "")], "content_type": "x/y",
                  "correlation_data": b"\0\xff", "response_topic": "r"}
    for qos in (0, 1, 2):
        writer.publish(topic("user"), b"x", qos, properties=properties)
    for message in reader.collect(3):
        equal(message.properties, properties)


def payload_format_v5():
    """3.3.2.3.2: passed on as it is."""
    reader, writer = client(), client()
    reader.subscribe((topic("format"), 1))
    writer.publish(topic("format"), "ü", 1, properties={"payload_format": 1, "content_type": "text/plain"})
    writer.publish(topic("format"), b"\xff", 1, properties={"payload_format": 0})
    first, second = reader.collect(2)
    equal(first.properties, {"payload_format": 1, "content_type": "text/plain"})
    equal(second.properties.get("payload_format", 0), 0)


def publication_expiry_v5():
    """3.3.2.3.3: what waits too long is not sent; what remains is counted down."""
    options = dict(clean=False, properties={"session_expiry": 60})
    client("pub-expiry", **options).disconnect()
    reader = client("pub-expiry", **options)
    reader.subscribe((topic("pub-expiry"), 2))
    reader.disconnect()
    writer = client()
    for payload, expiry in ((b"short", 1), (b"long", 20), (b"short too", 1)):
        writer.publish(topic("pub-expiry"), payload, 1, properties={"message_expiry": expiry})
    writer.publish(topic("pub-expiry"), b"without", 2)
    time.sleep(2.5)
    reader = client("pub-expiry", **options)
    got = reader.collect(2)
    equal(payloads(got), [b"long", b"without"])
    assert 15 <= got[0].properties["message_expiry"] <= 18, got[0].properties
    equal(got[1].properties, {})
    reader.disconnect()
    client("pub-expiry").disconnect()


def retained_expiry_v5():
    """3.3.2.3.3: also of retained messages."""
    writer = client()
    writer.publish(topic("kept-expiry"), b"x", 1, retain=True, properties={"message_expiry": 2})
    got = retained_by(topic("kept-expiry"), count=1)
    assert got[0].properties["message_expiry"] in (1, 2)
    time.sleep(3)
    equal(retained_by(topic("kept-expiry")), [])


def subscribe_options_v5():
    """3.8.3.1: no local, retain as published, retain handling."""
    both = client()
    both.subscribe((topic("local/no"), 2 | 4), (topic("local/yes"), 2))
    for name in ("no", "yes"):
        both.publish(topic(f"local/{name}"), name, 1)
    equal(payloads(both.collect(1)), [b"yes"])
    client().publish(topic("local/no"), b"other", 1)
    equal(payloads(both.collect(2)), [b"yes", b"other"])

    as_published, as_usual, writer = client(), client(), client()
    as_published.subscribe((topic("rap"), 1 | 8))
    as_usual.subscribe((topic("rap"), 1))
    writer.publish(topic("rap"), b"1", 1, retain=True)
    writer.publish(topic("rap"), b"2", 1)
    equal([m.retain for m in as_published.collect(2)], [True, False])
    equal([m.retain for m in as_usual.collect(2)], [False, False])

    for handling, first, second in ((0, 1, 2), (1, 1, 1), (2, 0, 0)):
        reader = client()
        for count in (first, second):
            reader.subscribe((topic("rap"), 1 | handling << 4))
            reader.collect(count) if count else reader.settle()
            equal(len(reader.messages), count)
    writer.publish(topic("rap"), b"", 1, retain=True)


def subscription_ids_v5():
    """3.8.2.1.2: with each message, those of all subscriptions that match it."""
    reader, writer = client(), client()
    reader.subscribe((topic("ids/a"), 2), properties={"subscription_id": [456789]})
    reader.subscribe((topic("ids/+"), 1), properties={"subscription_id": [2]})
    reader.subscribe((topic("ids/other"), 1))
    writer.publish(topic("ids/b"), b"b", 1)
    equal(reader.collect(1)[0].properties, {"subscription_id": [2]})
    writer.publish(topic("ids/a"), b"a", 1)
    reader.settle()
    found = sorted(i for m in reader.messages[1:] for i in m.properties["subscription_id"])
    equal(found, [2, 456789])
    # Subscribed to again, it is replaced (3.8.4).
    reader.subscribe((topic("ids/+"), 1))
    reader.messages.clear()
    writer.publish(topic("ids/b"), b"b", 1)
    equal(reader.collect(1)[0].properties, {})


def request_response_v5():
    """4.10: the response topic and the correlation data reach the responder, and the answer comes back."""
    asks, answers = client(), client()
    asks.subscribe((topic("answer"), 1))
    answers.subscribe((topic("ask"), 1))
    asks.publish(topic("ask"), b"?", 1,
                 properties={"response_topic": topic("answer"), "correlation_data": b"334"})
    question = answers.collect(1)[0]
    equal(question.properties, {"response_topic": topic("answer"), "correlation_data": b"334"})
    answers.publish(question.properties["response_topic"], b"!", 1,
                    properties={"correlation_data": question.properties["correlation_data"]})
    equal(asks.collect(1)[0].properties, {"correlation_data": b"334"})


def client_topic_alias_v5():
    """3.3.2.3.4: aliases of the client, per connection, up to the maximum of CONNACK."""
    reader, writer = client(), client()
    maximum = writer.connack.properties.get("topic_alias_maximum", 0)
    assert maximum > 0, "the broker takes no aliases"
    reader.subscribe((topic("alias/+"), 2))
    for qos in (0, 1, 2):
        writer.publish(topic("alias/a"), b"1", qos, properties={"topic_alias": 1})
        writer.publish("", b"2", qos, properties={"topic_alias": 1})
    writer.publish(topic("alias/b"), b"3", 1, properties={"topic_alias": 1})
    writer.publish("", b"4", 1, properties={"topic_alias": 1})
    got = reader.collect(8)
    equal([m.topic for m in got], [topic("alias/a")] * 6 + [topic("alias/b")] * 2)
    equal({json.dumps(m.properties) for m in got}, {"{}"})
    for properties, name in (({"topic_alias": maximum + 1}, "a"), ({"topic_alias": 0}, "a"),
                             ({"topic_alias": 2}, "")):
        rude = client()
        rude.send_bytes(rude.publish_packet(name, b"x", 0, properties=properties))
        assert rude.ended() in (0x94, 0x82, None)


def server_topic_alias_v5():
    """3.1.2.11.5: towards a client as many as it allows, and none to one that allows none."""
    reader, plain, writer = client(properties={"topic_alias_maximum": 1}), client(), client()
    for one in (reader, plain):
        one.subscribe((topic("server-alias/+"), 1))
    names = ["a", "a", "b", "a", "b"]
    for name in names:
        writer.publish(topic(f"server-alias/{name}"), name, 1)
    known, seen = {}, []
    for message in reader.collect(len(names)):
        alias = message.properties.get("topic_alias")
        assert alias in (None, 1), f"alias {alias} where 1 is the maximum"
        if message.topic and alias:
            known[alias] = message.topic
        seen.append(message.topic or known[alias])
    equal(seen, [topic(f"server-alias/{name}") for name in names])
    equal({json.dumps(m.properties) for m in plain.collect(len(names))}, {"{}"})
    assert any("topic_alias" in m.properties for m in reader.messages), "no alias was used"


def maximum_packet_size_v5():
    """3.1.2.11.4: larger packets are not sent to that client; ours are refused with 0x95."""
    reader, writer = client(properties={"maximum_packet_size": 200}), client()
    reader.subscribe((topic("size"), 1))
    writer.publish(topic("size"), b"x" * 50, 1)
    writer.publish(topic("size"), b"x" * 500, 1)
    writer.publish(topic("size"), b"y" * 50, 1)
    equal(payloads(reader.collect(2)), [b"x" * 50, b"y" * 50])
    limit = writer.connack.properties.get("maximum_packet_size")
    assert limit, "the broker names no maximum packet size"
    writer.send_bytes(b"\x30\xff\xff\xff\x7f" + bytes(1000))
    equal(writer.ended(), 0x95)


def server_keep_alive_v5():
    """3.2.2.3.14: where the broker says one, it holds for the client."""
    patient = client(keep_alive=65535)
    said = patient.connack.properties.get("server_keep_alive")
    assert said is None or 0 < said < 65535
    patient.settle()


def flow_control_to_client_v5():
    """4.9: no more unacknowledged messages than the client's receive maximum."""
    reader, writer = client(auto_ack=False, properties={"receive_maximum": 2}), client()
    reader.subscribe((topic("flow"), 2))
    for number in range(6):
        writer.publish(topic("flow"), str(number), 1 + number % 2)
    for number in range(6):
        while len(reader.messages) < min(number + 2, 6):
            reader.take(reader.read())
        reader.settle(0.1)
        equal(len(reader.messages), min(number + 2, 6))
        message = reader.messages[number]
        equal(message.payload, str(number).encode())
        if message.qos == 1:
            reader.ack(PUBACK, message.packet_id)
        else:
            reader.ack(PUBREC, message.packet_id)
            reader.expect(PUBREL, message.packet_id)
            reader.ack(PUBCOMP, message.packet_id)


def flow_control_of_client_v5():
    """4.9: a client that sends more than the broker's receive maximum is disconnected with 0x93."""
    writer = client()
    allowed = writer.connack.properties.get("receive_maximum", 65535)
    assert 0 < allowed < 65535, "the broker names no receive maximum"
    # Never released, all of them stay under way.
    for packet_id in range(1, allowed + 1):
        writer.publish(topic("flood"), b"x", 2, packet_id=packet_id, wait=False)
    for _ in range(allowed):
        writer.expect(PUBREC, timeout=10)
    writer.publish(topic("flood"), b"x", 2, packet_id=allowed + 1, wait=False)
    equal(writer.ended(), 0x93)


def will_delay_v5():
    """3.1.3.2.2: it waits, and is not sent if the client comes back before."""
    watcher = client()
    watcher.subscribe((topic("delay"), 1))
    will_ = dict(topic=topic("delay"), payload=b"late", qos=1,
                 properties={"will_delay": 2, "user": [("a", "b")], "message_expiry": 60})
    options = dict(will=will_, properties={"session_expiry": 60})
    began = time.monotonic()
    client("delay", **options).close()
    got = watcher.collect(1, timeout=6)[0]
    took = time.monotonic() - began
    assert 1.7 < took < 4, f"after {took:.1f} s of 2"
    equal(got.properties["user"], [("a", "b")])
    assert 58 <= got.properties["message_expiry"] <= 60
    client("delay", **options).close()
    time.sleep(0.5)
    back = client("delay", clean=False, properties={"session_expiry": 60})
    time.sleep(2.5)
    watcher.settle()
    equal(len(watcher.messages), 1)
    back.disconnect(properties={"session_expiry": 0})
    # The session's end sends it, whatever the delay.
    ending = client("delay-end", will={**will_, "properties": {"will_delay": 60}},
                    properties={"session_expiry": 1})
    ending.close()
    watcher.collect(2, timeout=6)


def will_properties_v5():
    """3.1.3.2: a will is a message like others; DISCONNECT 0x04 asks for it."""
    watcher = client()
    watcher.subscribe((topic("will-5"), 2))
    properties = {"payload_format": 1, "content_type": "text/plain", "response_topic": "r",
                  "correlation_data": b"c", "user": [("a", "1"), ("a", "2")]}
    leaving = client(will=dict(topic=topic("will-5"), payload=b"bye", qos=2, properties=properties))
    leaving.disconnect(code=0x04)
    got = watcher.collect(1)[0]
    equal((got.qos, got.payload, got.properties), (2, b"bye", properties))


def assigned_id_v5():
    """3.2.2.3.7: a client without id is told its own, and can come back under it."""
    nameless = Client(ADDRESS, "", 5, clean=True, properties={"session_expiry": 60})
    assigned = nameless.connack.properties["assigned_client_id"]
    other = Client(ADDRESS, "", 5)
    assert other.connack.properties["assigned_client_id"] != assigned
    nameless.disconnect()
    back = Client(ADDRESS, assigned, 5, clean=False)
    equal(back.connack.session_present, 1)
    assert "assigned_client_id" not in back.connack.properties
    back.disconnect()


def enhanced_auth_v5():
    """3.1.2.11.9, 4.12: a method that is not known is refused with 0x8C; AUTH without one is an error."""
    refused = client(properties={"auth_method": "X", "auth_data": b"x"})
    equal(refused.connack.code, 0x8C)
    refused.ended()
    rude = client()
    rude.send(AUTH, 0, b"\x18\x00")
    assert rude.ended() in (0x82, None)


def reason_codes_v5():
    """Of SUBACK and of PUBACK without subscribers; DISCONNECT of the client with a code."""
    reader = client()
    equal(reader.subscribe((topic("rc/a"), 0), (topic("rc/+"), 1), (topic("rc/#"), 2)).codes, [0, 1, 2])
    assert client().publish(topic("rc-nobody"), b"x", 1).code in (0x00, 0x10)
    reader.disconnect(code=0x80)


def wrong_properties_v5():
    """2.2.2.2, 3.1.2.11: properties that repeat, or have no place in a packet, are errors."""
    for name, body in [
        ("unknown property", b"\x00\x01a\x02\x7f\x00"),
        ("message expiry twice", b"\x00\x01a\x0a\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01"),
        ("session expiry in PUBLISH", b"\x00\x01a\x05\x11\x00\x00\x00\x01"),
        ("payload format 2", b"\x00\x01a\x02\x01\x02"),
        ("subscription id from a client", b"\x00\x01a\x02\x0b\x01"),
        ("wildcard in the response topic", b"\x00\x01a\x04\x08\x00\x01#"),
    ]:
        rude = client()
        rude.send(PUBLISH, 0, body)
        try:
            code = rude.ended(3)
        except Nothing:
            raise AssertionError(f"{name}: not disconnected") from None
        assert code is None or code >= 0x80, f"{name}: {code}"
    for name, body in [("subscription id 0", b"\x00\x01\x02\x0b\x00\x00\x01a\x00"),
                       ("retain handling 3", b"\x00\x01\x00\x00\x01a\x30"),
                       ("reserved option", b"\x00\x01\x00\x00\x01a\x40")]:
        rude = client()
        rude.send(8, 2, body)
        try:
            rude.ended(3)
        except Nothing:
            raise AssertionError(f"{name}: not disconnected") from None


BOTH = [basic, retained, retained_not_again, offline_queueing, will, will_on_keep_alive, overlapping, keep_alive,
        keep_alive_0, redelivery, qos_2_once, dollar_topics, unsubscribe, subscribe_failure, wildcards, zero_length_id, take_over,
        clean_session, order, large, malformed, not_mqtt]


def behaviours():
    found = {}
    for function in BOTH:
        for version, suffix in ((4, "v3"), (5, "v5")):
            found[f"{function.__name__}_{suffix}"] = lambda function=function, version=version: function(version)
    for name, function in globals().items():
        if name.endswith(("_v3", "_v5")) and callable(function):
            found[name] = function
    return found


def main():
    global ADDRESS
    ADDRESS = (sys.argv[1], int(sys.argv[2]))
    wanted = sys.argv[3:]
    for name, function in behaviours().items():
        if wanted and name not in wanted:
            continue
        began = time.monotonic()
        try:
            function()
            ok, detail = True, ""
        except (Exception, AssertionError) as error:  # Any failure is a finding, whatever its kind.
            at = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(at) if frame.filename == __file__), None)
            ok, detail = False, f"{type(error).__name__}: {error} (line {line})"
        seconds = round(time.monotonic() - began, 2)
        print(json.dumps({"name": name, "ok": ok, "detail": detail, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
