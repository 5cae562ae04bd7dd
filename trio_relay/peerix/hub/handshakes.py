"""What clients of the Socket.IO door name in their URLs, and how they are refused at the level of Engine.IO. Pure."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from ...transports.routes import Headers, Response
from ...wire.json import encode
from ..socketio.engineio import PROTOCOL

__all__ = ["EngineQuery", "EngineRefused", "Reason", "parse_engine_query_untrusted"]

_MAX_FIELDS: Final = 64


class Reason(enum.IntEnum):
    """As `engine.io` 6 numbers them."""

    UNKNOWN_TRANSPORT = 0
    UNKNOWN_SID = 1
    BAD_METHOD = 2
    BAD_REQUEST = 3
    FORBIDDEN = 4
    UNSUPPORTED_PROTOCOL = 5


_MESSAGES: Final = {
    Reason.UNKNOWN_TRANSPORT: "Transport unknown",
    Reason.UNKNOWN_SID: "Session ID unknown",
    Reason.BAD_METHOD: "Bad handshake method",
    Reason.BAD_REQUEST: "Bad request",
    Reason.FORBIDDEN: "Forbidden",
    Reason.UNSUPPORTED_PROTOCOL: "Unsupported protocol version",
}


class EngineRefused(Exception):
    """A request is no good; the client is told so."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(_MESSAGES[reason])
        self.reason: Final = reason

    def response(self, headers: Headers = ()) -> Response:
        """As the original answers."""
        status = 403 if self.reason is Reason.FORBIDDEN else 400
        body = encode({"code": int(self.reason), "message": str(self)})
        return Response.typed(status, body, "application/json", headers)


class EngineQuery(NamedTuple):
    """What a request names.

    Attributes:
        sid: the session that it is of; None: a new one.
        token: what the client has to show.
    """

    sid: str | None
    token: str | None


def parse_engine_query_untrusted(query: str, transport: str) -> EngineQuery:
    """The query of a request over this transport.

    Raises:
        EngineRefused: it names another transport, or another version of the protocol.
    """
    try:
        fields = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise EngineRefused(Reason.BAD_REQUEST) from None
    named = fields.get("transport")
    if named not in ("polling", "websocket"):
        raise EngineRefused(Reason.UNKNOWN_TRANSPORT)
    if named != transport:
        raise EngineRefused(Reason.BAD_REQUEST)
    if fields.get("EIO") != str(PROTOCOL):
        raise EngineRefused(Reason.UNSUPPORTED_PROTOCOL)
    return EngineQuery(fields.get("sid") or None, fields.get("token") or fields.get("authorization"))
