"""All Socket.IO sessions of one hub: made, found, watched and forgotten.

Rules of this file:

1. A session that is over can not be found any more, at once; it takes a place in the hub until what waited for it is
   written, by the poll or the WebSocket that carries it.
2. One task watches all sessions; it sleeps for good while there are none.
"""

from __future__ import annotations

import secrets
from typing import Final

import trio

from ..socketio.engineio import EngineHandshake, EnginePacket, encode_handshake
from .core import HubCore
from .events import event_names
from .session import Session

__all__ = ["Sessions"]

_SID_BYTES: Final = 15
_LOOK: Final = 1.0
_FINELY: Final = 4


class Sessions:
    """The sessions of one hub; none, if it has no Socket.IO door."""

    def __init__(self, core: HubCore) -> None:
        self._core: Final = core
        self._names: Final = event_names(core.config.prefixes)
        self._sessions: Final[dict[str, Session]] = {}
        self._carried: Final[dict[Session, trio.CancelScope]] = {}
        self._someone = trio.Event()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, crowd: str, token: str | None) -> Session:
        """A new session; raises `NoRoom`."""
        sid, public = (secrets.token_urlsafe(_SID_BYTES) for _ in range(2))
        session = Session(self._core, self._names, crowd, token, sid=sid, public_id=public, abort=self._forget)
        self._core.enter(session, crowd)
        self._sessions[sid] = session
        self._someone.set()
        return session

    def find(self, sid: str) -> Session | None:
        """The session of this name, if it goes on."""
        return self._sessions.get(sid)

    def handshake(self, session: Session, *, upgrades: bool) -> EnginePacket:
        """What a session is opened with."""
        config = self._core.config
        offered = ("websocket",) if upgrades else ()
        return encode_handshake(
            EngineHandshake(session.sid, offered, config.ping_interval, config.ping_timeout, config.max_payload)
        )

    def carry(self, session: Session, scope: trio.CancelScope) -> None:
        """The block of the scope writes what waits for the session, until `put_down`; once it is over, for as long as
        `Limits.close_timeout`."""
        self._carried[session] = scope
        if session.closed:
            self._hurry(session, scope)

    def put_down(self, session: Session, scope: trio.CancelScope) -> None:
        """The block of the scope writes nothing more."""
        if self._carried.get(session) is scope:  # a poll may end when a WebSocket has taken over
            del self._carried[session]
        if session.closed and session not in self._carried:
            self._core.leave(session, session.crowd)

    async def watch(self) -> None:
        """Pings clients, and ends those that are silent; for ever."""
        while True:
            while not self._sessions:
                self._someone = trio.Event()
                await self._someone.wait()
            config = self._core.config
            await trio.sleep(min(_LOOK, config.ping_interval / _FINELY, config.ping_timeout / _FINELY))
            now = trio.current_time()
            for session in list(self._sessions.values()):
                session.tick(now)

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.sid, None)
        self._core.topics.leave(session)
        scope = self._carried.get(session)
        if scope is None:
            self._core.leave(session, session.crowd)
        else:
            self._hurry(session, scope)

    def _hurry(self, session: Session, scope: trio.CancelScope) -> None:
        # One that did not read will not read now.
        patience = self._core.config.limits.close_timeout if not session.overflowed else 0.0
        scope.deadline = min(scope.deadline, trio.current_time() + patience)
