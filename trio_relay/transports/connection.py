"""What every transport yields: a pipe of whole messages between two neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

__all__ = ["Buffer", "Connection", "TransportName"]

Buffer: TypeAlias = bytes | bytearray | memoryview
TransportName = Literal["websocket", "memory", "attached", "webrtc"]


class Connection(Protocol):
    """A pipe of whole messages: binary ones for the overlay, text ones for original peer-relay nodes.

    One task receives. Sending is done by one caller at a time: `send_nowait` returning False leaves bytes
    inside the connection, and `flush` must have returned before the next message is given.
    A `flush` that was cancelled half way leaves the connection unusable: `abort` it.
    """

    transport: TransportName
    direct: bool
    """Whether `send_nowait` may be called; otherwise only `send`."""
    remote: str
    """The other end for people and for address limits: ``host:port`` (IPv6 in brackets)."""
    local: str
    """Our end, same form."""
    offered_subprotocol: bool
    """Acceptor: the upgrade request named our subprotocol. Dialler: it was named and echoed."""

    async def receive(self) -> list[bytes | str]:
        """Waits for at least one message and returns all that are complete; an empty list is the end.

        Raises:
            RemoteProtocolError: a wire rule was broken (messages before it were returned by earlier calls).
            trio.BrokenResourceError: the connection died.
            trio.ClosedResourceError: it was closed on our side.
        """
        ...

    @property
    def control_pending(self) -> bool:
        """Whether a reply to a control frame waits for `flush` (or for the next message)."""
        ...

    def send_nowait(self, pieces: Sequence[Buffer], *, text: bool = False) -> bool:
        """Writes the concatenation of `pieces` as one message as far as that goes without waiting.

        Returns:
            True when all of it is written; False when `flush` must finish it.

        Raises:
            trio.BrokenResourceError: the connection died.
            trio.ClosedResourceError: it was closed on our side.
        """
        ...

    async def flush(self) -> None:
        """Writes what is left inside the connection, control replies included; same errors."""
        ...

    async def send(self, pieces: Sequence[Buffer], *, text: bool = False) -> None:
        """Writes the concatenation of `pieces` as one message; same errors."""
        ...

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Closes politely and returns within `Limits.close_timeout`; never raises, idempotent."""
        ...

    def abort(self) -> None:
        """Closes at once, without a goodbye; idempotent."""
        ...
