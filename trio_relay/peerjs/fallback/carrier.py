"""What carries a session for a while: a data channel, or a relay with everything sealed."""

from __future__ import annotations

from typing import Final, Protocol

import trio

from ...exceptions import RemoteProtocolError
from ...transports.webrtc import DataChannel
from ..pipe import Transport
from .sealing import SEALING, Medium, SealedCarriage
from .session import CARRIER_MESSAGE

__all__ = ["Carrier", "ChannelCarrier", "RelayPipe", "SealedCarrier"]

KIB: Final = 1024
_BATCH: Final = 64 * KIB
"""Bytes in one message over a data channel, where the other side takes so much."""


class Carrier(Protocol):
    """Whole messages, in their order, none lost until it breaks. One task receives, one sends.

    Errors of every method: `trio.BrokenResourceError` or `trio.ClosedResourceError` when it is over,
    `RemoteProtocolError` when somebody on the way, or the other side, broke its rules: it is of no use any more.
    """

    @property
    def transport(self) -> Transport:
        """What the application is told."""
        ...

    @property
    def max_message(self) -> int:
        """Bytes in one message, `CARRIER_MESSAGE` at least."""
        ...

    @property
    def buffered_amount(self) -> int:
        """Bytes given to `send` that are still here."""
        ...

    async def receive(self) -> list[bytes]:
        """Waits for at least one message and returns all that are there; none: the other side ended it."""
        ...

    async def send(self, message: bytes) -> None:
        """Waits for room, then takes the message."""
        ...

    async def drain(self) -> None:
        """Waits until the network has everything."""
        ...


class RelayPipe(Protocol):
    """Messages through a relay, as they are; like a `Carrier`, but that some may come in another order, or twice.

    Attributes:
        medium: what the relay is.
        reorder: how far a message may be ahead of an earlier one; 0: it keeps the order.
    """

    medium: Medium
    reorder: int

    @property
    def max_message(self) -> int: ...

    @property
    def buffered_amount(self) -> int: ...

    async def receive(self) -> list[bytes]: ...

    async def send(self, message: bytes) -> None: ...

    async def drain(self) -> None: ...


class ChannelCarrier:
    """A data channel, which keeps the order; DTLS seals it.

    Raises:
        RemoteProtocolError: the other side takes only short messages.
    """

    transport: Final[Transport] = "webrtc"

    def __init__(self, channel: DataChannel) -> None:
        if channel.max_message < CARRIER_MESSAGE:
            raise RemoteProtocolError(f"expected {CARRIER_MESSAGE} bytes to be taken, got {channel.max_message}")
        self._channel: Final = channel
        self.max_message: Final = min(channel.max_message, _BATCH)
        self.send: Final = channel.send
        self.drain: Final = channel.drain

    @property
    def buffered_amount(self) -> int:
        """See `Carrier`."""
        return self._channel.buffered_amount

    async def receive(self) -> list[bytes]:
        """See `Carrier`."""
        messages = await self._channel.receive()
        binary = [message for message in messages if isinstance(message, bytes)]
        if len(binary) < len(messages):
            raise RemoteProtocolError("expected binary messages of a lasting connection, got text")
        return binary


class SealedCarrier:
    """A relay with everything sealed; `open` comes first."""

    transport: Final[Transport] = "relay"

    def __init__(self, pipe: RelayPipe, carriage: SealedCarriage) -> None:
        self._pipe: Final = pipe
        self._carriage: Final = carriage
        self._opened: list[bytes] = []
        self.max_message: Final = pipe.max_message - SEALING
        self.drain: Final = pipe.drain

    @property
    def buffered_amount(self) -> int:
        """See `Carrier`."""
        return self._pipe.buffered_amount

    async def open(self) -> None:
        """Exchanges salts with the other side, once that is there.

        Raises:
            trio.BrokenResourceError: the other side, or the relay, ended the carrier.
        """
        await self._pipe.send(self._carriage.greeting)
        while not self._carriage.is_ready:
            messages = await self._pipe.receive()
            if not messages:
                raise trio.BrokenResourceError("the other side did not come")
            self._open(messages)
        if self._pipe.medium == "overlay":
            # What we said first may have come before the other side listened.
            await self._pipe.send(self._carriage.greeting)

    async def receive(self) -> list[bytes]:
        """See `Carrier`."""
        while not self._opened:
            messages = await self._pipe.receive()
            if not messages:
                return []
            self._open(messages)
        opened, self._opened = self._opened, []
        return opened

    async def send(self, message: bytes) -> None:
        """See `Carrier`."""
        await self._pipe.send(self._carriage.seal(message))

    def _open(self, messages: list[bytes]) -> None:
        for message in messages:
            self._opened += self._carriage.open(message)
