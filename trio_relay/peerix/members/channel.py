"""A data channel with one member, as the application sees it."""

from __future__ import annotations

from typing import Final

import trio

from ...transports.bundle import BundleChannel
from ..transfers.channel_link import ChannelLink

__all__ = ["Channel"]


class Channel:
    """One data channel with one member. `Member.send` sends messages on it; `send` here sends one as it is.

    Attributes:
        label, protocol: as its creator named it.
        ordered: whether messages arrive in the order in which they were sent.
        reliable: whether all do.
    """

    def __init__(self, channel: BundleChannel, link: ChannelLink) -> None:
        self.label: Final = channel.label
        self.protocol: Final = channel.protocol
        self.ordered: Final = channel.ordered
        self.reliable: Final = channel.reliable
        self.link: Final = link
        self._channel: Final = channel
        self._ended: Final = trio.Event()

    def __repr__(self) -> str:
        return f"<Channel {self.label!r}, {'open' if self.open else 'not open'}>"

    @property
    def open(self) -> bool:
        """Whether messages can be sent now."""
        return self._channel.open and not self._ended.is_set()

    @property
    def takes_transfers(self) -> bool:
        """Whether messages can be sent in pieces: it is ordered and reliable, and has no protocol."""
        return not self.protocol and self.ordered and self.reliable

    async def wait_open(self) -> None:
        """Waits until it is open.

        Raises:
            trio.ClosedResourceError, trio.BrokenResourceError: it is at its end.
        """
        await self._channel.wait_open()

    async def send(self, message: bytes | str) -> None:
        """Sends one message as it is, which a receiver gets as it is where the channel takes no transfers.

        Raises:
            TransferFailed: ``unsupported-channel``: bytes, on a channel where they would be taken for a piece of a
                message; ``too-large``: for the member to take in one; ``timeout``; ``disconnected``.
        """
        await self.link.send_raw(message)

    async def drain(self) -> None:
        """Waits until the member has everything that was given to it, or it is at its end."""
        await self.link.drain()

    async def aclose(self) -> None:
        """Closes it, with this member alone."""
        await self._channel.aclose()

    def end(self) -> None:
        """For the connection: it is over."""
        self._ended.set()
