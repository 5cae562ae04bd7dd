"""One stay in a room, from join to leave: keys, signalling, members."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import trio

from ..exceptions import RoomError, TransferFailed
from ..node.services import open_services
from ..transports.bundle import BundleFactory
from .drivers.driver import Driver
from .events import ErrorEvent, RoomEvent
from .members.member import Member
from .options import ChannelOptions, RoomOptions
from .packets.namespaces import namespace
from .packets.sealing import ID_SIZE, Keys
from .packets.signalling import Signal
from .roster import Roster
from .sending import Sender
from .sharing import LocalStream
from .signalling.exchange import Exchange
from .signalling.signaller import Signaller
from .transfers.inbox import Inbox

__all__ = ["Shared", "Stay"]


class Shared:
    """What a room keeps from one stay to the next.

    Attributes:
        channels, streams: what members are to have, and what they are sent.
        tell: takes an event for the application.
        changed: where who waits for members to come up parks.
    """

    def __init__(
        self, options: RoomOptions, factory: BundleFactory, counts: Counter[str], tell: Callable[[RoomEvent], None]
    ) -> None:
        self.options: Final = options
        self.factory: Final = factory
        self.counts: Final = counts
        self.tell: Final = tell
        self.inbox: Final = Inbox(options.limits.transfers, counts, on_error=self._on_dropped)
        self.turns: Final = trio.Semaphore(options.limits.negotiations)
        self.changed: Final = trio.lowlevel.ParkingLot()
        self.channels: Final[dict[str, ChannelOptions]] = {}
        self.streams: Final[dict[str, LocalStream]] = {}

    def _on_dropped(self, error: TransferFailed) -> None:
        self.tell(ErrorEvent(error, error.member))


class Stay:
    """Run it once, as a task; it implements `Host` for the connections of its members."""

    def __init__(self, room: str, metadata: Any, driver: Driver, shared: Shared, sender: Sender) -> None:
        options = shared.options
        self._keys: Final = _draw_keys() if options.signaling_encryption else None
        own = self._keys.public if self._keys is not None else secrets.token_bytes(ID_SIZE)
        self._exchange: Final = Exchange(
            own,
            self._keys,
            compression=options.signaling_compression,
            strangers=options.limits.strangers,
            counts=shared.counts,
            now=trio.current_time(),
        )
        self.own_id: Final = self._exchange.id
        self.own_metadata: Final = metadata
        self.options: Final = options
        self.factory: Final = shared.factory
        self.turns: Final = shared.turns
        self.changed: Final = shared.changed
        self.inbox: Final = shared.inbox
        self.counts: Final = shared.counts
        self.tell: Final = shared.tell
        self.over: Final = trio.Event()
        self.roster: Roster
        self._shared: Final = shared
        self._sender: Final = sender
        self._driver: Final = driver
        self._scope: Final = trio.CancelScope()
        find = lru_cache(maxsize=1024)(lambda name: namespace(name, hashing=options.namespace_hashing))
        self._signaller: Final = Signaller(
            driver,
            self._exchange,
            room=find(room),
            find=find,
            signals=options.limits.signals,
            on_signal=self._on_signal,
            on_error=self._on_error,
            counts=shared.counts,
        )

    @property
    def announced_at(self) -> float:
        """When everybody was told of us last; seconds of Trio's clock."""
        return self._signaller.announced_at

    @property
    def channels(self) -> Mapping[str, ChannelOptions]:
        """Those that every member is to have."""
        return self._shared.channels

    @property
    def streams(self) -> Mapping[str, LocalStream]:
        """Those that every member is sent."""
        return self._shared.streams

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Joins, tells that it has, and stays until `leave`.

        Raises:
            DriverError: the driver could not subscribe.
        """
        try:
            with self._scope:
                async with open_services() as services:
                    self.roster = Roster(self, self._exchange, services, self._sender, self.counts)
                    await services.start(self._signaller.run)
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self.over.set()
            self.changed.unpark_all()

    def leave(self) -> None:
        """Ends it; `over` tells when everything is closed."""
        self._scope.cancel()

    # For members

    def say(self, signal: Signal, to: str) -> None:
        """Sends something to a member through the driver."""
        self._signaller.say(signal, to)

    def report(self, error: RoomError, member: Member) -> None:
        """Tells the application that something went wrong."""
        self.tell(ErrorEvent(error, member.id))

    # From the signaller

    def _on_signal(self, sender: str, signal: Signal) -> None:
        self.roster.take(sender, signal)

    def _on_error(self, error: RoomError, member: str | None) -> None:
        self.tell(ErrorEvent(error, member))


def _draw_keys() -> Keys:
    while True:
        try:
            return Keys.from_secret(secrets.token_bytes(32))
        except ValueError:
            continue
