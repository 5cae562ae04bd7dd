"""What a running peer asks of whoever speaks with original nodes for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..overlay.actions import DeliverLegacy, Found, Preference, Tunnel
from ..transports.connection import Connection
from ..wire.content import Data
from ..wire.ids import NodeId
from .link import Link

__all__ = ["Originals"]


class Originals(Protocol):
    """What the runtime needs of the gateway to original nodes."""

    async def run(
        self,
        connection: Connection,
        first: str | None,
        messages: Sequence[bytes | str],
        *,
        dialled: bool,
        since: float | None = None,
    ) -> None:
        """The life of a link with an original.

        Args:
            first: its first message, None when it was not read yet.
            since: when the time of the handshake began, if not now.
        """
        ...

    def claims(self, to: NodeId) -> bool:
        """Whether messages for that id go by the gateway."""
        ...

    def is_original(self, to: NodeId) -> bool:
        """Whether there is a sign that the id is an original's."""
        ...

    def is_keyless(self, to: NodeId) -> bool:
        """Whether it was asked a moment ago if the id has a key, in vain."""
        ...

    def is_linked(self, to: NodeId) -> bool:
        """Whether there is a direct link with that original."""
        ...

    def first_link(self, to: NodeId) -> Link | None:
        """The link that a message for that id leaves by, as far as known now."""
        ...

    def has_room(self, to: NodeId) -> bool:
        """Whether `send` would not drop a message for want of room; `Desk.change` follows when there is more."""
        ...

    def send(self, to: NodeId, data: Data) -> None:
        """A message for such an id."""
        ...

    def carried(self, action: DeliverLegacy) -> None:
        """An envelope that one of our nodes carried here."""
        ...

    def found(self, action: Found) -> None:
        """A lookup of the gateway ended."""
        ...

    def looked_up(self, to: NodeId, *, asked: bool) -> None:
        """A lookup of the application found no key of that id; `asked`: somebody was there to be asked."""
        ...

    def tunnel(self, action: Tunnel) -> None:
        """A frame of ours has no way in the overlay."""
        ...

    def connect(self, to: NodeId, prefer: Preference = "websocket") -> None:
        """The application wants a link with an original; `Desk.grant` follows."""
        ...

    def cancel_connect(self, to: NodeId) -> None:
        """Nobody in the application waits for that link any more."""
        ...

    def disconnect(self, to: NodeId) -> None:
        """The application wants none."""
        ...

    def overlay_changed(self) -> None:
        """A link of our own protocol came up."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Its counters."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """How full its tables are."""
        ...
