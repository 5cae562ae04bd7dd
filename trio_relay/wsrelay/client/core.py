"""What a client of a relay server tells and is told: where it connects, what it writes, what it reads. Pure.

A frame with a string `from` is a peer's message, whatever its `type` says: the server's own frames have no `from`,
and a server lets no peer send another `from` than its address. So nobody can speak in the server's name.
"""

from __future__ import annotations

import enum
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec

from ...exceptions import LocalProtocolError, RemoteProtocolError
from ...wire.json import MAX_DEPTH, JSONValue, decode_untrusted, describe, encode
from ...wire.urls import parse_ws_url

__all__ = [
    "ErrorFrame",
    "Frame",
    "Ignored",
    "PeerStatus",
    "RelayMessage",
    "Target",
    "classify_untrusted",
    "encode_message",
    "encode_watch",
    "make_target",
    "message_prefix",
    "printable",
]

MAX_ID: Final = 256
"""Characters of an id."""

_PATH: Final = "-._~!$&'()*+,;=:@"
"""What a segment of a URL's path holds as it is, besides letters and digits (RFC 3986 section 3.3)."""
_PLAIN_ID: Final = re.compile(rf"[A-Za-z0-9{re.escape(_PATH)}]+")
_CHANNEL: Final = re.compile(rf"[A-Za-z0-9/{re.escape(_PATH.replace(':', ''))}]+")


# Where to


@dataclass(frozen=True, slots=True)
class Target:
    """Where one client connects, and as whom.

    Attributes:
        address: ``channel:id``.
        place: the URL without its query, for messages.
        url: the whole URL; it may hold the access key.
    """

    address: str
    place: str
    url: str = field(repr=False)


def make_target(
    url: str, channel: str, id: str, *, key: str | None = None, encode_id: bool = False, reports: bool = False
) -> Target:
    """Puts the connection URL together.

    Args:
        url: ``ws://…`` or ``wss://…``, without a query; a path before the channel's is allowed.
        channel: sent as it is: servers compare it with the undecoded path.
        id: sent as it is if a path can hold it so, else percent-encoded.
        key: an access key of the right form.
        encode_id: whether an id that a path cannot hold as it is may be used: the server must decode it.
        reports: whether the server is asked to tell which messages it could not deliver.

    Raises:
        TypeError: `url` is not text.
        ValueError: `url`, `channel` or `id` is unusable. No message shows user information, or what follows a question
            mark.
    """
    if not isinstance(url, str):
        raise TypeError(f"expected a URL as text, not {type(url).__name__}")
    base, question, _ = url.partition("?")
    if question:
        raise ValueError("expected a URL without a query (an access key is given as key=)")
    _check_base(base)
    place = f"{base.removesuffix('/')}/{_check_channel(channel)}/{_check_id(id, encode_id)}"
    parse_ws_url(place)
    query = [*([f"key={key}"] if key is not None else ()), *(["reports=1"] if reports else ())]
    return Target(f"{channel}:{id}", place, f"{place}?{'&'.join(query)}" if query else place)


def _check_base(base: str) -> None:
    """By itself: what is wrong with it must not turn the channel into the host."""
    try:
        parse_ws_url(base)
    except ValueError:
        if "@" in base:  # perhaps a password
            raise ValueError("expected a URL like ws://host:port, without user information") from None
        raise


def _check_channel(channel: str) -> str:
    if _CHANNEL.fullmatch(channel) is None:
        raise ValueError(f"expected a channel of characters that a URL's path holds, without a colon, not {channel!r}")
    return channel


def _check_id(id: str, encode_id: bool) -> str:
    if not 1 <= len(id) <= MAX_ID:
        raise ValueError(f"expected an id of 1 to {MAX_ID} characters, not {len(id)}")
    if _PLAIN_ID.fullmatch(id) is not None:
        return id
    if not encode_id:
        raise ValueError(
            f"expected an id of characters that a URL's path holds, not {id!r}: "
            "another one needs a server that decodes it, and encode_id=True"
        )
    try:
        return urllib.parse.quote(id, safe=_PATH)
    except UnicodeEncodeError:
        raise ValueError(f"expected an id that has a UTF-8 form, not {id!r}") from None


# What is written


def message_prefix(address: str) -> bytes:
    """The part of a routed message that is always the same; see `encode_message`."""
    return b'{"from":' + encode(address) + b',"to":'


def encode_message(prefix: bytes, to: str, payload: JSONValue) -> bytes:
    """A routed message.

    Raises:
        LocalProtocolError: `to` is not an address, or `payload` not a JSON value that fits into a message.
    """
    if not isinstance(to, str) or ":" not in to[1:]:
        raise LocalProtocolError(f"expected an address like channel:id, not {describe(to)}")
    return prefix + encode(to) + b',"payload":' + encode(payload, max_depth=MAX_DEPTH - 1) + b"}"


def encode_watch(address: str, *, watched: bool) -> bytes:
    """Asks the server to tell about an address, or not to any more."""
    return encode({"type": "watch" if watched else "unwatch", "address": address})


# What is read


def printable(text: str) -> str:
    """A server's words for a terminal or a log: what is not printable (escape codes, line ends) as ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


class RelayMessage(msgspec.Struct, frozen=True):
    """What a peer sent.

    Attributes:
        sender: its address, checked by the server.
        payload: a JSON value; None also if the message has none. Numbers too large for a float, and integers of more
            digits than are decoded, are infinite here. So what was received cannot always be sent: such numbers cannot,
            nor what nests too deep or is too long once something is put around it.
        envelope: the whole message, with whatever else the sender put into it.
    """

    sender: str
    payload: JSONValue
    envelope: dict[str, JSONValue]


class PeerStatus(msgspec.Struct, frozen=True):
    """The server says whether a peer is there."""

    address: str
    online: bool


class ErrorFrame(msgspec.Struct, frozen=True):
    """The server says that something went wrong.

    Attributes:
        code: for programs, like ``"RATE_LIMITED"``.
        message: for people.
        to: the address that a message was for, where it is about one.
        reason: what became of that message, in a word for programs.
    """

    code: str
    message: str
    to: str | None = None
    reason: str | None = None


class Ignored(enum.Enum):
    """Why a frame says nothing to us; the value names its counter."""

    NOT_JSON = "frames_not_json"
    UNKNOWN = "frames_unknown"


Frame: TypeAlias = RelayMessage | PeerStatus | ErrorFrame | Ignored


def classify_untrusted(frame: bytes | str) -> Frame:
    """What a frame of the server is. Original servers send peers' messages in binary frames. Raises nothing."""
    try:
        value = decode_untrusted(frame)
    except RemoteProtocolError:
        return Ignored.NOT_JSON
    if not isinstance(value, dict):
        return Ignored.UNKNOWN
    sender = value.get("from")
    if isinstance(sender, str):
        return RelayMessage(sender, value.get("payload"), value)
    payload = value.get("payload")
    if not isinstance(payload, dict):
        return Ignored.UNKNOWN
    kind = value.get("type")
    if kind == "peer-status":
        address, online = payload.get("address"), payload.get("online")
        if isinstance(address, str) and isinstance(online, bool):
            return PeerStatus(address, online)
    elif kind == "error":
        code = payload.get("code")
        if isinstance(code, str):
            return ErrorFrame(code, _text(payload, "message") or "", _text(payload, "to"), _text(payload, "reason"))
    return Ignored.UNKNOWN


def _text(members: dict[str, JSONValue], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) else None
