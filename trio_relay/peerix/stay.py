"""One stay in a room, from join to leave: keys, signalling, members."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import trio

from .._bounded import BoundedMap, TokenBucket
from ..exceptions import RoomError, TransferFailed
from ..node.services import open_services
from ..transports.bundle import BundleFactory
from .drivers.driver import Driver
from .events import ChannelError, ErrorEvent, RoomEvent
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

_COMPLAINTS: Final = 1.0
_MOST_COMPLAINTS: Final = 16.0
"""Errors a second that are told of one member in the long run, and at once."""
_MAX_BLAMED: Final = 1024
_BLAMED_FOR: Final = 60.0


class Shared:
    """What a room keeps from one stay to the next. Counts ``errors_untold``.

    Attributes:
        channels, streams: what members are to have, and what they are sent.
        members: those of the present stay, by id.
        changed: where who waits for members to come up parks.
    """

    def __init__(
        self, options: RoomOptions, factory: BundleFactory, counts: Counter[str], publish: Callable[[Any], None]
    ) -> None:
        self.options: Final = options
        self.factory: Final = factory
        self.counts: Final = counts
        self.members: Mapping[str, Member] = {}
        self._publish: Final = publish
        self.inbox: Final = Inbox(options.limits.transfers, counts, on_error=self._on_dropped)
        self.turns: Final = trio.Semaphore(options.limits.negotiations)
        self.changed: Final = trio.lowlevel.ParkingLot()
        self.channels: Final[dict[str, ChannelOptions]] = {}
        self.streams: Final[dict[str, LocalStream]] = {}
        self._complaints: Final[BoundedMap[str | None, TokenBucket]] = BoundedMap(_MAX_BLAMED, _BLAMED_FOR)

    def tell(self, event: RoomEvent) -> None:
        """Tells the application: who listens to the room, and who listens to the member that it is about."""
        self._publish(event)
        member = event.member if not isinstance(event, ErrorEvent) else self.members.get(event.member or "")
        if member is not None:
            member.emit(event)

    def complain(self, event: ErrorEvent | ChannelError, about: str | None) -> None:
        """Tells that something went wrong; if that happens too often with one member, it is counted only.

        Otherwise whoever sends rubbish would fill the buffers of those who listen, and what matters would be lost.

        Args:
            about: the id of the member; None for all that are none, since strangers can have any number of ids.
        """
        now = trio.current_time()
        bucket = self._complaints.get(about, now) or TokenBucket(_COMPLAINTS, _MOST_COMPLAINTS, now)
        self._complaints.set(about, bucket, now)
        if bucket.take(now):
            self.tell(event)
        else:
            self.counts["errors_untold"] += 1

    def _on_dropped(self, error: TransferFailed) -> None:
        self.complain(ErrorEvent(error, error.member), error.member)


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
        self.complain: Final = shared.complain
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
                    self._shared.members = self.roster.members
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
        self.complain(ErrorEvent(error, member.id), member.id)

    # From the signaller

    def _on_signal(self, sender: str, signal: Signal) -> None:
        self.roster.take(sender, signal)

    def _on_error(self, error: RoomError, member: str | None) -> None:
        self.complain(ErrorEvent(error, member), member if member in self.roster.members else None)


def _draw_keys() -> Keys:
    while True:
        try:
            return Keys.from_secret(secrets.token_bytes(32))
        except ValueError:
            continue
