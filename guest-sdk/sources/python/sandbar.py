"""What a handler in Python needs of Sandbar: payloads, outputs, failures, settings, state and the log.

The contract itself is in wit/.
"""

import json as _json
import math as _math
from typing import Any, Optional, Union

import wit_world as _wit_world
from componentize_py_types import Err
from wit_world.imports import http as _http
from wit_world.imports import logging as _logging
from wit_world.imports import state as _state
from wit_world.imports import wasi_config_store as _store
from wit_world.imports.types import (
    Command,
    Failure_Reject,
    Failure_Retry,
    Message,
    Output,
    Output_Command,
    Output_Message,
    Output_Reply,
    Reading,
)

__all__ = ["Reading", "Output", "HttpError", "Response", "attribute", "command", "fetch", "fetch_all", "json", "log",
           "message", "refuse", "reject", "reply", "request", "retry", "setting", "number", "settings", "state", "text"]

Body = Union[bytes, str, dict, list, int, float, bool, None]


def reject(cause: object) -> Err:
    """A failure to raise: it never succeeds, and the reading becomes a dead letter with this text."""
    return Err(Failure_Reject(str(cause)))


def retry(cause: object) -> Err:
    """A failure to raise: it may succeed later, and the host tries again."""
    return Err(Failure_Retry(str(cause)))


def refuse(cause: object) -> Err:
    """To raise in `configure`: the deployment is undone, and its author sees the text."""
    return Err(str(cause))


def text(reading: Reading) -> str:
    """The payload as text; rejects what is no UTF-8."""
    try:
        return reading.payload.decode()
    except UnicodeDecodeError as error:
        raise reject(f"the payload is not UTF-8 text: {error}") from None


def json(reading: Reading) -> Any:
    """The payload as JSON; rejects what is none, which NaN is, too."""
    try:
        return _json.loads(reading.payload, parse_constant=_no_constant)
    except ValueError as error:
        raise reject(f"the payload is not JSON: {error}") from None


def _no_constant(name):
    raise ValueError(f"{name} is no number there")


def attribute(reading: Reading, name: str) -> Optional[str]:
    """The first attribute of that name."""
    return next((value for key, value in reading.attributes if key == name), None)


def message(topic: str, body: Body, *, device: Optional[str] = None, content_type: Optional[str] = None,
            attributes: Optional[dict] = None) -> Output:
    """To the route's sinks, and to every route whose filter the topic matches.

    Bytes and text go as they are, anything else as JSON.
    """
    return Output_Message(_message(topic, body, device, content_type, attributes))


def reply(body: Body, *, status: Optional[int] = None, content_type: Optional[str] = None,
          attributes: Optional[dict] = None) -> Output:
    """To the sender of the reading; `status` is that of the HTTP response."""
    built = _message("", body, None, content_type, attributes)
    if status is not None:
        built.attributes.append(("http.status", str(status)))
    return Output_Reply(built)


def command(device: str, name: str, body: Body = "", *, content_type: Optional[str] = None) -> Output:
    """For a device to do."""
    natural, payload = _encode(body)
    return Output_Command(Command(device, name, content_type or natural, payload))


def _message(topic, body, device, content_type, attributes):
    natural, payload = _encode(body)
    pairs = [(key, str(value)) for key, value in (attributes or {}).items()]
    return Message(topic, device, content_type or natural, pairs, payload)


def _encode(body):
    if isinstance(body, (bytes, bytearray)):
        return "application/octet-stream", bytes(body)
    if isinstance(body, str):
        return "text/plain", body.encode()
    return "application/json", _dump(body, ensure_ascii=False, separators=(",", ":"))


def _dump(value, **options):
    try:
        return _json.dumps(value, allow_nan=False, **options).encode()
    except ValueError as error:
        raise reject(f"not to be said in JSON: {error}") from None


def settings() -> dict:
    """All of the route's settings, as text."""
    return dict(_store.get_all())


def setting(name: str, otherwise: Optional[str] = None) -> str:
    """One of them. One that is not set and has no default refuses the deployment."""
    value = _store.get(name)
    if value is None and otherwise is None:
        raise refuse(f"setting `{name}` is missing")
    return otherwise if value is None else value


def number(name: str, otherwise: Optional[float] = None) -> float:
    """One of them that must be a number."""
    value = setting(name, None if otherwise is None else repr(otherwise))
    try:
        found = float(value)
    except ValueError:
        found = _math.nan
    if not _math.isfinite(found):
        raise refuse(f'setting `{name}` is "{value}", not a number')
    return found


class _State:
    """Values that last, of this route and key (by default: of this device), as JSON.

    They change together with the outputs, or not at all.
    """

    def get(self, name: str, otherwise: Any = None) -> Any:
        value = _state.get(name)
        return otherwise if value is None else _json.loads(value)

    def set(self, name: str, value: Any, ttl_ms: Optional[int] = None) -> None:
        self.set_bytes(name, _dump(value), ttl_ms)

    def delete(self, name: str) -> None:
        _state.delete(name)

    def names(self, prefix: str = "") -> list:
        return _state.names(prefix)

    def get_bytes(self, name: str) -> Optional[bytes]:
        return _state.get(name)

    def set_bytes(self, name: str, value: bytes, ttl_ms: Optional[int] = None) -> None:
        try:
            _state.set(name, value, ttl_ms)
        except Err as error:
            raise reject(f"state `{name}`: {error.value}") from None


state = _State()


class _Log:
    """Lines for the host's log."""

    def debug(self, line: object) -> None:
        _logging.log(_logging.Level.DEBUG, "", str(line))

    def info(self, line: object) -> None:
        _logging.log(_logging.Level.INFO, "", str(line))

    def warn(self, line: object) -> None:
        _logging.log(_logging.Level.WARN, "", str(line))

    def error(self, line: object) -> None:
        _logging.log(_logging.Level.ERROR, "", str(line))


log = _Log()


class HttpError(Exception):
    """Why there is no answer; `code` is denied, invalid, failed or too-large.

    Raised out of `handle` it is a failure: what may go well another time is tried again, the rest is a dead letter.
    """

    def __init__(self, url: str, error: object):
        self.code = {_http.HttpError_Denied: "denied", _http.HttpError_Invalid: "invalid",
                     _http.HttpError_Failed: "failed"}.get(type(error), "too-large")
        limit = f"the answers have more than {error.value} bytes"
        super().__init__(f"{url}: {limit if self.code == 'too-large' else error.value}")

    def failure(self) -> Err:
        return retry(self) if self.code == "failed" else reject(self)


def _handler(cls: type) -> None:
    """What the contract knows no exception for becomes one that it knows: only `Err` itself is a failure."""
    super(_wit_world.WitWorld, cls).__init_subclass__()
    own = cls.handle

    def handle(self, reading: Reading) -> list:
        try:
            return own(self, reading)
        except HttpError as error:
            raise error.failure() from None

    cls.handle = handle


_wit_world.WitWorld.__init_subclass__ = classmethod(_handler)


class Response:
    """An answer, whatever its status. Its body has come already."""

    def __init__(self, url: str, answer: "_http.Response"):
        self.url = url
        self.status = answer.status
        self.ok = 200 <= answer.status < 300
        self.headers = answer.headers
        self.body = answer.body

    def header(self, name: str) -> Optional[str]:
        """The first header of that name, whatever its capitals."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    def text(self) -> str:
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise reject(f"{self.url}: the answer is not UTF-8 text: {error}") from None

    def json(self) -> Any:
        try:
            return _json.loads(self.body, parse_constant=_no_constant)
        except ValueError as error:
            raise reject(f"{self.url}: the answer is not JSON: {error}") from None


def request(url: str, *, method: str = "GET", headers: Optional[dict] = None, body: Body = b"",
            timeout_ms: Optional[int] = None) -> "_http.Request":
    """A request for `fetch_all`. Bytes and text go as they are, anything else as JSON, with the content type of it."""
    natural, payload = _encode(body)
    pairs = [(key, str(value)) for key, value in (headers or {}).items()]
    if payload and not any(key.lower() == "content-type" for key, _ in pairs):
        pairs.append(("content-type", natural))
    return _http.Request(method, url, pairs, payload, timeout_ms)


def fetch(url: str, **options: Any) -> Response:
    """Asks over HTTP what the route permits, and waits for the answer. Options are those of `request`.

    Redirects are not followed: they are answers with a `location`.
    """
    try:
        return Response(url, _http.send(request(url, **options)))
    except Err as error:
        raise HttpError(url, error.value) from None


def fetch_all(requests: list) -> list:
    """Asks several at the same time, as many as the route allows: of each its Response or HttpError, in order."""
    answers = zip(requests, _http.send_all(requests))
    return [HttpError(asked.url, answer.value) if isinstance(answer, Err) else Response(asked.url, answer.value)
            for asked, answer in answers]
