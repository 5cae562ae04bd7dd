"""The client's side of the NATS protocol: bytes in, messages out. Pure.

Source: "Client Protocol" of the NATS documentation; nats-server 2.9.

Rules of this file:

1. A control line has at most `MAX_LINE` bytes, and a payload as many as the server said that it lets pass.
2. A payload of more than `MAX_PACKET` bytes is skipped, not stored: whoever may publish at the server can send one. So
   is one with headers of more than `MAX_LINE` bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from ...exceptions import RemoteProtocolError
from ...wire.json import JSONValue, decode_untrusted, describe, encode
from .driver import MAX_PACKET

__all__ = [
    "MAX_LINE",
    "PING",
    "PONG",
    "NatsError",
    "NatsEvent",
    "NatsInfo",
    "NatsMessage",
    "NatsParser",
    "NatsPing",
    "NatsPong",
    "NatsSkipped",
    "encode_connect",
    "encode_publish",
    "encode_subscribe",
    "encode_unsubscribe",
    "is_subject",
    "parse_info_untrusted",
]

MAX_LINE: Final = 32 * 1024
"""Bytes of a control line; INFO with the addresses of a large cluster is the longest."""
MAX_SUBJECT: Final = 1024
"""Bytes of one that we use: a server takes control lines of 4096 bytes."""
PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"

_MAX_PAYLOAD: Final = 1024 * 1024
"""Bytes, the server's usual bound, until INFO says another."""
_MAX_SHOWN: Final = 200
_WORD: Final = r"[^\s\x00-\x1f\x7f\ud800-\udfff.*>]+"
_SUBJECT: Final = re.compile(rf"{_WORD}(?:\.{_WORD})*")
_NUMBER: Final = re.compile(rb"[0-9]{1,9}")
T = TypeVar("T", bool, int, str)


@dataclass(frozen=True, slots=True)
class NatsInfo:
    """What the server says about itself, at the beginning and when it changes.

    Attributes:
        max_payload: bytes of one message, at most.
        nonce: what a client that has a key signs; empty: no client can have one.
    """

    version: str = ""
    max_payload: int = _MAX_PAYLOAD
    auth_required: bool = False
    tls_required: bool = False
    tls_available: bool = False
    nonce: str = ""


@dataclass(frozen=True, slots=True)
class NatsMessage:
    """A message; `sid` is the number of the subscription. Headers were left out."""

    subject: str
    sid: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class NatsSkipped:
    """A message that had too many bytes."""

    sid: int
    size: int


@dataclass(frozen=True, slots=True)
class NatsPing:
    """To be answered with `PONG`."""


@dataclass(frozen=True, slots=True)
class NatsPong:
    """The answer to our next `PING`: all that was sent before it has been dealt with."""


@dataclass(frozen=True, slots=True)
class NatsError:
    """The server refuses something; most of the time it closes the connection then."""

    text: str


NatsEvent: TypeAlias = NatsInfo | NatsMessage | NatsSkipped | NatsPing | NatsPong | NatsError


@dataclass(slots=True)
class _Payload:
    """What a control line announced."""

    subject: str
    sid: int
    header: int
    size: int


class NatsParser:
    """Makes events of the server's bytes, however they are cut into pieces.

    Args:
        max_packet: bytes of a message that is not skipped.

    Attributes:
        max_payload: what the last INFO said.
    """

    def __init__(self, max_packet: int = MAX_PACKET) -> None:
        self.max_payload = _MAX_PAYLOAD
        self._max_packet: Final = max_packet
        self._buffer: Final = bytearray()
        self._searched = 0
        self._payload: _Payload | None = None
        self._skipping = 0

    @property
    def buffered(self) -> int:
        """Bytes that are no whole event yet."""
        return len(self._buffer)

    def parse_untrusted(self, data: bytes) -> list[NatsEvent]:
        """Takes bytes; returns what they complete.

        Raises:
            RemoteProtocolError: a rule was broken; nothing more can be parsed.
        """
        self._buffer.extend(data)
        events: list[NatsEvent] = []
        while (event := self._step()) is not _INCOMPLETE:
            if event is not None:
                events.append(event)
        return events

    def _step(self) -> NatsEvent | None:
        if self._payload is not None:
            return self._end_payload(self._payload)
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            _require_short(self._searched)
            return _INCOMPLETE
        _require_short(end)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        if not line.endswith(b"\r"):
            raise RemoteProtocolError("expected a line that ends with CR LF")
        return self._take_line(line[:-1])

    def _end_payload(self, payload: _Payload) -> NatsEvent | None:
        """The message, once its bytes are there; those of one that is too long are dropped as they come."""
        if payload.size - payload.header > self._max_packet or payload.header > MAX_LINE:
            drop = min(len(self._buffer), payload.size - self._skipping)
            del self._buffer[:drop]
            self._skipping += drop
            rest = payload.size - self._skipping
        else:
            rest = payload.size
        if rest > len(self._buffer) - 2:
            return _INCOMPLETE
        body = bytes(self._buffer[:rest])
        if self._buffer[rest : rest + 2] != b"\r\n":
            raise RemoteProtocolError("expected CR LF behind the payload")
        del self._buffer[: rest + 2]
        skipped, self._payload, self._skipping = self._skipping, None, 0
        if skipped:
            return NatsSkipped(payload.sid, payload.size)
        return NatsMessage(payload.subject, payload.sid, body[payload.header :])

    def _take_line(self, line: bytes) -> NatsEvent | None:
        word, _, rest = line.partition(b" ")
        match word.upper():
            case b"MSG":
                self._payload = self._announced(rest.split(), 1)
            case b"HMSG":
                self._payload = self._announced(rest.split(), 2)
            case b"PING":
                return NatsPing()
            case b"PONG":
                return NatsPong()
            case b"+OK":
                pass
            case b"-ERR":
                return NatsError(_printable(rest.strip().strip(b"'")))
            case b"INFO":
                info = parse_info_untrusted(rest)
                self.max_payload = info.max_payload
                return info
            case _:
                raise RemoteProtocolError(f"expected a line of NATS, got one that begins with {_printable(word)!r}")
        return None

    def _announced(self, words: list[bytes], sizes: int) -> _Payload:
        """What MSG (one size) or HMSG (two) says; a reply subject may stand before the sizes."""
        numbers = words[1:2] + words[-sizes:]
        if len(words) not in (2 + sizes, 3 + sizes) or not all(map(_NUMBER.fullmatch, numbers)):
            raise RemoteProtocolError("expected a subject, the number of a subscription, and sizes")
        sid, *lengths = map(int, numbers)
        header, size = (0, *lengths)[-2:]
        if header > size or size > self.max_payload:
            raise RemoteProtocolError(f"expected a message of at most {self.max_payload} bytes, got {size}")
        return _Payload(words[0].decode(errors="replace"), sid, header, size)


_INCOMPLETE: Final = NatsError("incomplete")
"""Stands for: more bytes are needed."""


def parse_info_untrusted(text: bytes) -> NatsInfo:
    """What follows the word INFO; members that are not known are ignored, those that are missing have defaults.

    Raises:
        RemoteProtocolError: it is no JSON object, or a member has another type or makes no sense.
    """
    value = decode_untrusted(text)
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"expected INFO with an object, got {describe(value)}")
    info = NatsInfo(
        version=_member(value, "version", ""),
        max_payload=_member(value, "max_payload", _MAX_PAYLOAD),
        auth_required=_member(value, "auth_required", False),
        tls_required=_member(value, "tls_required", False),
        tls_available=_member(value, "tls_available", False),
        nonce=_member(value, "nonce", ""),
    )
    if not 0 < info.max_payload < 2**31:
        raise RemoteProtocolError(f"expected a positive max_payload, got {describe(info.max_payload)}")
    return info


def _member(value: dict[str, JSONValue], name: str, default: T) -> T:
    found = value.get(name, default)
    if type(found) is not type(default):
        raise RemoteProtocolError(f"expected INFO with {type(default).__name__} {name}, got {describe(found)}")
    assert isinstance(found, type(default))
    return found


def _require_short(length: int) -> None:
    if length > MAX_LINE:
        raise RemoteProtocolError(f"expected a line of at most {MAX_LINE} bytes")


def _printable(text: bytes) -> str:
    shown = text[:_MAX_SHOWN].decode(errors="replace")
    return "".join(character if character.isprintable() else "?" for character in shown)


def is_subject(text: str) -> bool:
    """Whether it can be published to and subscribed to: words between dots, no blanks, no wildcards, not too long."""
    return _SUBJECT.fullmatch(text) is not None and len(text.encode(errors="replace")) <= MAX_SUBJECT


def encode_connect(options: dict[str, JSONValue]) -> bytes:
    """The greeting."""
    return b"CONNECT %b\r\n" % encode(options)


def encode_publish(subject: str, payload: bytes) -> bytes:
    """A message to whoever subscribed to the subject."""
    return b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(payload), payload)


def encode_subscribe(subject: str, sid: int) -> bytes:
    """A subscription; `sid` is our number for it."""
    return b"SUB %b %d\r\n" % (subject.encode(), sid)


def encode_unsubscribe(sid: int) -> bytes:
    """Ends one."""
    return b"UNSUB %d\r\n" % sid
