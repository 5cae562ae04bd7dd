"""A peer as the application sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from ..exceptions import LocalProtocolError, PeerError, RemoteProtocolError
from ..node.events import Events, EventStream
from ..node.services import Services
from ..wire.json import decode_untrusted
from .connections.data_connection import DataConnection
from .connections.data_link import DataLink
from .connections.media_connection import MediaConnection
from .connections.media_link import MediaLink
from .connections.table import AnyConnection
from .events import PeerEvent
from .messages import NO_METADATA, Offer, encode_offer, parse_offer_untrusted
from .options import PeerOptions
from .registration import Registration
from .switchboard import Switchboard

if TYPE_CHECKING:
    from ..transports.webrtc import MediaTrack

__all__ = ["Peer", "PeerStatistics"]


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """A snapshot of a peer.

    Attributes:
        connections: those that are open.
        connecting: those that are being made.
        accepting: incoming connections that wait to be accepted.
        counts: drops, refusals and failures by name; one that never happened is not there.
    """

    connections: int
    connecting: int
    accepting: int
    counts: Mapping[str, int]


class Peer:
    """An endpoint that others reach by its id; made by `open_peer`.

    Incoming connections and calls are an async iteration: ``async for connection in peer``. It ends when the peer is
    destroyed.

    After `destroy` everything here raises `PeerError` of type ``peer-destroyed``.
    """

    def __init__(
        self,
        options: PeerOptions,
        services: Services,
        registration: Registration,
        board: Switchboard,
        events: Events[PeerEvent],
        random_id: Callable[[], str],
    ) -> None:
        """For `open_peer`."""
        self.options: Final = options
        self._services: Final = services
        self._registration: Final = registration
        self._board: Final = board
        self._events: Final = events
        self._random_id: Final = random_id
        self._destroyed = False
        self._gone: Final = trio.Event()

    def __repr__(self) -> str:
        state = "destroyed" if self._destroyed else "open" if self.open else "not connected"
        return f"<Peer {self._registration.id!r}, {state}, {len(self._board.links)} connections>"

    # What it is

    @property
    def id(self) -> str | None:
        """Its id at the broker; it keeps it while it is not connected, and after it was disconnected."""
        return self._registration.id

    @property
    def open(self) -> bool:
        """Whether the broker knows it now: others can connect to it, and it to others."""
        return self._registration.open

    @property
    def disconnected(self) -> bool:
        """Whether it has left the broker, by `disconnect` or for good; not while a lost connection is tried again."""
        return not self._registration.wanted or self._registration.error is not None

    @property
    def destroyed(self) -> bool:
        """Whether it is at its end."""
        return self._destroyed

    @property
    def connections(self) -> Mapping[str, Mapping[str, AnyConnection]]:
        """A snapshot of the open ones, by the other peer's id and by label.

        A media connection has no label: its id stands for it. So does the id of a data connection whose label another
        one of the same two peers has.
        """
        return self._board.links.open_connections()

    def get_connection(self, peer: str, connection_id: str) -> AnyConnection | None:
        """The connection of that id with that peer, None if there is none."""
        link = self._board.links.get((peer, connection_id))
        return link.connection if link is not None else None

    def statistics(self) -> PeerStatistics:
        """How many connections there are, and every counter."""
        links = list(self._board.links)
        opened = sum(link.connection.open for link in links)
        counts = {name: count for name, count in self._board.counts.items() if count}
        return PeerStatistics(opened, len(links) - opened, len(self._board.accepting), counts)

    def events(self) -> AbstractAsyncContextManager[EventStream[PeerEvent]]:
        """``async with peer.events() as events``: `PeerOpened`, `PeerLost`, `ConnectionFailed`, `EventsLost`."""
        return self._events.subscribe()

    # Connections

    async def connect(
        self,
        peer: str,
        *,
        label: str | None = None,
        metadata: Any = NO_METADATA,
        serialization: str = "binary",
        reliable: bool = False,
        timeout: float | None = None,
    ) -> DataConnection:
        """Connects to another peer; returns when the connection is open.

        Args:
            peer: its id.
            label: a name for the other side; default: the connection's id.
            metadata: any JSON value for the other side; it is copied.
            serialization: ``"binary"`` (also ``"default"``, ``"binary-utf8"``), ``"json"``, ``"raw"`` (also
                ``"none"``), ``"MsgPack"``, or the name of one of `open_peer`'s ``serializers``.
            reliable: whether values arrive in the order in which they were sent. All arrive in any case.
            timeout: seconds; default: `open_peer`'s ``connect_timeout``.

        Raises:
            PeerError: ``peer-unavailable``: the broker does not know it; ``negotiation-failed``: no connection came
                about in time; ``disconnected``, ``network``: the broker can not be asked.
            LocalProtocolError: there is no such serialization, or the label or the metadata have no form in an offer.
            ValueError: the id is this peer's own, or empty.
        """
        self._check()
        name, make = self._board.serializers.requested(serialization)
        serializer = make(self._board.limits.serializer)
        connection_id = f"dc_{self._random_id()}"
        offer = Offer(
            "data",
            connection_id,
            "",
            metadata,
            label if label is not None else connection_id,
            name,
            reliable or serializer.is_stream,
        )
        link = self._board.make_link(peer, _as_read(offer), serializer, incoming=False)
        connection = await self._start(link, timeout)
        assert isinstance(connection, DataConnection)
        return connection

    async def call(
        self,
        peer: str,
        tracks: Iterable[MediaTrack],
        *,
        metadata: Any = NO_METADATA,
        timeout: float | None = None,
    ) -> MediaConnection:
        """Calls another peer; returns when it has answered, and media can flow.

        Args:
            tracks: what it is to hear and see: tracks of the class ``aiortc.MediaStreamTrack``, one at least.
            metadata, timeout: as for `connect`.

        Raises:
            PeerError: as of `connect`; ``negotiation-failed`` also when nobody answered.
            LocalProtocolError: the metadata have no form in an offer.
            ValueError: there is no track, or the id is this peer's own, or empty.
        """
        self._check()
        offer = _as_read(Offer("media", f"mc_{self._random_id()}", "", metadata))
        link = MediaLink(self._board, peer, offer, incoming=False, tracks=tuple(tracks))
        connection = await self._start(link, timeout)
        assert isinstance(connection, MediaConnection)
        return connection

    async def _start(self, link: DataLink | MediaLink, timeout: float | None) -> AnyConnection:
        peer, _ = link.key
        self._check_connected()
        if not peer or peer == self.id:
            raise ValueError("expected the id of another peer, not this one's own")
        if len(self._board.links) >= self._board.limits.connections:
            raise PeerError("network", f"there are {len(self._board.links)} connections; more are not allowed")
        seconds = self.options.connect_timeout if timeout is None else timeout
        self._board.links.add(link)
        try:
            with trio.fail_after(seconds):
                connection: AnyConnection = await self._services.start(self._run, link)
        except trio.TooSlowError:
            raise PeerError("negotiation-failed", f"no connection to {peer} within {seconds:g} s") from None
        except PeerError:
            self._check()
            raise
        finally:
            if not link.connection.open:
                self._board.links.remove(link)
        return connection

    async def _run(self, link: DataLink | MediaLink, *, task_status: trio.TaskStatus[AnyConnection]) -> None:
        try:
            await link.run(task_status=task_status)
        finally:
            self._board.links.remove(link)

    async def accept(self) -> AnyConnection:
        """The next incoming connection: a `DataConnection` that is open, or a `MediaConnection` to be answered.

        Raises:
            PeerError: ``peer-destroyed``; ``disconnected``: it is not connected to the broker and does not try to be,
                or another type that tells why not, so no connection can come.
        """
        await trio.lowlevel.checkpoint()
        board = self._board
        while not board.accepting:
            self._check_connected()
            await board.changed.park()
        self._check()
        return board.accepting.popleft()

    def __aiter__(self) -> Peer:
        return self

    async def __anext__(self) -> AnyConnection:
        try:
            return await self.accept()
        except PeerError:
            if self._destroyed:
                raise StopAsyncIteration from None
            raise

    # The broker

    async def disconnect(self) -> None:
        """Leaves the broker; connections live on, none can be made. Idempotent."""
        self._check()
        await self._registration.disconnect()

    async def reconnect(self) -> None:
        """Comes back to the broker after `disconnect` or a final loss, under the same id; returns when it knows it.

        Raises:
            PeerError: it is not possible: ``unavailable-id`` if somebody else has the id now, and others.
            RuntimeError: the peer is connected, or tries to be.
        """
        self._check()
        if not self.disconnected:
            raise RuntimeError("expected a disconnected peer; this one is connected, or comes back by itself")
        try:
            await self._registration.connect()
        except PeerError:
            self._check()
            raise

    async def list_all_peers(self) -> list[str]:
        """The ids of all peers at the broker.

        Raises:
            PeerError: ``server-error``, for example because the broker does not allow it; ``disconnected``.
        """
        self._check_connected()
        return await self._registration.list_peers()

    async def destroy(self) -> None:
        """Closes all connections and leaves the broker; bounded by `PeerLimits.close_timeout`, twice. Idempotent.

        The end of `open_peer`'s block does it, too. A cancelled call closes connections at once.
        """
        await trio.lowlevel.checkpoint()
        if self._destroyed:
            await self._gone.wait()
            return
        self._end()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._registration.disconnect)
                for link in self._board.links:
                    nursery.start_soon(link.connection.aclose)
        finally:
            self._gone.set()

    def abandon(self) -> None:
        """For `open_peer`: all its tasks were cancelled, or are about to be. After `destroy` it does nothing."""
        self._end()
        self._gone.set()

    def _end(self) -> None:
        self._destroyed = True
        self._board.changed.unpark_all()
        self._board.accepting.clear()
        self._events.close()

    def _check(self) -> None:
        if self._destroyed:
            raise PeerError("peer-destroyed", "the peer was destroyed")

    def _check_connected(self) -> None:
        self._check()
        registration = self._registration
        if registration.error is not None:
            raise PeerError(registration.error.type, str(registration.error))
        if not registration.wanted:
            raise PeerError("disconnected", "the peer is disconnected; reconnect() lets it come back")


def _as_read(offer: Offer) -> Offer:
    """The offer as the other side will read it, so that both have the same label and metadata.

    Raises:
        LocalProtocolError: it would not.
    """
    message = decode_untrusted(encode_offer("", offer))
    assert isinstance(message, dict)
    try:
        return parse_offer_untrusted(message["payload"])
    except RemoteProtocolError as error:
        raise LocalProtocolError(str(error)) from error
