"""An MQTT client that sends and sees every packet as it is, for what libraries hide or refuse to send."""

import socket
import struct
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 8, 9, 10, 11, 12, 13, 14, 15
ACKS = (PUBACK, PUBREC, PUBREL, PUBCOMP)

# Of MQTT 5.0, 2.2.2.2: number, name, form.
PROPERTIES = [
    (0x01, "payload_format", "byte"), (0x02, "message_expiry", "four"), (0x03, "content_type", "text"),
    (0x08, "response_topic", "text"), (0x09, "correlation_data", "binary"), (0x0B, "subscription_id", "variable"),
    (0x11, "session_expiry", "four"), (0x12, "assigned_client_id", "text"), (0x13, "server_keep_alive", "two"),
    (0x15, "auth_method", "text"), (0x16, "auth_data", "binary"), (0x17, "request_problem_info", "byte"),
    (0x18, "will_delay", "four"), (0x19, "request_response_info", "byte"), (0x1A, "response_info", "text"),
    (0x1C, "server_reference", "text"), (0x1F, "reason", "text"), (0x21, "receive_maximum", "two"),
    (0x22, "topic_alias_maximum", "two"), (0x23, "topic_alias", "two"), (0x24, "maximum_qos", "byte"),
    (0x25, "retain_available", "byte"), (0x26, "user", "pair"), (0x27, "maximum_packet_size", "four"),
    (0x28, "wildcards_available", "byte"), (0x29, "subscription_ids_available", "byte"),
    (0x2A, "shared_available", "byte"),
]
BY_NUMBER = {number: (name, form) for number, name, form in PROPERTIES}
BY_NAME = {name: (number, form) for number, name, form in PROPERTIES}
REPEATED = ("user", "subscription_id")


class Closed(Exception):
    """The broker ended the connection."""


class Nothing(Exception):
    """Nothing came in time."""


def variable(number):
    out = bytearray()
    while True:
        byte, number = number & 0x7F, number >> 7
        out.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(out)


def binary(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">H", len(data)) + data


def encode_property(name, value):
    number, form = BY_NAME[name]
    body = {
        "byte": lambda: bytes([value]), "two": lambda: struct.pack(">H", value),
        "four": lambda: struct.pack(">I", value), "variable": lambda: variable(value),
        "text": lambda: binary(value), "binary": lambda: binary(value),
        "pair": lambda: binary(value[0]) + binary(value[1]),
    }[form]()
    return bytes([number]) + body


def encode_properties(properties):
    out = b""
    for name, value in (properties or {}).items():
        for one in value if name in REPEATED and isinstance(value, list) else [value]:
            out += encode_property(name, one)
    return variable(len(out)) + out


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data), "the broker sent a packet that ends within a field"
        self.at += count
        return self.data[self.at - count:self.at]

    def rest(self):
        return self.take(len(self.data) - self.at)

    def byte(self):
        return self.take(1)[0]

    def two(self):
        return struct.unpack(">H", self.take(2))[0]

    def four(self):
        return struct.unpack(">I", self.take(4))[0]

    def binary(self):
        return self.take(self.two())

    def text(self):
        return self.binary().decode("utf-8")

    def variable(self):
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return number
            shift += 7

    def properties(self):
        end = self.variable()
        end += self.at
        found = {}
        while self.at < end:
            name, form = BY_NUMBER[self.variable()]
            if form == "pair":
                value = (self.text(), self.text())
            else:
                value = getattr(self, form)()
            if name in REPEATED:
                found.setdefault(name, []).append(value)
            else:
                assert name not in found, f"{name} twice"
                found[name] = value
        return found


class Packet:
    """Fields that its kind does not have are None."""

    def __init__(self, kind, flags, body, version):
        self.kind, self.flags, self.body = kind, flags, body
        self.topic = self.payload = self.packet_id = self.code = self.codes = self.session_present = None
        self.properties = {}
        reader = Reader(body)
        five = version == 5
        if kind == CONNACK:
            self.session_present, self.code = reader.byte(), reader.byte()
            if five and reader.at < len(body):
                self.properties = reader.properties()
        elif kind == PUBLISH:
            self.dup, self.qos, self.retain = bool(flags & 8), (flags >> 1) & 3, bool(flags & 1)
            self.topic = reader.text()
            self.packet_id = reader.two() if self.qos else None
            if five:
                self.properties = reader.properties()
            self.payload = reader.rest()
        elif kind in ACKS:
            self.packet_id, self.code = reader.two(), 0
            if reader.at < len(body):
                self.code = reader.byte()
            if reader.at < len(body):
                self.properties = reader.properties()
        elif kind in (SUBACK, UNSUBACK):
            self.packet_id = reader.two()
            if five:
                self.properties = reader.properties()
            self.codes = list(reader.rest())
        elif kind in (DISCONNECT, AUTH):
            self.code = reader.byte() if body else 0
            if reader.at < len(body):
                self.properties = reader.properties()
        assert reader.at == len(body), f"bytes after the end of a packet of kind {kind}"

    def __repr__(self):
        shown = {k: v for k, v in self.__dict__.items() if v not in (None, {}, b"") and k not in ("body",)}
        return f"Packet({shown})"


class Client:
    def __init__(self, address, client_id="", version=5, clean=True, keep_alive=60, will=None, user=None,
                 password=None, properties=None, connect=True, auto_ack=True, protocol=b"MQTT", level=None):
        self.version, self.auto_ack = version, auto_ack
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.messages, self.next_id, self.received_ids = [], 0, set()
        self.connack = None
        if connect:
            self.send_connect(client_id, clean, keep_alive, will, user, password, properties, protocol, level)
            self.connack = self.expect(CONNACK)

    def send_connect(self, client_id, clean=True, keep_alive=60, will=None, user=None, password=None,
                     properties=None, protocol=b"MQTT", level=None):
        flags = 2 if clean else 0
        payload = binary(client_id)
        if will:
            flags |= 4 | will.get("qos", 0) << 3 | (32 if will.get("retain") else 0)
            if self.version == 5:
                payload += encode_properties(will.get("properties"))
            payload += binary(will["topic"]) + binary(will["payload"])
        if user is not None:
            flags |= 128
            payload += binary(user)
        if password is not None:
            flags |= 64
            payload += binary(password)
        head = binary(protocol) + bytes([level or (5 if self.version == 5 else 4), flags])
        head += struct.pack(">H", keep_alive)
        if self.version == 5:
            head += encode_properties(properties)
        self.send(CONNECT, 0, head + payload)

    def send(self, kind, flags, body):
        self.send_bytes(bytes([kind << 4 | flags]) + variable(len(body)) + body)

    def send_bytes(self, data):
        self.socket.sendall(data)

    def ids(self):
        self.next_id = self.next_id % 65535 + 1
        return self.next_id

    def publish_packet(self, topic, payload=b"", qos=0, retain=False, properties=None, dup=False, packet_id=None):
        payload = payload.encode() if isinstance(payload, str) else payload
        body = binary(topic)
        if qos:
            body += struct.pack(">H", packet_id)
        if self.version == 5:
            body += encode_properties(properties)
        body += payload
        flags = (8 if dup else 0) | qos << 1 | (1 if retain else 0)
        return bytes([PUBLISH << 4 | flags]) + variable(len(body)) + body

    def publish(self, topic, payload=b"", qos=0, retain=False, properties=None, dup=False, packet_id=None,
                wait=True):
        """Returns the last acknowledgement, if it waits for one."""
        if qos and packet_id is None:
            packet_id = self.ids()
        self.send_bytes(self.publish_packet(topic, payload, qos, retain, properties, dup, packet_id))
        if not wait or not qos:
            return packet_id
        if qos == 1:
            return self.expect(PUBACK, packet_id)
        answer = self.expect(PUBREC, packet_id)
        if answer.code >= 0x80:
            return answer
        self.ack(PUBREL, packet_id)
        return self.expect(PUBCOMP, packet_id)

    def ack(self, kind, packet_id, code=0):
        body = struct.pack(">H", packet_id)
        if self.version == 5 and code:
            body += bytes([code])
        self.send(kind, 2 if kind == PUBREL else 0, body)

    def subscribe(self, *filters, properties=None, wait=True):
        """Filters are (filter, options); returns SUBACK."""
        packet_id = self.ids()
        body = struct.pack(">H", packet_id)
        if self.version == 5:
            body += encode_properties(properties)
        for name, options in filters:
            body += binary(name) + bytes([options])
        self.send(SUBSCRIBE, 2, body)
        return self.expect(SUBACK, packet_id) if wait else packet_id

    def unsubscribe(self, *filters):
        packet_id = self.ids()
        body = struct.pack(">H", packet_id)
        if self.version == 5:
            body += encode_properties(None)
        for name in filters:
            body += binary(name)
        self.send(UNSUBSCRIBE, 2, body)
        return self.expect(UNSUBACK, packet_id)

    def disconnect(self, code=0, properties=None):
        body = b""
        if self.version == 5 and (code or properties):
            body = bytes([code]) + encode_properties(properties)
        self.send(DISCONNECT, 0, body)
        # The broker has seen it once it ends the connection: who comes back at once is not a take-over.
        try:
            self.ended()
        except Nothing:
            pass
        self.close()

    def close(self):
        self.socket.close()

    def read(self, timeout=5.0):
        """The next packet, whatever it is."""
        deadline = time.monotonic() + timeout
        while True:
            packet = self.split()
            if packet:
                return packet
            left = deadline - time.monotonic()
            if left <= 0:
                raise Nothing(f"nothing within {timeout} s")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except socket.timeout:
                continue
            except OSError as error:
                raise Closed(str(error)) from error
            if not data:
                raise Closed("the broker ended the connection")
            self.buffer += data

    def split(self):
        length = shift = 0
        for at in range(1, len(self.buffer)):
            byte = self.buffer[at]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                end = at + 1 + length
                if len(self.buffer) < end:
                    return None
                first, body = self.buffer[0], self.buffer[at + 1:end]
                self.buffer = self.buffer[end:]
                return Packet(first >> 4, first & 15, body, self.version)
        return None

    def take(self, packet):
        """Answers a message as a subscriber does, each of QoS 2 once."""
        if packet.kind == PUBLISH:
            if packet.qos == 2 and packet.packet_id in self.received_ids:
                pass
            else:
                self.messages.append(packet)
            if self.auto_ack and packet.qos == 1:
                self.ack(PUBACK, packet.packet_id)
            elif self.auto_ack and packet.qos == 2:
                self.received_ids.add(packet.packet_id)
                self.ack(PUBREC, packet.packet_id)
        elif packet.kind == PUBREL and self.auto_ack:
            self.received_ids.discard(packet.packet_id)
            self.ack(PUBCOMP, packet.packet_id)

    def expect(self, kind, packet_id=None, timeout=5.0):
        """The next packet of this kind; messages that come before it are kept."""
        deadline = time.monotonic() + timeout
        while True:
            packet = self.read(max(0.01, deadline - time.monotonic()))
            if packet.kind == kind and packet_id in (None, packet.packet_id):
                return packet
            assert packet.kind in (PUBLISH, PUBREL, PINGRESP), f"{packet} in place of kind {kind}"
            self.take(packet)

    def collect(self, count, timeout=5.0):
        """So many messages, in all, and none more for a moment."""
        deadline = time.monotonic() + timeout
        while len(self.messages) < count:
            self.take(self.read(max(0.01, deadline - time.monotonic())))
        self.settle()
        assert len(self.messages) == count, f"{len(self.messages)} messages, not {count}: {self.messages}"
        return self.messages

    def settle(self, moment=0.15):
        """Takes what is on its way: until the answer to a ping, and a moment more."""
        self.send(PINGREQ, 0, b"")
        deadline = time.monotonic() + 5.0
        answered = False
        while True:
            try:
                packet = self.read(moment if answered else max(0.01, deadline - time.monotonic()))
            except Nothing:
                assert answered, "no answer to a ping"
                return
            if packet.kind == PINGRESP:
                answered = True
            else:
                self.take(packet)

    def ended(self, timeout=5.0):
        """How the broker ended it: the code of its DISCONNECT, or None."""
        code = None
        try:
            deadline = time.monotonic() + timeout
            while True:
                packet = self.read(max(0.01, deadline - time.monotonic()))
                if packet.kind == DISCONNECT:
                    code = packet.code
        except Closed:
            return code
