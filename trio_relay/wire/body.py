"""What an envelope of original peer-relay nodes carries: an application's message, or one between the nodes.

`parse_body_fields_untrusted` accepts what an original may send; `body_fields` refuses what throws inside an
original, where an exception ends the process. A body's fields are its ``type``, its ``data``, and whether it
has the key ``data`` at all.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeGuard, assert_never

from ..exceptions import LocalProtocolError, RemoteProtocolError
from .ids import NodeId, parse_node_id
from .json import JSONValue, buffer_to_bytes, bytes_to_buffer, describe

__all__ = [
    "MAX_FOUND_IDS",
    "MAX_URL",
    "Body",
    "FindPeers",
    "FoundPeers",
    "HandshakeAnswer",
    "HandshakeOffer",
    "Signal",
    "Tunnel",
    "Unknown",
    "User",
    "body_fields",
    "parse_body_fields_untrusted",
    "parse_hex_untrusted",
]

MAX_FOUND_IDS: Final = 64
"""Ids taken from one `foundPeers`; the original sends up to 20."""
MAX_URL: Final = 2048
"""Characters of a WebSocket URL; longer ones are refused by common servers and proxies."""

_URL: Final = re.compile(
    r"wss?://(?P<host>[a-z0-9][a-z0-9._-]{0,252}|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?(?:[/?][!-~]*)?",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class User:
    """An application's message. A value that is a Buffer at its top level is `bytes`."""

    value: bytes | JSONValue
    present: bool = True
    """False when the sender's value was `undefined`; `value` is None then."""


@dataclass(frozen=True, slots=True)
class FindPeers:
    """Asks for the ids nearest to `target`; the original's target is always its own id."""

    target: NodeId


@dataclass(frozen=True, slots=True)
class FoundPeers:
    """The answer, nearest first, at most `MAX_FOUND_IDS`."""

    ids: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class HandshakeOffer:
    """Asks for a direct link."""


@dataclass(frozen=True, slots=True)
class HandshakeAnswer:
    """How the answering node can be reached directly."""

    ws: str | None
    """A ws:// or wss:// URL, or None when it does not listen."""
    wrtc: bool
    """Whether it can do WebRTC."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A simple-peer signal object. Any that reaches an original without WebRTC ends that original's process,
    so send one only to a node that offered WebRTC or signalled first."""

    value: JSONValue


@dataclass(frozen=True, slots=True)
class Tunnel:
    """An overlay frame on its way through originals, which pass on a type that they do not know."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Unknown:
    """A body of another type: ignored by its receiver, passed on by relays."""

    type: str


Body: TypeAlias = User | FindPeers | FoundPeers | HandshakeOffer | HandshakeAnswer | Signal | Tunnel | Unknown


def parse_body_fields_untrusted(body_type: str, data: JSONValue, has_data: bool) -> Body:
    """Reads a body. Of `foundPeers`, what is not an id is skipped, and so is all after `MAX_FOUND_IDS` entries.

    Raises:
        RemoteProtocolError: the data do not fit the type.
    """
    match body_type:
        case "user":
            octets = buffer_to_bytes(data)
            return User(data if octets is None else octets, present=has_data)
        case "findPeers":
            return FindPeers(parse_hex_untrusted(data, "findPeers target"))
        case "foundPeers":
            if not isinstance(data, list):
                raise RemoteProtocolError(f"expected foundPeers with an array, not {describe(data)}")
            return FoundPeers(tuple(_valid_ids(data[:MAX_FOUND_IDS])))
        case "handshake-offer":
            return HandshakeOffer()
        case "handshake-answer":
            return _parse_answer(data)
        case "signal":
            return Signal(data)
        case "trio-relay":
            return _parse_tunnel(data)
        case _:
            return Unknown(body_type)


def body_fields(body: Body) -> tuple[str, JSONValue, bool]:
    """Type, data, and whether there are data.

    Raises:
        LocalProtocolError: an original would throw on it, or it exceeds a bound.
    """
    match body:
        case User(value, present):
            return "user", bytes_to_buffer(value) if isinstance(value, bytes) else value, present
        case FindPeers(target):
            return "findPeers", target.hex(), True
        case FoundPeers(ids):
            if len(ids) > MAX_FOUND_IDS:
                raise LocalProtocolError(f"expected at most {MAX_FOUND_IDS} found ids, not {len(ids)}")
            return "foundPeers", [node_id.hex() for node_id in ids], True
        case HandshakeOffer():
            return "handshake-offer", None, False
        case HandshakeAnswer(ws, wrtc):
            if ws is not None and not _is_url(ws):
                raise LocalProtocolError(f"expected a websocket url or None, not {describe(ws)}")
            return "handshake-answer", {"ws": ws, "wrtc": wrtc}, True
        case Signal(value):
            if not _is_signal(value):
                raise LocalProtocolError(f"expected a description or a candidate to signal, not {describe(value)}")
            return "signal", value, True
        case Tunnel(frame):
            return "trio-relay", base64.b64encode(frame).decode("ascii"), True
        case Unknown(body_type):
            return body_type, None, False
        case _:
            assert_never(body)


def parse_hex_untrusted(value: JSONValue, what: str) -> NodeId:
    """Reads an id from its hexadecimal form; `what` names it in the error.

    Raises:
        RemoteProtocolError: anything else.
    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return parse_node_id(value)
    raise RemoteProtocolError(f"expected {what} to be a node id in hexadecimal, not {describe(value)}")


def _valid_ids(entries: list[JSONValue]) -> Iterator[NodeId]:
    for entry in entries:
        with contextlib.suppress(RemoteProtocolError):
            yield parse_hex_untrusted(entry, "found id")


def _parse_answer(data: JSONValue) -> HandshakeAnswer:
    if data is None:
        return HandshakeAnswer(ws=None, wrtc=False)
    if not isinstance(data, dict):
        raise RemoteProtocolError(f"expected handshake-answer with an object, not {describe(data)}")
    url = data.get("ws") or None
    if url is not None and not _is_url(url):
        raise RemoteProtocolError(f"expected a websocket url in handshake-answer, not {describe(url)}")
    return HandshakeAnswer(ws=url, wrtc=data.get("wrtc") is True)


def _parse_tunnel(data: JSONValue) -> Tunnel:
    if isinstance(data, str):
        with contextlib.suppress(ValueError):
            return Tunnel(binascii.a2b_base64(data, strict_mode=True))
    raise RemoteProtocolError(f"expected a tunnelled frame in base64, not {describe(data)}")


def _is_url(value: object) -> TypeGuard[str]:
    """Whether the original's WebSocket library opens it without throwing.

    Node refuses punycode hosts that do not decode; that is not worth checking, so all of them are left out.
    """
    if not isinstance(value, str) or len(value) > MAX_URL:
        return False
    match = _URL.fullmatch(value)
    return match is not None and "xn--" not in match["host"].lower() and 0 < int(match["port"] or 80) <= 65535


def _is_signal(value: JSONValue) -> bool:
    """Whether simple-peer 6 has something to do with it and its WebRTC constructors take it."""
    if not isinstance(value, dict):
        return False
    candidate = value.get("candidate")
    if candidate is not None and not (isinstance(candidate, dict) and isinstance(candidate.get("candidate"), str)):
        return False
    if "sdp" in value:
        return isinstance(value["sdp"], str) and value.get("type") in ("offer", "answer")
    return candidate is not None
