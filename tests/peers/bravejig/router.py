"""A BraveJIG USB router, as far as its line shows, on a pseudo terminal.

    router.py LINK [--mute]

LINK becomes the way to the terminal. Standard input takes an object a line: {"bytes": hex} goes out as it is,
{"uplink": {"sensor": 289, "data": hex, "device": id?, "rssi": n?}} as a frame once the router was started,
{"mute": bool} ends or begins answering, {"result": n, "times": n} is what modules answer next, {"garble": bool} puts
noise before every answer. Standard output tells, an object a line, what was asked, and what was done of this.
"""

import json
import os
import queue
import struct
import sys
import threading
import time
import tty

ROUTER = 0x1122334455667788
MODULE = 0x2468002401234567
VERSION = bytes([1, 4, 2])
CHUNK_MAX = 1024


class Router:
    def __init__(self, terminal, muted):
        self.terminal = terminal
        self.lock = threading.RLock()
        self.muted = muted
        self.garble = False
        self.started = False
        self.waiting = []
        self.results = queue.SimpleQueue()
        self.order = 0
        self.scan = 0
        self.modules = [MODULE, 0x2468002400000002]
        self.image = None
        self.expected = 0

    # ---- out

    def write(self, frame):
        with self.lock:
            while frame:
                frame = frame[os.write(self.terminal, frame):]

    def answer(self, frame):
        if not self.muted:
            self.write((b"\x00\x01noise" if self.garble else b"") + frame)

    def now(self):
        return int(time.time())

    def router_answer(self, command, data=b""):
        self.answer(struct.pack("<BBIBQ", 1, 2, self.now(), command, ROUTER) + data)

    def uplink(self, sensor, data, device=MODULE, rssi=-60):
        self.order = (self.order + 1) & 0xFFFF
        head = struct.pack("<BBHIQHbH", 1, 0, len(data), self.now(), device, sensor, rssi, self.order)
        with self.lock:
            if self.started:
                self.write(head + data)
            else:
                self.waiting.append(head + data)

    # ---- in

    def serve(self):
        buffer = b""
        while True:
            try:
                buffer += os.read(self.terminal, 4096)
            except OSError:
                return
            while True:
                used = self.take(buffer)
                if not used:
                    break
                buffer = buffer[used:]

    def take(self, buffer):
        """How many bytes of it were a request; 0 if one is not whole yet."""
        if self.image is not None:
            return self.take_chunk(buffer)
        if len(buffer) < 2:
            return 0
        kind = buffer[:2]
        if kind == b"\x01\x01":
            return self.take_router(buffer)
        if kind == b"\x01\x00":
            return self.take_module(buffer)
        if kind == b"\x01\x03":
            return self.take_firmware(buffer)
        tell({"request": "garbage", "byte": buffer[0]})
        return 1

    def take_router(self, buffer):
        if len(buffer) < 11:
            return 0
        command, local, unix = struct.unpack_from("<BII", buffer, 2)
        tell({"request": "router", "command": command, "offset": local - unix, "unix": unix})
        if command == 0x00:
            self.started = False
            self.router_answer(command, b"\x00")
        elif command == 0x01:
            self.router_answer(command, b"\x00")
            if not self.muted:
                self.started = True
                for frame in self.waiting:
                    self.write(frame)
                self.waiting.clear()
        elif command == 0x02:
            self.router_answer(command, VERSION)
        elif 0x03 <= command <= 0x66:
            index = command - 0x03
            known = self.modules[index] if index < len(self.modules) else 0
            self.router_answer(command, struct.pack("<Q", known))
        elif command == 0xCF:
            ids = b"".join(struct.pack("<Q", module) for module in self.modules)
            self.router_answer(command, bytes([len(self.modules)]) + ids)
        elif command == 0x67:
            self.router_answer(command, bytes([self.scan]))
        elif command in (0x69, 0x6A):
            self.scan = command - 0x69
            self.router_answer(command, b"\x00")
        elif command == 0x6B:
            self.modules.clear()
            self.router_answer(command, b"\x00")
        elif 0x6C <= command <= 0xCE:
            index = command - 0x6C
            if index < len(self.modules):
                del self.modules[index]
            self.router_answer(command, b"\x00")
        elif command == 0xD0:
            self.router_answer(command)
        else:
            self.answer(struct.pack("<BBIB", 1, 0xFF, self.now(), 2))
        return 11

    def take_module(self, buffer):
        if len(buffer) < 21:
            return 0
        size, _, device, sensor, command, order = struct.unpack_from("<HIQHBH", buffer, 2)
        if len(buffer) < 21 + size:
            return 0
        data = buffer[21:21 + size]
        tell({"request": "module", "device": "%016x" % device, "sensor": sensor, "command": command,
              "order": order, "data": data.hex()})
        result = 7 if device not in self.modules else 0
        try:
            result = self.results.get_nowait()
        except queue.Empty:
            pass
        self.answer(struct.pack("<BBIQHHBB", 1, 1, self.now(), device, sensor, order, command, result))
        if result == 0 and command == 0x00:
            self.uplink(0x0121, struct.pack("<BBIHf", 90, 1, self.now(), 1, 77.5), device)
        if result == 0 and command == 0x0D:
            settings = struct.pack("<HBBBBBBHIBBff", sensor, 2, 0, 1, 9, 1, 4, 1000, 60, 2, 1, 500.0, 10.0)
            self.uplink(0x0000, settings, device)
        return 21 + size

    def take_firmware(self, buffer):
        if len(buffer) < 10:
            return 0
        (self.expected,) = struct.unpack_from("<I", buffer, 6)
        self.image = b""
        tell({"request": "firmware", "size": self.expected})
        self.answer(struct.pack("<BBIB", 1, 3, self.now(), 0))
        return 10

    def take_chunk(self, buffer):
        if len(buffer) < 2:
            return 0
        (size,) = struct.unpack_from("<H", buffer, 0)
        if len(buffer) < 2 + size:
            return 0
        right = 0 < size <= CHUNK_MAX and len(self.image) + size <= self.expected
        self.image += buffer[2:2 + size]
        self.answer(struct.pack("<BBIB", 1, 3, self.now(), 0 if right else 1))
        if len(self.image) >= self.expected or not right:
            tell({"request": "image", "bytes": self.image.hex()})
            self.image = None
        return 2 + size


def tell(what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main():
    terminal, slave = os.openpty()
    tty.setraw(slave)
    link = sys.argv[1]
    if os.path.lexists(link):
        os.unlink(link)
    os.symlink(os.ttyname(slave), link + ".new")
    router = Router(terminal, "--mute" in sys.argv)
    threading.Thread(target=router.serve, daemon=True).start()
    os.rename(link + ".new", link)
    tell({"ready": link})
    for line in sys.stdin:
        order = json.loads(line)
        if "bytes" in order:
            router.write(bytes.fromhex(order["bytes"]))
        elif "uplink" in order:
            uplink = order["uplink"]
            router.uplink(uplink["sensor"], bytes.fromhex(uplink["data"]), uplink.get("device", MODULE),
                          uplink.get("rssi", -60))
        elif "mute" in order:
            router.muted = order["mute"]
        elif "garble" in order:
            router.garble = order["garble"]
        elif "result" in order:
            for _ in range(order.get("times", 1)):
                router.results.put(order["result"])
        tell({"did": line.strip()[:100]})


main()
