"""What a member's connection needs of its room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import trio

from ...exceptions import RoomError
from ...transports.bundle import BundleFactory
from ..events import ChannelError, ErrorEvent, RoomEvent
from ..options import ChannelOptions, RoomOptions
from ..packets.signalling import Signal
from ..sharing import LocalStream
from ..transfers.inbox import Inbox

if TYPE_CHECKING:
    from .member import Member

__all__ = ["Host"]


class Host(Protocol):
    """One stay in a room. Its methods do not wait."""

    @property
    def own_id(self) -> str:
        """Our id."""
        ...

    @property
    def own_metadata(self) -> Any:
        """What members know of us besides; None if nothing."""
        ...

    @property
    def announced_at(self) -> float:
        """When everybody was told of us last; seconds of Trio's clock."""
        ...

    @property
    def options(self) -> RoomOptions: ...

    @property
    def factory(self) -> BundleFactory:
        """Makes connections."""
        ...

    @property
    def turns(self) -> trio.Semaphore:
        """Held while a connection is being made."""
        ...

    @property
    def changed(self) -> trio.lowlevel.ParkingLot:
        """To be unparked when a member has come up."""
        ...

    @property
    def inbox(self) -> Inbox:
        """Where messages wait to be received."""
        ...

    @property
    def counts(self) -> Counter[str]: ...

    @property
    def channels(self) -> Mapping[str, ChannelOptions]:
        """Those that every member is to have."""
        ...

    @property
    def streams(self) -> Mapping[str, LocalStream]:
        """Those that every member is sent."""
        ...

    def say(self, signal: Signal, to: str) -> None:
        """Sends something to a member through the driver."""
        ...

    def tell(self, event: RoomEvent) -> None:
        """Tells the application."""
        ...

    def complain(self, event: ErrorEvent | ChannelError, about: str | None) -> None:
        """Tells the application that something went wrong with the member of this id, or with none; not too often."""
        ...

    def report(self, error: RoomError, member: Member) -> None:
        """Tells the application that something went wrong."""
        ...
