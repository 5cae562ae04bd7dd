"""All data channels with one member, by label."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from ...exceptions import RoomError
from ...node.services import open_alone
from ...transports.bundle import BundleChannel
from .. import events
from ..options import MAX_LABEL
from ..transfers.channel_link import ChannelLink
from ..transfers.message import Message
from ..transfers.transfer import Part
from .channel import Channel
from .host import Host

if TYPE_CHECKING:
    from .member import Member

__all__ = ["Channels"]


class Channels:
    """There is one of a label: if the member makes another one, that takes its place, as with originals, counted. One
    too many is closed, counted.

    Counts ``channels_repeated``, ``channels_refused``.
    """

    def __init__(self, member: Member, host: Host) -> None:
        self._member: Final = member
        self._host: Final = host
        self._channels: Final[dict[str, Channel]] = {}
        self._nursery: trio.Nursery | None = None
        self._waiting: Final[dict[str, deque[Part]]] = {}
        self._ended = False
        self._running = 0
        self._quiet: Final = trio.lowlevel.ParkingLot()

    @property
    def by_label(self) -> Mapping[str, Channel]:
        """Those that there are, open or not."""
        return dict(self._channels)

    def get(self, label: str) -> Channel | None:
        """The one of that label, None if there is none."""
        return self._channels.get(label)

    # Messages for a channel that is not there yet

    def waiting(self, label: str) -> int:
        """How many wait for a channel of that label."""
        return len(self._waiting.get(label, ()))

    def keep(self, label: str, part: Part) -> bool:
        """Sends it over the channel of that label, when there is one; after those that were kept before.

        If there will be none any more, the part fails, and False is returned.
        """
        if self._ended:
            part.fail("disconnected", "the connection with the member has ended")
            return False
        self._waiting.setdefault(label, deque()).append(part)
        return True

    def drop(self, label: str, part: Part) -> bool:
        """It waits no more; says whether it did."""
        waiting = self._waiting.get(label)
        if waiting is None or part not in waiting:
            return False
        waiting.remove(part)
        return True

    # Channels

    def has_room(self) -> bool:
        """Whether there may be one more; counts if not."""
        if len(self._channels) < self._host.options.limits.channels:
            return True
        self._host.counts["channels_refused"] += 1
        return False

    def begin(self, nursery: trio.Nursery) -> None:
        """Channels run in this nursery from now on."""
        self._nursery = nursery

    def end(self) -> None:
        """There will be no more of them."""
        self._ended = True
        for waiting in self._waiting.values():
            for part in waiting:
                part.fail("disconnected", "the connection with the member has ended")
        self._waiting.clear()

    def adopt(self, channel: BundleChannel, *, ours: bool) -> None:
        """One more, not open yet, perhaps."""
        nursery = self._nursery
        assert nursery is not None
        if len(channel.label.encode()) > MAX_LABEL or not (ours or channel.label in self._channels or self.has_room()):
            nursery.start_soon(self._close, channel)
        else:
            if channel.label in self._channels:
                self._host.counts["channels_repeated"] += 1
                self.close(channel.label)
            self._start(channel, nursery)

    def close(self, label: str) -> None:
        """Closes the one of that label, if there is one; there can be another one at once."""
        channel = self._channels.pop(label, None)
        if channel is not None and self._nursery is not None:
            self._nursery.start_soon(self._close, channel)

    def _start(self, raw: BundleChannel, nursery: trio.Nursery) -> None:
        host, member = self._host, self._member
        link = ChannelLink(
            raw,
            member.id,
            host.inbox,
            host.options.limits.transfers,
            host.counts,
            on_message=lambda message: self._on_message(channel, message),
            on_error=lambda error: self._on_error(channel, error),
        )
        channel = self._channels[raw.label] = Channel(raw, link)
        host.tell(events.ChannelNew(member, channel.label, channel))
        nursery.start_soon(self._run, channel)
        for part in self._waiting.pop(raw.label, ()):
            link.send(part)

    async def wait_read(self) -> None:
        """At the end of the connection: waits until all channels have read what had come before it."""
        await trio.lowlevel.checkpoint()
        while self._running:
            await self._quiet.park()

    async def _run(self, channel: Channel) -> None:
        host, member = self._host, self._member
        self._running += 1
        try:
            async with open_alone() as nursery:
                nursery.start_soon(self._tell_open, channel)
                await channel.link.run()
                nursery.cancel_scope.cancel()
        finally:
            self._running -= 1
            self._quiet.unpark_all()
            channel.end()
            if self._channels.get(channel.label) is channel:
                del self._channels[channel.label]
            host.tell(events.ChannelClosed(member, channel.label, channel))

    async def _tell_open(self, channel: Channel) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await channel.wait_open()
            self._host.tell(events.ChannelOpen(self._member, channel.label, channel))

    @staticmethod
    async def _close(channel: BundleChannel | Channel) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await channel.aclose()

    def _on_message(self, channel: Channel, message: Message) -> None:
        self._host.tell(events.ChannelMessage(self._member, channel.label, channel, message))

    def _on_error(self, channel: Channel, error: RoomError) -> None:
        self._host.complain(events.ChannelError(self._member, channel.label, channel, error), self._member.id)
