"""Meetings: the broker carries bytes between two of its clients that can not reach each other by WebRTC.

A client opens a WebSocket at ``{path}peerjs/relay?key=&id=&token=&peer=&meeting=``: it shows that it is the registered
client `id`, and names the client that it wants to meet, and the meeting, 32 hexadecimal digits that both have agreed
upon. When both are there, the binary messages of each are sent to the other as they came. Two registered clients that
name each other and the same meeting meet; nobody else can join them. What they say is sealed by themselves.

Rules of this file:

1. Each end's task reads from its client and writes to it. What it has read waits in the end's queue; a queue that is
   full stops the reading.
2. An end leaves the table when its task ends. What it had sent is still written to the other end, within
   `Limits.close_timeout`; then that one is closed, too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import parse_qs

import trio

from ...exceptions import RemoteProtocolError
from ...limits import Limits
from ...serving.client_address import client_ip, parse_networks, rate_name
from ...serving.rates import ConnectionCounter
from ...transports.connection import Connection
from ...transports.routes import Request
from ...transports.websocket import WebSocketConnection
from .config import KIB, BrokerConfig, RelayedConfig

__all__ = ["MAX_RELAYED", "Meetings"]

MAX_RELAYED: Final = 128 * KIB
"""Bytes in one message; a route that leads here takes no longer ones."""
_MESSAGE_COST: Final = 64
"""What a message takes from `RelayedConfig.queue_bytes` beside its bytes."""
_MOST_FIELDS: Final = 16
_MEETING: Final = re.compile("[0-9a-f]{32}")

_Key: TypeAlias = tuple[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a WebSocket is closed."""

    code: int
    reason: str


_LEFT: Final = _Ending(1000, "the other peer has left")
_GONE: Final = _Ending(1000, "")
_BAD_REQUEST: Final = _Ending(4400, "expected key, id, token, peer and meeting")
_STRANGER: Final = _Ending(4401, "expected the id and the token of a client that is connected")
_WAITED: Final = _Ending(4408, "the other peer did not come")
_IDLE: Final = _Ending(4408, "nothing was sent for too long")
_TAKEN: Final = _Ending(4409, "this meeting has begun without you")
_REPLACED: Final = _Ending(4410, "you came again")
_FULL: Final = _Ending(4429, "too many meetings")
_NOT_BINARY: Final = _Ending(1003, "expected binary messages")


class _Refused(Exception):
    """A client does not get into a meeting; the counter says why."""

    def __init__(self, ending: _Ending, counter: str) -> None:
        super().__init__(ending.reason)
        self.ending: Final = ending
        self.counter: Final = counter


class _Queue:
    """What one end has sent and the other one has not taken yet."""

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._messages: list[bytes] = []
        self._size = 0
        self._over = False
        self._changed: Final = trio.lowlevel.ParkingLot()

    async def put(self, messages: list[bytes]) -> None:
        """Waits until there is room for more."""
        self._messages += messages
        self._size += sum(map(len, messages)) + len(messages) * _MESSAGE_COST
        self._changed.unpark_all()
        while self._size >= self._most:
            await self._changed.park()

    async def take(self) -> list[bytes]:
        """All that is there; none: nothing more will come."""
        while not (self._messages or self._over):
            await self._changed.park()
        messages, self._messages, self._size = self._messages, [], 0
        self._changed.unpark_all()
        return messages

    def close(self) -> None:
        """Nothing more will come."""
        self._over = True
        self._changed.unpark_all()


class _End:
    """One client in one meeting.

    Attributes:
        sent: what it has sent.
        ending: how its WebSocket is to be closed, once its task has ended.
        scope: of its task.
    """

    def __init__(self, id_: str, connection: WebSocketConnection, config: RelayedConfig, counts: Counter[str]) -> None:
        self.id: Final = id_
        self.connection: Final = connection
        self.sent: Final = _Queue(config.queue_bytes)
        self.scope: Final = trio.CancelScope()
        self.ending = _GONE
        self._config: Final = config
        self._counts: Final = counts
        self._other: _End | None = None
        self._paired: Final = trio.Event()
        self._heard = trio.current_time()

    @property
    def is_paired(self) -> bool:
        return self._other is not None

    def pair(self, other: _End) -> None:
        """The other peer has come."""
        self._other = other
        self._heard = trio.current_time()
        self._paired.set()

    def end(self, ending: _Ending) -> None:
        """Ends its task."""
        self.ending = ending
        self.scope.cancel()

    def leave(self, close_timeout: float) -> None:
        """The task has ended: the other end gets the rest, then ends, too."""
        self.sent.close()
        if self._other is not None:
            if self._other.ending is _GONE:
                self._other.ending = _LEFT
            self._other.scope.deadline = trio.current_time() + close_timeout

    async def run(self) -> None:
        """Carries messages until either end leaves, or nothing comes for too long."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._read)

    async def _read(self) -> None:
        try:
            while messages := await self.connection.receive():
                self._heard = trio.current_time()
                binary = [message for message in messages if isinstance(message, bytes)]
                if len(binary) < len(messages):
                    self._counts["meetings_not_binary"] += 1
                    self.end(_NOT_BINARY)
                    return
                await self.sent.put(binary)
        except RemoteProtocolError as violation:
            self._counts["meetings_protocol_error"] += 1
            self.ending = _Ending(violation.close_code, "")
        except trio.BrokenResourceError:
            self._counts["meetings_broken"] += 1
        except trio.ClosedResourceError:
            pass  # by `Meetings.abort`, or by the server
        self.scope.cancel()

    async def _write(self) -> None:
        with trio.move_on_after(self._config.wait):
            await self._paired.wait()
        other = self._other
        if other is None:
            self._counts["meetings_waited"] += 1
            self.end(_WAITED)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, other)
            await self._forward(other)
            self.scope.cancel()

    async def _forward(self, other: _End) -> None:
        free_at, rate = 0.0, self._config.bytes_per_second
        try:
            while messages := await other.sent.take():
                await self.connection.send(messages, each=True)
                size = sum(map(len, messages))
                self._counts["meetings_bytes"] += size
                if rate is not None:
                    free_at = max(free_at, trio.current_time()) + size / rate
                    await trio.sleep_until(free_at)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the reading task knows why

    async def _watch(self, other: _End) -> None:
        while True:
            until = max(self._heard, other._heard) + self._config.idle
            if trio.current_time() >= until:
                if other.ending is _GONE:
                    self._counts["meetings_idle"] += 1
                self.end(_IDLE)
                return
            await trio.sleep_until(until)


class _Meeting:
    """One or two ends; it counts for the IP address of whoever came first."""

    def __init__(self, ip: str, first: _End) -> None:
        self.ip: Final = ip
        self.ends: Final = {first.id: first}

    @property
    def has_begun(self) -> bool:
        return len(self.ends) > 1


class Meetings:
    """The meetings of one broker.

    Args:
        config: `relayed` says how many, for how long, how much of them.
        is_registered: whether a client is connected under this id with this token.
        counts: ``meetings_begun``, ``meetings_bytes``, what was refused and why, and how meetings ended.
        proven: called with a connection that has got into a meeting.

    Raises:
        ValueError: `BrokerConfig.relayed` is None.
    """

    def __init__(
        self,
        config: BrokerConfig,
        is_registered: Callable[[str, str], bool],
        counts: Counter[str],
        proven: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        if config.relayed is None:
            raise ValueError("expected BrokerConfig.relayed, for there are no meetings without it")
        self._config: Final = config
        self._relayed: Final = config.relayed
        self._limits: Final[Limits] = config.limits
        self._is_registered: Final = is_registered
        self._proven: Final = proven
        self._counts: Final = counts
        self._trusted: Final = parse_networks(config.trusted_proxies)
        self._per_ip: Final = ConnectionCounter(config.relayed.meetings_per_ip)
        self._table: Final[dict[_Key, _Meeting]] = {}
        self._connections: Final[set[WebSocketConnection]] = set()

    @property
    def meetings(self) -> int:
        """Meetings now, those included that wait for the second peer."""
        return len(self._table)

    @property
    def connections(self) -> int:
        """WebSockets now, those included that are being refused or closed."""
        return len(self._connections)

    async def accept(self, connection: Connection, request: Request | None) -> None:
        """Serves one client to its end; a `Handler`."""
        if request is None or not isinstance(connection, WebSocketConnection):
            raise TypeError("expected a WebSocket that came with a request")
        self._connections.add(connection)
        try:
            try:
                key, end = self._enter(connection, request)
                self._proven(connection)
                try:
                    await end.run()
                finally:
                    self._leave(key, end)
                ending = end.ending
            except _Refused as refused:
                self._counts[refused.counter] += 1
                ending = refused.ending
            await connection.aclose(ending.code, ending.reason)
        finally:
            self._connections.discard(connection)

    def abort(self) -> None:
        """Closes all connections at once."""
        for connection in list(self._connections):
            connection.abort()

    def _enter(self, connection: WebSocketConnection, request: Request) -> tuple[_Key, _End]:
        id_, peer, name = self._read_request(request)
        key = name, frozenset({id_, peer})
        meeting = self._table.get(key)
        if meeting is None:
            end = _End(id_, connection, self._relayed, self._counts)
            self._table[key] = _Meeting(self._take_place(request), end)
            return key, end
        if meeting.has_begun:
            raise _Refused(_TAKEN, "meetings_refused_taken")
        end = _End(id_, connection, self._relayed, self._counts)
        (waiting,) = meeting.ends.values()
        meeting.ends[id_] = end
        if waiting.id == id_:
            self._counts["meetings_replaced"] += 1
            waiting.end(_REPLACED)
        else:
            self._counts["meetings_begun"] += 1
            waiting.pair(end)
            end.pair(waiting)
        return key, end

    def _read_request(self, request: Request) -> tuple[str, str, str]:
        """The client's id, the other's, and the meeting's name."""
        try:
            fields = parse_qs(request.query, max_num_fields=_MOST_FIELDS)
        except ValueError:
            fields = {}
        names = ("key", "id", "token", "peer", "meeting")
        key, id_, token, peer, meeting = (fields.get(name, [""])[0] for name in names)
        longest = max(map(len, (id_, token, peer)))
        right = key == self._config.key and id_ and token and peer and id_ != peer and longest <= self._config.max_id
        if not right or _MEETING.fullmatch(meeting) is None:
            raise _Refused(_BAD_REQUEST, "meetings_refused_request")
        if not self._is_registered(id_, token):
            raise _Refused(_STRANGER, "meetings_refused_stranger")
        return id_, peer, meeting

    def _take_place(self, request: Request) -> str:
        """Whom one more meeting counts for."""
        ip = rate_name(client_ip(request.remote, request.header(b"x-forwarded-for"), self._trusted))
        if len(self._table) >= self._relayed.meetings:
            raise _Refused(_FULL, "meetings_refused_full")
        if not self._per_ip.take(ip):
            raise _Refused(_FULL, "meetings_refused_ip")
        return ip

    def _leave(self, key: _Key, end: _End) -> None:
        meeting = self._table.get(key)
        if meeting is not None and meeting.ends.get(end.id) is end:
            del self._table[key]
            self._per_ip.release(meeting.ip)
        end.leave(self._limits.close_timeout)
