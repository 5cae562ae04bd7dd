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
    """There is one of a label; another one is closed, counted, and so is one too many.

    Counts ``channels_repeated``, ``channels_refused``.
    """

    def __init__(self, member: Member, host: Host) -> None:
        self._member: Final = member
        self._host: Final = host
        self._channels: Final[dict[str, Channel]] = {}
        self._nursery: trio.Nursery | None = None
        self._waiting: Final[dict[str, deque[Part]]] = {}

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

    def keep(self, label: str, part: Part) -> None:
        """Sends it over the channel of that label, when there is one; after those that were kept before."""
        self._waiting.setdefault(label, deque()).append(part)

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
        for waiting in self._waiting.values():
            for part in waiting:
                part.fail("disconnected", "the connection with the member has ended")
        self._waiting.clear()

    def adopt(self, channel: BundleChannel, *, ours: bool) -> None:
        """One more, not open yet, perhaps."""
        nursery = self._nursery
        assert nursery is not None
        if not ours and (len(channel.label.encode()) > MAX_LABEL or not self.has_room()):
            nursery.start_soon(self._close, channel)
        elif channel.label in self._channels:
            self._host.counts["channels_repeated"] += 1
            nursery.start_soon(self._close, channel)
        else:
            self._start(channel, nursery)

    def close(self, label: str) -> None:
        """Closes the one of that label, if there is one."""
        channel = self._channels.get(label)
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

    async def _run(self, channel: Channel) -> None:
        host, member = self._host, self._member
        try:
            async with open_alone() as nursery:
                nursery.start_soon(self._tell_open, channel)
                await channel.link.run()
                nursery.cancel_scope.cancel()
        finally:
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
        self._host.tell(events.ChannelError(self._member, channel.label, channel, error))
