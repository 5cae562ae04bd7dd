"""The upgrade request that browsers and libraries send, read without a state machine. Pure.

Rule of this file: it takes only what is certainly right, in its plain form, and says nothing about anything else. What
it does not take is read by h11, and decided there. What it takes, h11 reads in the same way.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .routes import Headers
from .upgrade import SUBPROTOCOL, is_key, switch_protocols

__all__ = ["UsualUpgrade", "read_usual_upgrade"]

# No part of them gives back what it took, so their time grows with the length of the head and no faster.
_HEAD: Final = re.compile(rb"GET (/[!-~]*+) HTTP/1\.1((?:\r\n[-!#$%&'*+.^_`|~0-9A-Za-z]++:[ -~]*+)++)\r\n\r\n")
_FIELD: Final = re.compile(rb"\r\n([^:]++): *+([ -~]*+)")
_UNUSUAL: Final = frozenset({b"content-length", b"transfer-encoding", b"expect"})


class UsualUpgrade(NamedTuple):
    """A request that is in order, and may be answered with `answer`.

    Attributes:
        answer: the head of the 101 response.
        offered_subprotocol: whether the request named `SUBPROTOCOL`, which the answer then echoes.
        received: bytes that followed the head.
    """

    target: str
    headers: Headers
    answer: bytes
    offered_subprotocol: bool
    received: bytes


def read_usual_upgrade(data: bytes, most: int) -> UsualUpgrade | None:
    """The request that `data` begins with; None: it is another one, or not complete, or too large, or wrong.

    Args:
        most: bytes of the largest head.
    """
    head = _HEAD.match(data)
    if head is None:
        return None
    target, fields = head.groups()
    headers = tuple([(name.lower(), value.rstrip(b" ")) for name, value in _FIELD.findall(fields)])
    found = dict(headers)
    # Each name once, so that there is one value of each.
    if len(found) != len(headers) or head.end() + 4 * len(headers) > most or not _is_in_order(found):
        return None
    key, subprotocols = found.get(b"sec-websocket-key", b""), found.get(b"sec-websocket-protocol")
    if not is_key(key):
        return None
    offered = subprotocols is not None and SUBPROTOCOL in _members(subprotocols)
    answer = switch_protocols(key, offered)
    return UsualUpgrade(target.decode("ascii"), headers, answer, offered, data[head.end() :])


def _is_in_order(found: dict[bytes, bytes]) -> bool:
    """Whether it is an upgrade to a WebSocket, without a body (RFC 6455 section 4.2.1)."""
    return (
        b"host" in found
        and found.get(b"upgrade", b"").lower() == b"websocket"
        and "upgrade" in _members(found.get(b"connection", b"").lower())
        and found.get(b"sec-websocket-version") == b"13"
        and _UNUSUAL.isdisjoint(found)
    )


def _members(value: bytes) -> list[str]:
    return [member.strip() for member in value.decode("ascii").split(",")]
