"""What all connections of a peer hold together of what came and was not received. Pure."""

from __future__ import annotations

from typing import Final

__all__ = ["Held", "HoldsTooMuch", "Share"]


class HoldsTooMuch(Exception):
    """All connections together hold too much, and this one more than its even share."""


class Held:
    """The sum over all connections.

    Args:
        most: bytes.
        shares: connections that there may be. One that holds no more than its even share of `most` is not to blame
            for what others hold; so the sum stays below twice `most`.
    """

    def __init__(self, most: int, shares: int) -> None:
        self.bytes = 0
        self.most: Final = most
        self.even_share: Final = most // shares


class Share:
    """The part of one connection. It is given back when there is nobody any more who could receive it."""

    __slots__ = ("_bytes", "_held")

    def __init__(self, held: Held) -> None:
        self._held: Final = held
        self._bytes = 0

    def __del__(self) -> None:
        self._held.bytes -= self._bytes

    def set(self, size: int) -> None:
        """The connection holds so much now."""
        self._held.bytes += size - self._bytes
        self._bytes = size

    def check(self) -> None:
        """Sees to it that the connection may go on to receive.

        Raises:
            HoldsTooMuch: it has to end.
        """
        held = self._held
        if held.bytes > held.most and self._bytes > held.even_share:
            raise HoldsTooMuch(f"all connections together hold {held.bytes} bytes, and this one {self._bytes}")
