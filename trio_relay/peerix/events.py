"""What a room tells the application: one frozen class for each event of the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from ..exceptions import RoomError

if TYPE_CHECKING:
    from ..transports.webrtc import MediaTrack, RemoteTrack
    from .members.channel import Channel
    from .members.member import Member
    from .members.streams import RemoteStream
    from .sharing import LocalStream
    from .transfers.message import Message

__all__ = [
    "ChannelClosed",
    "ChannelError",
    "ChannelEvent",
    "ChannelMessage",
    "ChannelNew",
    "ChannelOpen",
    "ConnectionClosed",
    "ConnectionConnected",
    "ConnectionConnecting",
    "ConnectionDisconnected",
    "ConnectionEvent",
    "ConnectionFailed",
    "ConnectionNew",
    "ErrorEvent",
    "RoomEvent",
    "StreamAdded",
    "StreamEvent",
    "StreamRemoved",
    "TrackAdded",
    "TrackEvent",
    "TrackRemoved",
]


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """The connection with a member has another state; the subclass says which."""

    name: ClassVar[str] = "connection"
    member: Member

    @property
    def state(self) -> str:
        """For example ``"connected"``."""
        return self.name.partition(":")[2]


class ConnectionNew(ConnectionEvent):
    """A member is there; its connection begins to be made."""

    __slots__ = ()
    name = "connection:new"


class ConnectionConnecting(ConnectionEvent):
    """Addresses are being tried."""

    __slots__ = ()
    name = "connection:connecting"


class ConnectionConnected(ConnectionEvent):
    """It is up."""

    __slots__ = ()
    name = "connection:connected"


class ConnectionDisconnected(ConnectionEvent):
    """The member has not answered for 5 to 10 s; `ConnectionConnected` or, after 30 s, `ConnectionFailed` follows."""

    __slots__ = ()
    name = "connection:disconnected"


class ConnectionFailed(ConnectionEvent):
    """It could not be made, or broke; `ConnectionClosed` follows, and the member is invited again."""

    __slots__ = ()
    name = "connection:failed"


class ConnectionClosed(ConnectionEvent):
    """It is at its end: the member is not in the room any more, as far as we are concerned."""

    __slots__ = ()
    name = "connection:closed"


@dataclass(frozen=True, slots=True)
class ChannelEvent:
    """Something about a data channel with a member."""

    name: ClassVar[str] = "channel"
    member: Member
    label: str
    channel: Channel

    @property
    def id(self) -> str:
        """The member's."""
        return self.member.id


class ChannelNew(ChannelEvent):
    """There is one; it is not open yet."""

    __slots__ = ()
    name = "channel:new"


class ChannelOpen(ChannelEvent):
    """Messages can be sent."""

    __slots__ = ()
    name = "channel:open"


class ChannelClosed(ChannelEvent):
    """It is at its end."""

    __slots__ = ()
    name = "channel:close"


@dataclass(frozen=True, slots=True)
class ChannelMessage(ChannelEvent):
    """A message has begun to come. It is the one that `Room.receive` gives, too: one of the two reads it."""

    name = "channel:message"
    message: Message

    @property
    def info(self) -> Any:
        """What its sender said about it; None if nothing."""
        return self.message.info


@dataclass(frozen=True, slots=True)
class ChannelError(ChannelEvent):
    """A message on its way out or in failed, or what came was none."""

    name = "channel:error"
    error: RoomError


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """Something about a stream: of a member, or our own (then `member` is None)."""

    name: ClassVar[str] = "stream"
    member: Member | None
    label: str
    stream: RemoteStream | LocalStream

    @property
    def id(self) -> str | None:
        """The member's; None where it is our own."""
        return self.member.id if self.member is not None else None


class StreamAdded(StreamEvent):
    """It is there, with its first track."""

    __slots__ = ()
    name = "stream:add"


class StreamRemoved(StreamEvent):
    """Its last track has ended."""

    __slots__ = ()
    name = "stream:remove"


@dataclass(frozen=True, slots=True)
class TrackEvent(StreamEvent):
    """Something about a track of a stream."""

    name: ClassVar[str] = "track"
    track: RemoteTrack | MediaTrack


class TrackAdded(TrackEvent):
    """It is there."""

    __slots__ = ()
    name = "track:add"


class TrackRemoved(TrackEvent):
    """It has ended."""

    __slots__ = ()
    name = "track:remove"


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """Something went wrong that no call could raise; the room goes on.

    Attributes:
        member: the id of the member whom it is about, as far as it says itself; None if it is about nobody.
    """

    name: ClassVar[str] = "error"
    error: RoomError
    member: str | None = None


RoomEvent: TypeAlias = ConnectionEvent | ChannelEvent | StreamEvent | ErrorEvent
