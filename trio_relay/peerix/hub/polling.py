"""The Socket.IO door for plain HTTP requests: long polling."""

from __future__ import annotations

from functools import partial
from typing import Final

import trio

from ...exceptions import RemoteProtocolError
from ...transports.routes import BodyTooLarge, Headers, Request, Response, Sender, Streamed
from ..socketio.engineio import EnginePacket, EngineType, encode_packet, encode_payload, parse_payload_untrusted
from .core import HubCore, NoRoom
from .handshakes import EngineRefused, Reason, parse_engine_query_untrusted
from .session import Session
from .sessions import Sessions

__all__ = ["Polling"]

_METHODS: Final = b"GET, POST, OPTIONS"
_NO_STORE: Final[Headers] = ((b"cache-control", b"no-store"),)
_TEXT: Final = "text/plain; charset=UTF-8"
_SEPARATOR: Final = "\x1e"
_NOOP: Final = encode_packet(EnginePacket(EngineType.NOOP))
_CLOSE: Final = encode_packet(EnginePacket(EngineType.CLOSE))
_BODY_SIZE: Final = 256 * 1024
_MOST_PACKETS: Final = 4096
"""In one body."""
_PROBE_WAIT: Final = 0.1
"""Seconds that a poll lasts while a WebSocket is tried: the client waits for its end."""


class Polling:
    """One path of one hub."""

    def __init__(self, core: HubCore, sessions: Sessions) -> None:
        self._core: Final = core
        self._sessions: Final = sessions

    async def respond(self, request: Request) -> Response | Streamed:
        """The answer to any request; a `Responder`."""
        core = self._core
        if request.path.removesuffix("/") != core.config.socketio_path:
            return Response.text(404, "Not Found\n", core.access.cors(request))
        if request.method == "OPTIONS" and core.access.admits(request):
            return Response(204, b"", core.access.preflight(request, _METHODS))
        try:
            if not core.access.admits(request):
                core.counts["refused_origin"] += 1
                raise EngineRefused(Reason.FORBIDDEN)
            return await self._answer(request)
        except EngineRefused as refused:
            core.counts["refused_engineio"] += 1
            return refused.response((*_NO_STORE, *core.access.cors(request)))
        except NoRoom as error:
            headers = ((b"retry-after", b"10"), *_NO_STORE, *core.access.cors(request))
            return Response.text(429 if error.crowded else 503, f"{error}\n", headers)
        except BodyTooLarge as error:
            core.counts["too_large"] += 1
            return Response.text(413, f"{error}\n", core.access.cors(request))

    async def _answer(self, request: Request) -> Response | Streamed:
        query = parse_engine_query_untrusted(request.query, "polling")
        if query.sid is None:
            if request.method != "GET":
                raise EngineRefused(Reason.BAD_METHOD)
            token = self._core.access.token(request, query.token)
            session = self._sessions.open(self._core.access.crowd(request), token)
            return self._typed(request, encode_payload([self._sessions.handshake(session, upgrades=True)]))
        found = self._sessions.find(query.sid)
        if found is None:
            raise EngineRefused(Reason.UNKNOWN_SID)
        if found.on_websocket or request.method not in ("GET", "POST"):
            raise EngineRefused(Reason.BAD_REQUEST)
        return await self._take(found, request) if request.method == "POST" else self._give(found, request)

    def _typed(self, request: Request, body: bytes) -> Response:
        return Response.typed(200, body, _TEXT, (*_NO_STORE, *self._core.access.cors(request)))

    # What the client sends

    async def _take(self, session: Session, request: Request) -> Response:
        if session.posting:
            self._break(session)
        session.posting = True
        try:
            body = await request.body.read(self._core.config.max_payload)
            for packet in parse_payload_untrusted(body, _MOST_PACKETS):
                session.receive(packet)
        except RemoteProtocolError:
            self._break(session)
        finally:
            session.posting = False
        headers = (*_NO_STORE, *self._core.access.cors(request))
        return Response.typed(200, b"ok", "text/html", headers)

    def _break(self, session: Session) -> None:
        """The client broke a rule."""
        self._core.counts["protocol_error"] += 1
        session.close()
        raise EngineRefused(Reason.BAD_REQUEST)

    # What waits for the client

    def _give(self, session: Session, request: Request) -> Streamed:
        if session.polling:
            self._break(session)

        scope = trio.CancelScope()

        async def make(send: Sender) -> bytes:
            return await self._poll(session, scope)

        headers = ((b"content-type", _TEXT.encode()), *_NO_STORE, *self._core.access.cors(request))
        return Streamed(200, make, headers, held=True, ended=partial(self._sessions.put_down, session, scope))

    async def _poll(self, session: Session, scope: trio.CancelScope) -> bytes:
        """What the client gets: as soon as there is something, or when it changes to a WebSocket."""
        session.polling, answered = True, False
        self._sessions.carry(session, scope)
        try:
            with scope:
                await self._something(session)
            packets = [] if session.on_websocket else session.outlet.take(_BODY_SIZE)
            if session.closed and not session.outlet:
                packets.append(_CLOSE)
            answered = True
            return _SEPARATOR.join(packets or [_NOOP]).encode()
        finally:
            session.polling = False
            if not answered and not session.closed:
                self._core.counts["poll_abandoned"] += 1
                session.close()

    async def _something(self, session: Session) -> None:
        """Returns when a poll is to be answered."""
        probing = session.probing
        while not (session.outlet or session.closed or session.on_websocket):
            with trio.move_on_after(_PROBE_WAIT) if probing else trio.CancelScope():
                await session.outlet.wait()
            if session.probing or probing:
                return
