"""A sender and some members, joined by the channels of fake connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import trio

from tests.transports.fake_bundle import BundleBehaviour, FakeBundle, FakeBundleChannel, FakeBundles, negotiate
from trio_relay.exceptions import RoomError
from trio_relay.peerix.packets.transfer import TransferPacket, parse_transfer_untrusted
from trio_relay.peerix.transfers.channel_link import ChannelLink
from trio_relay.peerix.transfers.inbox import Inbox
from trio_relay.peerix.transfers.limits import TransferLimits
from trio_relay.peerix.transfers.message import Message
from trio_relay.peerix.transfers.starting import start_transfer
from trio_relay.peerix.transfers.transfer import Transfer
from trio_relay.transports.webrtc import WebRTCConfig

__all__ = ["LABEL", "Member", "Room", "open_room", "packets", "read_all"]

LABEL: Final = "chat"


class Member:
    """One side of a room: its inbox and what it was told.

    Attributes:
        links: by the name of the member at the other end.
    """

    def __init__(self, name: str, limits: TransferLimits) -> None:
        self.name: Final = name
        self.limits: Final = limits
        self.counts: Final = Counter[str]()
        self.messages: Final[list[Message]] = []
        self.errors: Final[list[RoomError]] = []
        self.inbox: Final = Inbox(limits, self.counts, on_error=self.errors.append)
        self.links: Final[dict[str, ChannelLink]] = {}
        self.bundles: Final[dict[str, FakeBundle]] = {}

    def link(self, channel: FakeBundleChannel, member: str) -> ChannelLink:
        return ChannelLink(
            channel,
            member,
            self.inbox,
            self.limits,
            self.counts,
            on_message=self.messages.append,
            on_error=self.errors.append,
        )

    def start(
        self, links: Mapping[str, ChannelLink | None], message: Any, nursery: trio.Nursery, **options: Any
    ) -> Transfer:
        """Sends."""
        return start_transfer(message, links, label=LABEL, limits=self.limits, start_soon=nursery.start_soon, **options)

    @property
    def held(self) -> int:
        """Bytes that came here and were not read, in the inbox and before it."""
        return self.inbox.bytes + sum(bundle.held for bundle in self.bundles.values())


class Room:
    """The sender `me` with a channel to each of `members`.

    Attributes:
        channels: the members' ends.
    """

    def __init__(self, me: Member, members: dict[str, Member], nursery: trio.Nursery) -> None:
        self.me: Final = me
        self.members: Final = members
        self.nursery: Final = nursery
        self.channels: Final[dict[str, FakeBundleChannel]] = {}

    def send(self, message: Any, *names: str, **options: Any) -> Transfer:
        """To those named; to all if none is."""
        links = {name: self.me.links[name] for name in names or self.members}
        return self.me.start(links, message, self.nursery, **options)


@asynccontextmanager
async def open_room(
    *names: str,
    limits: TransferLimits | None = None,
    mute: tuple[str, ...] = (),
    behaviour: BundleBehaviour | None = None,
    **channel: Any,
) -> AsyncIterator[Room]:
    """A room with these members.

    Args:
        mute: members whose link does not run: their channel is the test's.
        behaviour: of all connections.
        channel: see `Bundle.open_channel`.
    """
    limits = limits or TransferLimits()
    me, members = Member("me", limits), {name: Member(name, limits) for name in names}
    world, config = FakeBundles(), WebRTCConfig(factory=None)
    factory = world.behaving(behaviour or BundleBehaviour())
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        room = Room(me, members, nursery)
        for name, member in members.items():
            one = await stack.enter_async_context(factory(config))
            other = await stack.enter_async_context(factory(config))
            assert isinstance(one, FakeBundle)
            assert isinstance(other, FakeBundle)
            me.bundles[name], member.bundles["me"] = one, other
            ours = one.open_channel(LABEL, **channel)
            await negotiate(one, other)
            theirs = await other.accept_channel()
            room.channels[name] = theirs
            me.links[name] = me.link(ours, name)
            nursery.start_soon(me.links[name].run)
            if name not in mute:
                member.links["me"] = member.link(theirs, "me")
                nursery.start_soon(member.links["me"].run)
        yield room
        nursery.cancel_scope.cancel()


async def read_all(member: Member) -> None:
    """Reads every message to its end, each in a task."""
    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon((await member.inbox.receive()).read)


async def packets(channel: FakeBundleChannel, count: int) -> list[TransferPacket]:
    """The next so many that come; more must not be there."""
    found: list[TransferPacket] = []
    while len(found) < count:
        messages = await channel.receive()
        assert messages, "the channel was closed"
        for message in messages:
            assert isinstance(message, bytes)
            packet = parse_transfer_untrusted(message)
            assert packet is not None
            found.append(packet)
    assert len(found) == count
    return found
