"""One WebSocket to the broker: from its upgrade until it ends.

Rules of this file:

1. Frames leave the queue only when the broker has taken the peer in: what is sent before, a broker may drop.
2. Only the writer writes. The reader decides when the connection is over.
3. A broker that still has the registration of an earlier connection puts the new one in its place and says nothing
   (`peer` 1.0): silence is consent then, and only then.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import trio

from ...exceptions import PeerError, RemoteProtocolError
from ...transports.websocket import WebSocketConnection
from ..messages import ServerMessage, parse_server_message_untrusted
from .endings import Ending, ending_of
from .queue import SignalQueue

__all__ = ["Pace", "Session"]

logger = logging.getLogger("trio_relay.peerjs")

HEARTBEAT: Final = b'{"type":"HEARTBEAT"}'
SILENCE: Final = 1.0
"""Seconds without a word after which a broker that knows the peer has taken its new connection."""
_PROOFS: Final = frozenset({"OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"})
"""Who gets these is registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Times of a session, seconds.

    Attributes:
        heartbeat: between two HEARTBEATs.
        ping_after: a broker that was silent so long is asked for a sign of life.
        dead_after: one that gives none so long after that is dead.
        close: for a goodbye.
    """

    heartbeat: float
    ping_after: float
    dead_after: float
    close: float


class Session:
    """Run it once.

    Args:
        deadline: when the broker must have taken the peer in, Trio's clock.
        known: whether the broker may have the peer's registration from before.
        opened: called once, when it has taken the peer in, with what it said about relaying; None: nothing.
        deliver: called with each message for the peer.
    """

    def __init__(
        self,
        connection: WebSocketConnection,
        queue: SignalQueue,
        pace: Pace,
        counts: Counter[str],
        *,
        deadline: float,
        known: bool,
        opened: Callable[[bool | None], None],
        deliver: Callable[[ServerMessage], None],
    ) -> None:
        self._connection: Final = connection
        self._queue: Final = queue
        self._pace: Final = pace
        self._counts: Final = counts
        self._deadline: Final = deadline
        self._known: Final = known
        self._tell_opened: Final = opened
        self._deliver: Final = deliver
        self._opened: Final = trio.Event()
        self._opened_at: float | None = None
        self._work = trio.Event()
        self._heartbeat_due = False
        self._writing = False
        self._drained: trio.Event | None = None  # made by a goodbye that waits for the writer
        self._parting = False
        self._ending: Ending | None = None

    async def run(self) -> Ending:
        """Converses until the connection ends; returns how it did."""
        try:
            async with trio.open_nursery() as nursery:
                for task in (self._write, self._beat, self._guard, self._await_opening):
                    nursery.start_soon(task)
                ending = await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self._connection.abort()
            if self._drained is not None:
                self._drained.set()
        since = self._opened_at
        return replace(ending, open_for=None if since is None else trio.current_time() - since)

    def wake(self) -> None:
        """There is something in the queue."""
        self._work.set()

    async def say_goodbye(self) -> None:
        """Sends what waits, for as long as a goodbye may take, then closes."""
        with trio.move_on_after(self._pace.close):
            if self._opened_at is not None and self._ending is None and (self._queue or self._writing):
                self._drained = trio.Event()
                await self._drained.wait()
        self._parting = True
        await self._connection.aclose()

    def _lose(self, error: PeerError) -> None:
        """The connection is of no use any more."""
        self._ending = self._ending or Ending(error)
        self._connection.abort()

    # Being taken in

    def _open(self, relayed: bool | None) -> None:
        if self._opened_at is None and not self._parting and self._ending is None:
            self._opened_at = trio.current_time()
            self._opened.set()
            self._tell_opened(relayed)
            self.wake()

    async def _await_opening(self) -> None:
        if self._known:
            with trio.move_on_after(SILENCE):
                await self._opened.wait()
            self._open(None)
            return
        with trio.move_on_at(self._deadline):
            await self._opened.wait()
            return
        self._lose(PeerError("server-error", "the broker accepted the connection and then said nothing"))

    # Reading

    async def _read(self) -> Ending:
        """Reads to the end; returns what it was."""
        try:
            while frames := await self._connection.receive():
                for frame in frames:
                    self._take(frame)
                    if self._ending is not None:
                        await self._connection.aclose()
                        return self._ending
        except RemoteProtocolError as violation:
            self._counts["broker_violations"] += 1
            await self._connection.aclose(violation.close_code)
            return Ending(PeerError("network", f"the broker broke the WebSocket protocol: {violation}"))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return self._ending or Ending(PeerError("network", "lost the connection to the broker: it broke"))
        await self._connection.aclose()
        return self._ending or Ending(PeerError("network", "lost the connection to the broker: it closed it"))

    def _take(self, frame: bytes | str) -> None:
        try:
            if not isinstance(frame, str):
                raise RemoteProtocolError("expected text, got a binary message")
            message = parse_server_message_untrusted(frame)
        except RemoteProtocolError as error:
            self._counts["signals_malformed"] += 1
            logger.debug("ignored what the broker sent: %s", error)
            return
        if (ending := ending_of(message)) is not None:
            self._ending = ending
        elif message.type == "OPEN":
            payload = message.payload
            self._open(bool(payload.get("relay")) if isinstance(payload, dict) else False)
        elif message.type != "HEARTBEAT":
            if message.type in _PROOFS:
                self._open(None)
            if self._opened_at is None or self._parting:
                self._counts["signals_untimely"] += 1
            else:
                self._deliver(message)

    # Writing

    async def _beat(self) -> None:
        while True:
            await trio.sleep(self._pace.heartbeat)
            self._heartbeat_due = True
            self.wake()

    async def _write(self) -> None:
        try:
            while True:
                self._work, self._writing = trio.Event(), True
                await self._write_due()
                self._writing = False
                if self._drained is not None:
                    self._drained.set()
                await self._work.wait()
        except trio.ClosedResourceError:
            return
        except trio.BrokenResourceError:
            # What the broker said before may still be read: perhaps why it closes.
            await trio.sleep(self._pace.close)
            self._lose(PeerError("network", "lost the connection to the broker: it broke"))

    async def _write_due(self) -> None:
        connection = self._connection
        if connection.control_pending:
            await connection.flush()
        if self._heartbeat_due:
            self._heartbeat_due = False
            await connection.send([HEARTBEAT], text=True)
        while self._opened_at is not None and (batch := self._queue.batch(trio.current_time())):
            await self._write_batch(batch)

    async def _write_batch(self, batch: list[bytes]) -> None:
        """What was begun may have arrived, so it is not sent twice."""
        connection, done = self._connection, False
        try:
            if connection.direct:
                done = connection.send_nowait(batch, text=True, each=True)
                self._queue.remove(len(batch))
                if not done:
                    await connection.flush()
            else:
                self._queue.remove(len(batch))
                await connection.send(batch, text=True, each=True)
            done = True
        finally:
            if done:
                self._counts["signals_sent"] += len(batch)

    # Watching over it

    async def _guard(self) -> None:
        """Ends the connection when the broker is dead: TCP alone would take many minutes to notice."""
        connection, pace = self._connection, self._pace
        while True:
            await trio.sleep(pace.ping_after)
            if self._was_heard():
                continue
            connection.ping_soon()
            self.wake()
            await trio.sleep(pace.dead_after)
            if not self._was_heard():
                break
        self._counts["broker_silent"] += 1
        self._lose(PeerError("network", f"the broker did not answer a ping within {pace.dead_after:g} s"))

    def _was_heard(self) -> bool:
        heard, self._connection.heard = self._connection.heard, False
        return heard
