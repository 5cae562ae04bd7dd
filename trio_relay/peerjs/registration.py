"""Whether, and as whom, a peer is known to its broker: it comes, is lost and comes back, and leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import trio

from ..exceptions import PeerError
from ..node.events import Events
from ..node.services import Services
from .events import PeerEvent, PeerLost, PeerOpened
from .messages import ServerMessage
from .options import log
from .signalling.desk import Desk

__all__ = ["MakeSignaller", "Registration", "Signals"]


class Signals(Protocol):
    """A way to the broker; `signalling.signaller.Signaller` is one."""

    @property
    def open(self) -> bool:
        """Whether the broker knows the peer now."""
        ...

    async def run(self) -> None:
        """Keeps it so, until `close`, or until there is no hope."""
        ...

    async def close(self) -> None:
        """Leaves; bounded."""
        ...

    def send(self, frame: bytes) -> None:
        """See `Registration.send`."""
        ...

    async def list_peers(self) -> list[str]:
        """See `Registration.list_peers`."""
        ...


MakeSignaller: TypeAlias = Callable[[str | None, bool, Desk], Signals]
"""Makes one for an id, None for one that the broker gives out; and whether the broker has known the peer before."""


class Registration:
    """Implements `signalling.signaller.Desk`.

    Args:
        make: makes a signaller; each is used for one connection to the broker, lost and regained as it may be.
        take: is given each message from the broker; it does not raise.
        id: wanted; None: the broker gives one.

    Attributes:
        id: None before it is known.
        relayed: whether the broker carries connections that can not go on by WebRTC.
        error: why it is not tried any more; None while it is, or if nobody wants it.
        wanted: whether the peer is to be connected.
        changed: woken when any of this may have changed.
    """

    def __init__(
        self,
        services: Services,
        make: MakeSignaller,
        take: Callable[[ServerMessage], None],
        events: Events[PeerEvent],
        id: str | None,
        changed: trio.lowlevel.ParkingLot,
    ) -> None:
        self.id = id
        self.relayed = False
        self.error: PeerError | None = None
        self.wanted = False
        self._known = False
        self._services: Final = services
        self._make: Final = make
        self._take: Final = take
        self._events: Final = events
        self._signaller: Signals | None = None
        self.changed: Final = changed

    @property
    def open(self) -> bool:
        """Whether the broker knows this peer now."""
        return self._signaller is not None and self._signaller.open

    async def connect(self) -> None:
        """Returns when the broker has registered the peer.

        Raises:
            PeerError: it will not be.
        """
        assert self._signaller is None
        self.wanted, self.error = True, None
        signaller = self._signaller = self._make(self.id, self._known, self)
        try:
            self._services.start_soon(self._run, signaller)
            while not signaller.open:
                if self.error is not None:
                    raise self.error
                if self._signaller is not signaller:
                    raise PeerError("disconnected", "the peer was disconnected while it connected")
                await self.changed.park()
        except BaseException:
            # Whoever is not told that it is connected did not connect it.
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        """Leaves the broker, politely; bounded by a close timeout."""
        self.wanted = False
        signaller, self._signaller = self._signaller, None
        self.changed.unpark_all()
        if signaller is not None:
            await signaller.close()

    async def list_peers(self) -> list[str]:
        """The ids of all peers at the broker; it has to allow that.

        Raises:
            PeerError: ``server-error``, ``disconnected``.
        """
        return await self._current().list_peers()

    def send(self, frame: bytes) -> None:
        """Sends a frame, or keeps it until the broker is reached again.

        Raises:
            PeerError: ``network``: too much waits; ``disconnected``: nobody wants it to be reached.
        """
        self._current().send(frame)

    def _current(self) -> Signals:
        if self._signaller is None:
            if self.error is not None:
                raise PeerError("disconnected", f"the peer is disconnected: {self.error}")
            raise PeerError("disconnected", "the peer is disconnected; reconnect() lets it come back")
        return self._signaller

    async def _run(self, signaller: Signals) -> None:
        await signaller.run()
        if self._signaller is signaller:
            self._signaller = None
            self.changed.unpark_all()

    # From the signaller

    def on_open(self, id: str, relayed: bool) -> None:
        """The broker has registered the peer."""
        self.id, self.relayed, self._known = id, relayed, True
        self._events.publish(PeerOpened(id))
        self.changed.unpark_all()

    def on_message(self, message: ServerMessage) -> None:
        """A message from the broker."""
        self._take(message)

    def on_lost(self, error: PeerError) -> None:
        """The connection to the broker is lost; it is tried again."""
        log.warning("peer %s: %s", self.id, error)
        self._events.publish(PeerLost(error, final=False))

    def on_over(self, error: PeerError) -> None:
        """It is lost, and not tried again."""
        log.error("peer %s: %s", self.id, error)
        self.error = error
        self._signaller = None
        self._events.publish(PeerLost(error, final=True))
        self.changed.unpark_all()
