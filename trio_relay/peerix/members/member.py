"""Another member of a room, as the application sees it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import trio

from ...node.events import Events, EventStream
from ...transports.bundle import Bundle
from ..options import DEFAULT_LABEL, ChannelOptions
from ..sharing import LocalStream, Shareable, make_stream
from ..transfers.transfer import Transfer
from .channel import Channel
from .connection import Connection
from .host import Host
from .streams import RemoteStream

if TYPE_CHECKING:
    from ..sending import Sender

__all__ = ["Member", "MemberState"]

MemberState: TypeAlias = Literal["new", "connecting", "connected", "disconnected", "failed", "closed"]


class Member:
    """Another member, from the moment when its connection begins to be made to its end. A room makes it.

    What is shared, opened and sent here concerns this member alone; `Room` has the same for all.

    Attributes:
        id: its public key, in base 62.
        metadata: what it said about itself, any JSON value; None if nothing.
        state: of its connection. ``disconnected``: it has not answered for some seconds.
    """

    def __init__(self, id: str, metadata: Any, host: Host, sender: Sender) -> None:
        self.id: Final = id
        self.metadata: Final = metadata
        self.state: MemberState = "new"
        self.link: Final = Connection(self, host)
        self._events: Final = Events[Any](host.options.limits.events)
        self._host: Final = host
        self._sender: Final = sender
        self._streams: Final[dict[str, LocalStream]] = {}
        self._wanted: Final[dict[str, ChannelOptions]] = {}
        self._unwanted: Final[set[str]] = set()

    def __repr__(self) -> str:
        return f"<Member {self.id}, {self.state}>"

    @property
    def connection(self) -> Bundle | None:
        """The WebRTC connection; None before and after."""
        return self.link.bundle

    @property
    def streams(self) -> Mapping[str, RemoteStream]:
        """What it shares, by label."""
        return dict(self.link.streams.by_label)

    @property
    def channels(self) -> Mapping[str, Channel]:
        """The data channels with it, by label, open or not."""
        return self.link.channels.by_label

    def share(self, stream: Shareable, *, label: str = DEFAULT_LABEL, managed: bool = False) -> LocalStream:
        """Shares a stream with this member; see `Room.share`."""
        before = self._streams.get(label)
        shared = self._streams[label] = make_stream(stream, label, managed, before)
        self.link.update_streams()
        if before is not None:
            before.stop(keep=shared.tracks)  # only now: a sender does not go on from a track that has ended
        return shared

    def unshare(self, label: str = DEFAULT_LABEL) -> None:
        """Stops sharing what `share` here did; see `Room.unshare`."""
        stream = self._streams.pop(label, None)
        if stream is not None:
            self.link.update_streams()
            stream.stop()

    def open_channel(
        self,
        label: str = DEFAULT_LABEL,
        *,
        protocol: str = "",
        ordered: bool = True,
        max_packet_lifetime: float | None = None,
        max_retransmits: int | None = None,
    ) -> None:
        """Opens a data channel with this member; see `Room.open_channel`."""
        self._unwanted.discard(label)
        self._wanted[label] = ChannelOptions(
            label=label,
            protocol=protocol,
            ordered=ordered,
            max_packet_lifetime=max_packet_lifetime,
            max_retransmits=max_retransmits,
        )
        self.link.open_channel(label)

    def close_channel(self, label: str = DEFAULT_LABEL) -> None:
        """Closes the data channel of that label with this member, if there is one; it stays closed."""
        self._wanted.pop(label, None)
        self._unwanted.add(label)
        self.link.channels.close(label)

    def send(
        self,
        message: Any,
        *,
        label: str = DEFAULT_LABEL,
        info: Any = None,
        cancel_scope: trio.CancelScope | None = None,
    ) -> Transfer:
        """Sends a message to this member; see `Room.send`."""
        return self._sender.send(message, [self], label=label, info=info, cancel_scope=cancel_scope)

    def events(self) -> AbstractAsyncContextManager[EventStream[Any]]:
        """``async with member.events() as events``: those of the room that are about this member, and `EventsLost`.

        They end with its connection.
        """
        return self._events.subscribe()

    def emit(self, event: Any) -> None:
        """Tells everybody who has subscribed to events of this member something of your own."""
        self._events.publish(event)

    def dispose(self) -> None:
        """Ends the connection; the member is not invited again, but may come back by itself."""
        self.link.close()

    def to_json(self) -> dict[str, Any]:
        """``{"id", "metadata", "state", "streams": [labels], "channels": [labels]}``."""
        return {
            "id": self.id,
            "metadata": self.metadata,
            "state": self.state,
            "streams": list(self.streams),
            "channels": list(self.channels),
        }

    # For the connection and the room

    def end(self) -> None:
        """It is gone: there are no more events."""
        self._events.close()

    def outgoing(self) -> list[LocalStream]:
        """What this member is sent; its own streams go before those of the room with the same label."""
        return list({**self._host.streams, **self._streams}.values())

    def wanted_channels(self) -> list[str]:
        """The labels of channels that there should be."""
        return [label for label in {**self._host.channels, **self._wanted} if label not in self._unwanted]

    def wanted_channel(self, label: str) -> ChannelOptions | None:
        """Their options."""
        if label in self._unwanted:
            return None
        return self._wanted.get(label) or self._host.channels.get(label)

    def close_room_channel(self, label: str) -> None:
        """The room has closed its channels of that label."""
        if label not in self._wanted:
            self.link.channels.close(label)
