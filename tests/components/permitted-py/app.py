"""Does what its reading's payload says, and puts out what came of it: for tests of what a route permits.

The same words as of ../permitted, which is in Rust.
"""

import random
import time

import wit_world
from componentize_py_types import Err, Ok
from wit_world.imports import atomics, logging, outgoing_handler, streams
from wit_world.imports import wasi_config_store as config
from wit_world.imports import wasi_http_types as http
from wit_world.imports import wasi_keyvalue_store as keyvalue
from wit_world.imports.sandbar_handler_types import Message, Output, Output_Message, Reading


class WitWorld(wit_world.WitWorld):
    def configure(self) -> None:
        pass

    def handle(self, reading: Reading) -> list[Output]:
        verb, _, rest = reading.payload.decode().partition(" ")
        try:
            text = str(does(verb, rest))
        except Err as error:
            text = f"error: {type(error.value).__name__}"
        return [Output_Message(Message(f"did/{verb}", None, "text/plain", [], text.encode()))]


def does(verb: str, rest: str) -> object:
    if verb == "follow":
        answer = fetch("GET", rest)
        location = answer.headers().get("location")
        return told(fetch("GET", location[0].decode()) if location else answer)
    if verb == "secret":
        return config.get(f"secret.{rest}") or "not granted"
    if verb == "count":
        return atomics.increment(keyvalue.open("default"), "n", 1)
    if verb == "keys":
        bucket = keyvalue.open("")
        bucket.set("other", b"x")
        return ",".join(bucket.list_keys(None).keys)
    if verb == "clock":
        return int(time.time())
    if verb == "random":
        # What Python itself draws from was seeded when the component was made.
        return random.SystemRandom().getrandbits(64)
    if verb == "log":
        logging.log(logging.Level.WARN, "py", rest)
        return ""
    return told(fetch(verb, rest))


def fetch(method: str, url: str) -> http.IncomingResponse:
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    request = http.OutgoingRequest(http.Fields())
    request.set_method(http.Method_Post() if method == "POST" else http.Method_Get())
    request.set_scheme(http.Scheme_Https() if scheme == "https" else http.Scheme_Http())
    request.set_authority(authority)
    request.set_path_with_query(f"/{path}")
    answer = outgoing_handler.handle(request, None)
    answer.subscribe().block()
    taken = answer.get()
    if isinstance(taken, Ok) and isinstance(taken.value, Ok):
        return taken.value.value
    raise taken.value if isinstance(taken, Ok) else Err("no answer")


def told(answer: http.IncomingResponse) -> str:
    body = answer.consume()
    stream = body.stream()
    read = b""
    while True:
        try:
            read += stream.blocking_read(65536)
        except Err as error:
            if not isinstance(error.value, streams.StreamError_Closed):
                raise
            break
    return f"{answer.status()} {read.decode()}"
