"""What a handler in Python needs of Sandbar: payloads, outputs, failures, settings, state and the log.

The contract itself is in wit/.
"""

import json as _json
import math as _math
from typing import Any, Optional, Union

from componentize_py_types import Err
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

__all__ = ["Reading", "Output", "attribute", "command", "json", "log", "message", "refuse", "reject", "reply", "retry",
           "setting", "number", "settings", "state", "text"]

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
    """The payload as JSON; rejects what is none."""
    try:
        return _json.loads(reading.payload)
    except ValueError as error:
        raise reject(f"the payload is not JSON: {error}") from None


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
    return "application/json", _json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


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
        self.set_bytes(name, _json.dumps(value).encode(), ttl_ms)

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
