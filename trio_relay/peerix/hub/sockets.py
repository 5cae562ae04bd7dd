"""The Socket.IO door for WebSockets: of new sessions, and of those that change over from long polling."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

import trio

from ...exceptions import RemoteProtocolError
from ...transports.admission import Admission
from ...transports.connection import Connection
from ...transports.routes import Request, Response
from ...transports.websocket import WebSocketConnection
from ..socketio.engineio import PROBE, EnginePacket, EngineType, encode_packet, parse_packet_untrusted
from .core import HubCore, NoRoom
from .handshakes import EngineQuery, EngineRefused, Reason, parse_engine_query_untrusted
from .session import Session
from .sessions import Sessions

__all__ = ["Sockets"]

_PROBED: Final = encode_packet(EnginePacket(EngineType.PONG, PROBE)).encode()
_WRITE_SIZE: Final = 64 * 1024
_NORMAL: Final = 1000
_TRY_LATER: Final = 1013
_SILENT: Final = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError, OSError)


class Sockets:
    """One path of one hub.

    Args:
        admission: where it is said which connections need not make room for strangers'.
    """

    def __init__(self, core: HubCore, sessions: Sessions, admission: Admission | None) -> None:
        self._core: Final = core
        self._sessions: Final = sessions
        self._admission: Final = admission

    async def guard(self, request: Request) -> Response | None:
        """Refuses what is no good before it is a WebSocket; a `Guard`."""
        core = self._core
        try:
            if not core.access.admits(request):
                core.counts["refused_origin"] += 1
                raise EngineRefused(Reason.FORBIDDEN)
            query = self._read(request)
            if query.sid is None:
                core.require_room(core.access.crowd(request))
        except EngineRefused as refused:
            core.counts["refused_engineio"] += 1
            return refused.response()
        except NoRoom as error:
            return Response.text(429 if error.crowded else 503, f"{error}\n")
        return None

    def _read(self, request: Request) -> EngineQuery:
        """The query of a request; raises `EngineRefused`."""
        if request.path.removesuffix("/") != self._core.config.socketio_path:
            raise EngineRefused(Reason.BAD_REQUEST)
        query = parse_engine_query_untrusted(request.query, "websocket")
        if query.sid is not None:
            session = self._sessions.find(query.sid)
            if session is None:
                raise EngineRefused(Reason.UNKNOWN_SID)
            if session.probing or session.on_websocket:
                raise EngineRefused(Reason.BAD_REQUEST)
        return query

    async def accept(self, connection: Connection, request: Request | None) -> None:
        """Serves one WebSocket to its end; a `Handler`."""
        if request is None or not isinstance(connection, WebSocketConnection):
            raise TypeError("expected a WebSocket that came with a request")
        try:
            query = self._read(request)
            if query.sid is not None:
                session = self._sessions.find(query.sid)
                assert session is not None
                await self._change_over(session, connection)
                return
            session = self._sessions.open(
                self._core.access.crowd(request), self._core.access.token(request, query.token)
            )
        except EngineRefused:
            return  # the session ended while the WebSocket was opened
        except NoRoom:
            await connection.aclose(_TRY_LATER)
            return
        session.on_websocket = True
        session.outlet.put(encode_packet(self._sessions.handshake(session, upgrades=False)))
        await self._serve(session, connection, [])

    async def _change_over(self, session: Session, connection: WebSocketConnection) -> None:
        """From long polling to this WebSocket, if the client goes through with it in time."""
        rest: Sequence[bytes | str] | None = None
        session.probing = True
        try:
            with trio.move_on_after(self._core.config.connect_timeout):
                rest = await self._probe(session, connection)
        except RemoteProtocolError:
            self._core.counts["protocol_error"] += 1
        finally:
            session.probing = False
        if rest is None:
            self._core.counts["probe_failed"] += 1
        else:
            await self._serve(session, connection, rest)

    async def _probe(self, session: Session, connection: WebSocketConnection) -> Sequence[bytes | str] | None:
        """What the client sent after its packet UPGRADE; None: it went away, or the session is over."""
        while (messages := await connection.receive()) and not session.closed:
            for position, message in enumerate(messages):
                packet = parse_packet_untrusted(message)
                if packet == (EngineType.PING, PROBE):
                    await connection.send([_PROBED], text=True)
                    session.outlet.wake()
                elif packet.type is EngineType.UPGRADE and not session.closed:
                    session.on_websocket = True
                    session.outlet.wake()
                    return messages[position + 1 :]
                else:
                    raise RemoteProtocolError(f"expected no packet {packet.type.name} of engine.io before UPGRADE")
        return None

    async def _serve(self, session: Session, connection: WebSocketConnection, messages: Sequence[bytes | str]) -> None:
        """Reads and writes until the session is over."""
        code, scope = _NORMAL, trio.CancelScope()
        self._sessions.carry(session, scope)
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, session, connection, scope)
                    code = await self._read_on(session, connection, messages)
                    session.close()
            await connection.aclose(code)
        finally:
            session.close()
            self._sessions.put_down(session, scope)

    async def _read_on(self, session: Session, connection: WebSocketConnection, messages: Sequence[bytes | str]) -> int:
        """Reads until the client, or the session, is gone; returns the code to close the connection with."""
        proven = False
        try:
            while True:
                for message in messages:
                    session.receive(parse_packet_untrusted(message))
                if session.let_in and not proven and self._admission is not None:
                    proven = True
                    self._admission.proven(connection)
                if session.closed or not (messages := await connection.receive()):
                    return _NORMAL
        except RemoteProtocolError as error:
            self._core.counts["protocol_error"] += 1
            return error.close_code
        except _SILENT:
            return _NORMAL

    async def _write(self, session: Session, connection: WebSocketConnection, scope: trio.CancelScope) -> None:
        """Writes what waits, also when the session is over; then nobody reads any more."""
        with contextlib.suppress(*_SILENT):
            while True:
                await session.outlet.wait()
                if packets := session.outlet.take(_WRITE_SIZE):
                    await connection.send([packet.encode() for packet in packets], text=True, each=True)
                elif session.closed:
                    break
        session.close()
        scope.cancel()
