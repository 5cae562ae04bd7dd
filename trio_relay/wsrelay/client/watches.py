"""Which addresses a client watches, what of that the server knows, and what the server said. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ...exceptions import LocalProtocolError
from .core import encode_watch

__all__ = ["MAX_WATCHES", "Watches"]

MAX_WATCHES: Final = 1023
"""Addresses that one client watches: servers take 1,024 from each peer, and one of them is its own."""

MAX_ADDRESS: Final = 512
"""Characters of an address that servers take."""


class Watches:
    """The addresses that the application watches outlive connections; each new one is told all of them.

    The session watches the client's own address on every connection; the server is never told twice.

    Attributes:
        presence: a live view; None: not known, because the server has not answered or is not connected.
    """

    def __init__(self, own: str) -> None:
        self._own: Final = own
        self._own_online: bool | None = None
        self._presence: Final = dict[str, bool | None]()
        self._told: Final = set[str]()
        self._untold: Final = dict[str, None]()  # addresses of which the server's view is not ours; in order
        self.presence: Final[Mapping[str, bool | None]] = MappingProxyType(self._presence)

    def watch(self, address: str) -> bool:
        """Adds an address; returns whether it is known at once to be online.

        Raises:
            LocalProtocolError: it is not an address that a server takes.
            ValueError: too many are watched.
        """
        if not isinstance(address, str) or ":" not in address[1:]:
            raise LocalProtocolError(f"expected an address like channel:id, not {address!r:.80}")
        if len(address) > MAX_ADDRESS:
            raise LocalProtocolError(f"expected an address of at most {MAX_ADDRESS} characters, not {len(address)}")
        if address in self._presence:
            return False
        if len(self._presence) >= MAX_WATCHES:
            raise ValueError(f"expected at most {MAX_WATCHES} watched addresses")
        self._presence[address] = None
        self._compare(address)
        return address == self._own and self._own_online is not None and self.learn(address, self._own_online)

    def unwatch(self, address: str) -> None:
        """Removes an address, if it is there."""
        self._presence.pop(address, None)
        self._compare(address)

    def _compare(self, address: str) -> None:
        if address == self._own:
            return
        if (address in self._presence) is (address in self._told):
            self._untold.pop(address, None)
        else:
            self._untold[address] = None

    def learn(self, address: str, online: bool) -> bool:
        """The server said so; returns whether that is news of a watched address."""
        if address == self._own:
            self._own_online = online
        if address not in self._presence or self._presence[address] is online:
            return False
        self._presence[address] = online
        return True

    def forget(self) -> None:
        """The connection ended: nothing is known, and the next server knows nothing."""
        self._own_online = None
        self._told.clear()
        self._untold.clear()
        for address in self._presence:
            self._presence[address] = None
            self._compare(address)

    def repeat_unanswered(self) -> None:
        """What the server never answered is told once more: it answers every watch that it takes."""
        for address in [address for address in self._told if self._presence.get(address, True) is None]:
            self._told.discard(address)
            self._compare(address)

    @property
    def untold(self) -> bool:
        """Whether `take` has anything to return."""
        return bool(self._untold)

    def take(self) -> list[bytes]:
        """The frames that tell the server what it does not know; they must be sent."""
        frames = []
        for address in self._untold:
            watched = address in self._presence
            frames.append(encode_watch(address, watched=watched))
            (self._told.add if watched else self._told.discard)(address)
        self._untold.clear()
        return frames
