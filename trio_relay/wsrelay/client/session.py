"""One connection of a client: from its upgrade until it ends.

Rules of this file:

1. The server greets nobody, and refuses after the upgrade. So the client watches its own address first; the answer
   shows that the server took it in, and knows it by that address. Only then do messages leave the queue.
2. Only the writer writes messages. The reader decides when the connection is over.
3. What the reader took from the connection goes into the inbox, also when the connection is broken meanwhile.
4. Who reads waits for room in the inbox only as long as there is a connection. An application that sends from the loop
   that receives makes no room before the server takes something: so when the connection is lost, the rest of what was
   read goes in above the inbox's bounds, unless they are exceeded already.
"""

from __future__ import annotations

from typing import Final

import trio

from ...exceptions import RemoteProtocolError
from ...transports.websocket import WebSocketConnection
from .core import ErrorFrame, PeerStatus, RelayMessage, classify_untrusted, encode_watch
from .desk import Desk
from .endings import Ending
from .events import Connected, PresenceChanged, ServerError, Undelivered
from .pace import Pace

__all__ = ["Session"]

_PROOFS: Final = frozenset({"WATCH_DENIED", "TOO_MANY_WATCHES"})
"""Errors that answer a watch: only who was taken in gets them."""
_FAREWELLS: Final = frozenset({"INVALID_FROM", "SHUTTING_DOWN"})
"""Errors after which the client leaves by itself: its messages do not pass; the server waits for it to go."""
_REPEAT: Final = 1.0
"""Seconds until the first question is asked again; twice as long each time. An original server that awaits a
verification loses what arrives meanwhile."""
_REFUSALS: Final = _FAREWELLS | {"INVALID_KEY", "INVALID_URL", "VERIFY_FAILED", "ID_IN_USE", "REPLACED", "TOO_SLOW"}
"""Errors of a server that has not taken us in, or will not keep us."""
_TICKS: Final = 4
"""Looks in one idle timeout."""
_NO_CLOSE_FRAME: Final = 1006
_LIMIT_WINDOW: Final = 60.0
"""Seconds after which an original server takes messages again (its default)."""


class Session:
    """One connection; `run` it once.

    Args:
        reports: whether the server was asked for reports of undelivered messages.
    """

    def __init__(self, desk: Desk, connection: WebSocketConnection, pace: Pace, *, reports: bool) -> None:
        self._desk: Final = desk
        self._connection: Final = connection
        self._pace: Final = pace
        self._reports: Final = reports
        self._hello: Final = encode_watch(desk.address, watched=True)
        self._hello_due = True
        self._accepted: Final = trio.Event()
        self._accepted_at: float | None = None
        self._limited_at: float | None = None
        self._last_error: ErrorFrame | None = None
        self._unknown = False
        self._paused = False  # the reader waits for room in the inbox
        self._given_up = ""  # why the connection is of no use any more
        self._broken = ""  # what became of it, for us
        self._lost = False  # the reader waits for no room any more
        self._exceeds = False  # ... and may put what it has above the inbox's bounds
        self._writing: Final = trio.CancelScope()
        self._parting = False
        self._parted: Final = trio.Event()

    async def run(self) -> Ending:
        """Converses until the connection ends; returns how it did."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._await_acceptance)
                nursery.start_soon(self._guard)
                reason = await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self._connection.abort()
        since = self._accepted_at
        return Ending(
            reason,
            self._connection.close_code,
            self._last_error,
            accepted_for=None if since is None else trio.current_time() - since,
            unknown=int(self._unknown),
        )

    async def say_goodbye(self, code: int = 1000, reason: str = "") -> None:
        """Ends the connection with a close frame; no more messages leave."""
        self._parting = True
        self._desk.part()
        self._writing.cancel()
        try:
            await self._connection.aclose(code, reason)
        finally:
            self._parted.set()

    def _lose(self, reason: str) -> None:
        """The connection is of no use any more: nobody waits for it from now on."""
        if not self._lost:
            self._lost = True
            self._exceeds = not self._desk.inbox.exceeded
            self._broken = self._broken or reason
            self._connection.abort()
            self._desk.inbox.room.set()

    # Being taken in

    def _accept(self) -> None:
        if self._accepted_at is None and not (self._parting or self._given_up or self._lost):
            self._accepted_at = trio.current_time()
            self._accepted.set()
            self._desk.counts["connected"] += 1
            self._desk.connect()
            self._desk.events.publish(Connected())
            self._desk.outbox.work.set()

    async def _await_acceptance(self) -> None:
        pause = _REPEAT
        with trio.move_on_after(self._pace.accept):
            while True:
                with trio.move_on_after(pause):
                    await self._accepted.wait()
                    return
                pause *= 2
                self._hello_due = True
                self._desk.outbox.work.set()
        error = self._last_error
        if error is not None and error.code in _REFUSALS:  # said so, and does not close the connection
            self._given_up = error.message or error.code
            await self.say_goodbye()
        elif not (self._parting or self._given_up or self._lost):
            self._desk.counts["accept_unconfirmed"] += 1
            self._accept()

    # Reading

    async def _read(self) -> str:
        """Reads to the end; returns why that came."""
        connection = self._connection
        try:
            while frames := await connection.receive():
                await self._take_all(frames)
                if self._given_up:
                    await self.say_goodbye()
                    return self._given_up
        except RemoteProtocolError as violation:
            self._desk.counts["protocol_errors"] += 1
            await self.say_goodbye(violation.close_code)
            return f"the server broke the protocol: {violation}"
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if self._parting:
                await self._parted.wait()
            return self._given_up or self._broken or str(error)
        await self.say_goodbye()
        if self._given_up:
            return self._given_up
        if connection.close_code == _NO_CLOSE_FRAME:
            return self._broken or "the connection ended without a close frame"
        return connection.close_reason or f"the server closed the connection with {connection.close_code}"

    async def _take_all(self, frames: list[bytes | str]) -> None:
        left = len(frames)
        try:
            for frame in frames:
                found = classify_untrusted(frame)
                if isinstance(found, RelayMessage):
                    await self._take_message(found, len(frame))
                elif isinstance(found, PeerStatus):
                    self._take_status(found)
                elif isinstance(found, ErrorFrame):
                    self._take_error(found)
                else:
                    self._desk.counts[found.value] += 1
                left -= 1
        finally:
            if left:  # the application closed the client
                self._desk.counts["received_at_end"] += left

    async def _take_message(self, message: RelayMessage, size: int) -> None:
        self._last_error = None
        self._accept()
        inbox, counts = self._desk.inbox, self._desk.counts
        if not inbox.put_nowait(message, size) and not await self._put_later(message, size):
            if not self._exceeds:
                counts["received_at_end"] += 1
                return
            inbox.put_nowait(message, size, beyond=True)
            counts["inbox_exceeded"] += 1
        counts["received"] += 1

    async def _put_later(self, message: RelayMessage, size: int) -> bool:
        """Waits for room in the inbox; returns False when the connection is lost before there is any."""
        inbox = self._desk.inbox
        if not self._lost:
            self._desk.counts["inbox_full"] += 1
        self._paused = True
        try:
            while not self._lost:
                await inbox.room.wait()
                if inbox.put_nowait(message, size):
                    return True
            return False
        finally:
            self._paused = False

    def _take_status(self, status: PeerStatus) -> None:
        self._last_error = None
        desk = self._desk
        if status.address == desk.address and not status.online:
            self._unknown = self._accepted_at is None
            self._given_up = f"the server says that {desk.address}, which we are, is offline"
            return
        self._accept()
        if desk.watches.learn(status.address, status.online):
            desk.events.publish(PresenceChanged(status.address, status.online))
        elif status.address not in desk.watches.presence and status.address != desk.address:
            desk.counts["status_not_watched"] += 1

    def _take_error(self, error: ErrorFrame) -> None:
        self._last_error = error
        if self._accepted_at is None and error.code in _PROOFS:
            self._accept()
            return
        if self._reports and error.code == "UNDELIVERED" and error.to is not None:
            self._desk.counts["undelivered"] += 1
            self._desk.events.publish(Undelivered(error.to, error.reason or error.message))
            return
        self._desk.counts["server_errors"] += 1
        self._desk.events.publish(ServerError(error.code, error.message))
        if error.code in _FAREWELLS:
            self._given_up = error.message or error.code
        elif error.code == "RATE_LIMITED":
            self._limited_at = trio.current_time()

    # Writing

    async def _write(self) -> None:
        with self._writing:
            try:
                while True:
                    await self._write_due()
                    await self._desk.outbox.work.wait()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._broken = self._broken or str(error)
                # What the server said before may still be read; a reader that waits for it would wait for ever.
                await trio.sleep(self._pace.close)
                self._lose(self._broken)

    async def _write_due(self) -> None:
        """Writes until nothing is due."""
        connection, desk = self._connection, self._desk
        if connection.control_pending:
            await connection.flush()
        while True:
            if self._accepted_at is None:
                if not self._hello_due:
                    return
                self._hello_due = False
                await connection.send([self._hello], text=True)
            elif desk.watches.untold:
                await connection.send(desk.watches.take(), text=True, each=True)
            elif desk.outbox:
                await self._write_messages(desk.outbox.batch())
            else:
                return

    async def _write_messages(self, batch: list[bytes]) -> None:
        connection = self._connection
        begun = done = False
        try:
            if connection.direct:
                done = connection.send_nowait(batch, text=True, each=True)
                begun = True
                if not done:
                    await connection.flush()
            else:
                begun = True
                await connection.send(batch, text=True, each=True)
            done = True
        finally:
            # What was not begun stays in the queue. What was begun may have arrived: it is not sent twice.
            if begun:
                self._desk.counts["sent" if done else "send_interrupted"] += len(batch)
                self._desk.outbox.remove(len(batch))

    # Watching over it

    async def _guard(self) -> None:
        """Ends the connection when the server is dead."""
        silent, stuck = 0, trio.current_time()
        moved = self._moved()
        while True:
            await trio.sleep(self._pace.idle / _TICKS)
            self._repeat_watches()
            if not (self._paused and self._desk.outbox) or moved != self._moved():
                stuck, moved = trio.current_time(), self._moved()
            elif trio.current_time() - stuck >= self._pace.patience:
                reason = f"the server took nothing for {self._pace.patience:g} s, while the inbox was full"
                break
            silent = 0 if self._was_heard() else silent + 1
            if silent == _TICKS:
                silent = 0
                self._ping()
                await trio.sleep(self._pace.dead)
                if not self._was_heard():
                    reason = f"the server did not answer a ping within {self._pace.dead:g} s"
                    break
        self._desk.counts["server_silent"] += 1
        self._lose(reason)

    def _moved(self) -> tuple[int, int]:
        """Changes whenever a message left the outbox, or came into the inbox."""
        return self._desk.outbox.taken, self._desk.counts["received"]

    def _was_heard(self) -> bool:
        """Whether the server sent anything since the last call; who does not read can not know, and says so."""
        heard, self._connection.heard = self._connection.heard, False
        if self._paused:
            self._ping(unasked_pong=True)
        return heard or self._paused

    def _ping(self, *, unasked_pong: bool = False) -> None:
        self._connection.ping_soon(unasked_pong=unasked_pong)
        if self._connection.control_pending:
            self._desk.outbox.work.set()

    def _repeat_watches(self) -> None:
        if self._limited_at is not None and trio.current_time() >= self._limited_at + _LIMIT_WINDOW:
            self._limited_at = None
            self._desk.watches.repeat_unanswered()
            self._desk.outbox.work.set()
