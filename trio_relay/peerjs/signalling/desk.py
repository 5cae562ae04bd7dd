"""What a signaller tells its user. Pure."""

from __future__ import annotations

from typing import Protocol

from ...exceptions import PeerError
from ..messages import ServerMessage

__all__ = ["Desk"]


class Desk(Protocol):
    """All of these return at once and raise nothing."""

    def on_open(self, id: str, relayed: bool) -> None:
        """The peer is registered, for the first time or again.

        Args:
            relayed: whether the broker carries connections that WebRTC can not.
        """
        ...

    def on_message(self, message: ServerMessage) -> None:
        """A message for the peer: ``OFFER``, ``ANSWER``, ``CANDIDATE``, ``LEAVE``, ``EXPIRE``, or an unknown type."""
        ...

    def on_lost(self, error: PeerError) -> None:
        """The connection to the broker was lost; the signaller tries to get it back. Once for each `on_open`."""
        ...

    def on_over(self, error: PeerError) -> None:
        """The signaller gave up for good; the last call."""
        ...
