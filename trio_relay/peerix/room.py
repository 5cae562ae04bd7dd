"""A room as the application sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final

import trio

from ..exceptions import DriverError, PayloadTooLarge
from ..node.events import Events, EventStream
from ..node.services import Services
from ..transports.bundle import BundleFactory
from ..wire.json import encode
from . import events
from .addons import Addon
from .drivers.driver import Driver
from .members.member import Member
from .options import DEFAULT_LABEL, ChannelOptions, RoomOptions
from .sending import Sender
from .sharing import LocalStream, Shareable, make_stream
from .stay import Shared, Stay
from .transfers.message import Message
from .transfers.transfer import Transfer
from .values import Me, RoomStatistics

__all__ = ["Me", "Room", "RoomStatistics"]

_FAREWELL: Final = 0.5
"""Seconds that members have to take our last words."""


class Room:
    """A room that we are in; made by `open_room`.

    Messages are an async iteration: ``async for message in room``. It ends when the room is closed.
    """

    def __init__(
        self,
        id: str,
        driver: Driver,
        options: RoomOptions,
        factory: BundleFactory,
        services: Services,
        counts: Counter[str],
    ) -> None:
        """For `open_room`."""
        self.id: Final = id
        self.driver: Final = driver
        self.options: Final = options
        self._services: Final = services
        self._events: Final = Events[Any](options.limits.events)
        self._counts: Final = counts
        self._shared: Final = Shared(options, factory, self._counts, self._events.publish)
        self._sender: Final = Sender(services, options.limits.transfers)
        self._addons: Final[set[Addon]] = set()
        self._stay: Stay | None = None
        self._joining = self._closed = False

    def __repr__(self) -> str:
        state = f"{len(self.members)} members" if self.active else "not joined"
        return f"<Room {self.id!r}, {state}>"

    # What it is

    @property
    def active(self) -> bool:
        """Whether we are in it: from the beginning of `join` to the end of `leave`."""
        return self._joining or self._present is not None

    @property
    def _present(self) -> Stay | None:
        """A stay can be over before who called `leave` has seen it, or because that was cancelled."""
        return self._stay if self._stay is not None and not self._stay.over.is_set() else None

    @property
    def me(self) -> Me | None:
        """We, as the others see us; None while we are not in it."""
        return Me(stay.own_id, stay.own_metadata) if (stay := self._present) is not None else None

    @property
    def members(self) -> Mapping[str, Member]:
        """The others, by id: a snapshot. Those included whose connection is being made."""
        return dict(stay.roster.members) if (stay := self._present) is not None else {}

    @property
    def channels(self) -> Mapping[str, ChannelOptions]:
        """What `open_channel` was called for: every member has one of each, or will."""
        return dict(self._shared.channels)

    @property
    def streams(self) -> Mapping[str, LocalStream]:
        """What `share` was called for, by label."""
        return dict(self._shared.streams)

    @property
    def addons(self) -> frozenset[Addon]:
        """Those that are attached."""
        return frozenset(self._addons)

    def statistics(self) -> RoomStatistics:
        """How many members there are, and every counter."""
        members = self.members.values()
        connected = sum(member.state in ("connected", "disconnected") for member in members)
        counts = {name: count for name, count in (self._counts + self.driver.counts).items() if count}
        return RoomStatistics(connected, len(members) - connected, counts)

    def to_json(self) -> dict[str, Any]:
        """``{"id", "active", "me", "members": [ids]}``."""
        me = self.me
        shown = {"id": me.id, "metadata": me.metadata} if me is not None else None
        return {"id": self.id, "active": self.active, "me": shown, "members": list(self.members)}

    # In and out

    async def join(self, metadata: Any = None) -> Me | None:
        """Enters the room again, after `leave`; returns None if we are in it already.

        Args:
            metadata: any JSON value, for the other members.

        Raises:
            RoomError: ``SIGNALING_ERROR``: the driver does not become active, or cannot subscribe, in time.
            LocalProtocolError: the metadata are no JSON value.
            PayloadTooLarge: they are larger than ``limits.metadata``.
            trio.ClosedResourceError: the room is closed.
        """
        if self._closed:
            raise trio.ClosedResourceError("the room is closed")
        if self.active:
            return None
        size = len(encode(metadata))
        if size > self.options.limits.metadata:
            raise PayloadTooLarge(f"expected metadata of at most {self.options.limits.metadata} bytes, got {size}")
        self._joining = True
        try:
            stay = Stay(self.id, metadata, self.driver, self._shared, self._sender)
            await self._begin(stay)
            self._stay = stay
        finally:
            self._joining = False
        return self.me

    async def _begin(self, stay: Stay) -> None:
        try:
            with trio.fail_after(self.options.join_timeout):
                await self._services.start(stay.run)
        except trio.TooSlowError:
            why = f": {self.driver.why_inactive}" if not self.driver.active else ""
            raise DriverError(f"the room was not joined within {self.options.join_timeout:g} s{why}") from None

    async def leave(self) -> None:
        """Leaves the room: all connections are closed. Others notice by that. Idempotent.

        What was acknowledged has been told to its sender by then; transfers under way fail.
        """
        stay = self._stay
        if stay is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            with trio.move_on_after(_FAREWELL):
                await stay.roster.drain()
        finally:
            stay.leave()
        await stay.over.wait()
        if self._stay is stay:
            self._stay = None

    async def wait_members(self, count: int = 1) -> None:
        """Waits until that many members are connected.

        Raises:
            trio.ClosedResourceError: we are not in the room, or have left it meanwhile.
        """
        await trio.lowlevel.checkpoint()
        while sum(member.link.is_up for member in self.members.values()) < count:
            if not self.active:
                raise trio.ClosedResourceError("we are not in the room")
            await self._shared.changed.park()

    # Channels and messages

    def open_channel(
        self,
        label: str = DEFAULT_LABEL,
        *,
        protocol: str = "",
        ordered: bool = True,
        max_packet_lifetime: float | None = None,
        max_retransmits: int | None = None,
    ) -> None:
        """Opens a data channel with each member, those included that come later. It does not wait.

        It is enough that one of two members does; there is one channel of a label between them. See `ChannelOptions`.

        Raises:
            ValueError: an option makes no sense.
        """
        self._shared.channels[label] = ChannelOptions(
            label=label,
            protocol=protocol,
            ordered=ordered,
            max_packet_lifetime=max_packet_lifetime,
            max_retransmits=max_retransmits,
        )
        for member in self.members.values():
            member.link.open_channel(label)

    def close_channel(self, label: str = DEFAULT_LABEL) -> None:
        """Closes the channels of that label, and opens none any more. It does not wait."""
        self._shared.channels.pop(label, None)
        for member in self.members.values():
            member.close_room_channel(label)

    def send(
        self,
        message: Any,
        *,
        label: str = DEFAULT_LABEL,
        info: Any = None,
        to: str | Collection[str] | None = None,
        cancel_scope: trio.CancelScope | None = None,
    ) -> Transfer:
        """Begins to send a message to members; it does not wait. ``await`` what it returns, or watch its progress.

        Args:
            message: text, bytes, a `Path` or a binary file, an asynchronous iterator of bytes; anything else is sent
                as JSON. Files and iterators are read as fast as members take them.
            label: of the channel, which has to be ordered and reliable, and without a protocol.
            info: any JSON value about it, which arrives before it; less than 16,320 bytes.
            to: ids of members; default: all that are connected now. With nobody, it is complete at once.
            cancel_scope: entered for it; when it is cancelled, or its deadline passes, the transfer is, too.

        Raises:
            LocalProtocolError: the message, or `info`, is something that can not be sent.
            PayloadTooLarge: `info` is too large.
            trio.WouldBlock: too many messages wait already at every member that it goes to; nothing is sent.
        """
        if to is None:
            members = [member for member in self.members.values() if member.link.is_up]
            unknown: list[str] = []
        else:
            wanted = [to] if isinstance(to, str) else list(dict.fromkeys(to))
            present = self.members
            members = [present[id] for id in wanted if id in present]
            unknown = [id for id in wanted if id not in present]
        return self._sender.send(message, members, unknown, label=label, info=info, cancel_scope=cancel_scope)

    async def receive(self) -> Message:
        """Waits for the next message of any member, on any channel.

        Raises:
            trio.EndOfChannel: the room is closed.
        """
        return await self._shared.inbox.receive()

    def __aiter__(self) -> Room:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    # Streams

    def share(self, stream: Shareable, *, label: str = DEFAULT_LABEL, managed: bool = False) -> LocalStream:
        """Sends a stream to each member, those included that come later. It does not wait.

        Args:
            stream: an ``aiortc.MediaStreamTrack``, several, or something that has them as ``audio`` and ``video``.
            label: its name; a stream that is shared by it already is replaced: tracks of the same kind without a new
                negotiation. Those that are gone are stopped, unless it was managed.
            managed: the tracks are yours: they are never stopped here.

        Raises:
            RoomError: ``MEDIASTREAM_ERROR``: there are no tracks.
            ValueError: too many streams, or the label is too long.
        """
        streams = self._shared.streams
        before = streams.get(label)
        if before is None and len(streams) >= self.options.limits.streams:
            raise ValueError(f"expected at most {self.options.limits.streams} streams")
        shared = streams[label] = make_stream(stream, label, managed, before)
        for member in self.members.values():
            member.link.update_streams()
        if before is not None:
            before.stop(keep=shared.tracks)  # only now: a sender does not go on from a track that has ended
        self._tell_local(before, shared)
        return shared

    def unshare(self, label: str = DEFAULT_LABEL) -> None:
        """Stops sharing a stream, and its tracks, unless it is managed. It does not wait. Idempotent."""
        stream = self._shared.streams.pop(label, None)
        if stream is None:
            return
        for member in self.members.values():
            member.link.update_streams()
        stream.stop()
        self._tell_local(stream, None)

    def _tell_local(self, before: LocalStream | None, after: LocalStream | None) -> None:
        tell = self._events.publish
        old, new = (before.tracks if before else ()), (after.tracks if after else ())
        if before is None and after is not None:
            tell(events.StreamAdded(None, after.label, after))
        for stream, tracks, others, kind in (
            (before, old, new, events.TrackRemoved),
            (after, new, old, events.TrackAdded),
        ):
            for track in tracks:
                if stream is not None and track not in others:
                    tell(kind(None, stream.label, stream, track))
        if before is not None and after is None:
            tell(events.StreamRemoved(None, before.label, before))

    # Events and add-ons

    def events(self) -> AbstractAsyncContextManager[EventStream[Any]]:
        """``async with room.events() as events``: see `trio_relay.peerix.events`; what `emit` gave; `EventsLost`."""
        return self._events.subscribe()

    def emit(self, event: Any) -> None:
        """Tells everybody who has subscribed to events something of your own."""
        self._events.publish(event)

    async def attach(self, addon: Addon) -> None:
        """Attaches an add-on: its `Addon.attach` is called, and if that raises, it is not attached."""
        if addon not in self._addons:
            await addon.attach(self)
            self._addons.add(addon)

    async def detach(self, addon: Addon) -> None:
        """Detaches an add-on: it is gone, whatever its `Addon.detach` raises."""
        if addon in self._addons:
            self._addons.discard(addon)
            await addon.detach(self)

    # For open_room

    async def close(self) -> None:
        """Leaves, stops what is shared, and ends events and messages."""
        self._closed = True
        async with AsyncExitStack() as stack:  # each is done, whatever another one raises
            stack.callback(self._events.close)
            stack.callback(self._shared.inbox.end)
            for label in self.streams:
                stack.callback(self.unshare, label)
            for addon in self.addons:
                stack.push_async_callback(self.detach, addon)
            await self.leave()
