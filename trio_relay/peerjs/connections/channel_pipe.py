"""A WebRTC data channel as the pipe of a connection."""

from __future__ import annotations

from typing import Final

from ...transports.webrtc import DataChannel
from ..pipe import Transport

__all__ = ["ChannelPipe"]


class ChannelPipe:
    """Implements `Pipe`."""

    transport: Final[Transport] = "webrtc"
    says_goodbye: Final = False

    def __init__(self, channel: DataChannel) -> None:
        self._channel: Final = channel
        self.receive: Final = channel.receive
        self.send: Final = channel.send
        self.drain: Final = channel.drain

    @property
    def max_message(self) -> int:
        """Bytes in one message, as the other side announced."""
        return self._channel.max_message

    @property
    def buffered_amount(self) -> int:
        """Bytes that have not been sent yet."""
        return self._channel.buffered_amount
