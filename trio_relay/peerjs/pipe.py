"""What carries the messages of a data connection: a WebRTC data channel, or what stands in for one."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

__all__ = ["Pipe", "Transport"]

Transport: TypeAlias = Literal["webrtc", "relay"]
"""How the messages of a connection travel now."""


class Pipe(Protocol):
    """Whole messages, each once and none lost while it lasts; text is not bytes. One task receives, one sends.

    Errors of every method: `trio.ClosedResourceError` when it was closed on our side, `trio.BrokenResourceError` with
    the reason when it failed.
    """

    @property
    def transport(self) -> Transport:
        """How messages travel now."""
        ...

    @property
    def max_message(self) -> int:
        """Bytes in one message."""
        ...

    @property
    def buffered_amount(self) -> int:
        """Bytes given to `send` that have not been sent yet."""
        ...

    @property
    def says_goodbye(self) -> bool:
        """Whether its end, by itself, lets what was sent arrive; otherwise `drain` has to come first."""
        ...

    async def receive(self) -> list[bytes | str]:
        """Waits for at least one message and returns all that are there; an empty list: the other side closed."""
        ...

    async def send(self, message: bytes | str) -> None:
        """Waits until little enough is buffered, then hands the message over.

        Raises:
            ValueError: it is larger than `max_message`.
        """
        ...

    async def drain(self) -> None:
        """Waits until everything was handed to the network."""
        ...
