"""The control channel of one connection: what members say to each other when no broker is needed any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from ...exceptions import RemoteProtocolError, RoomError
from ...node.services import open_alone
from ...transports.bundle import BundleChannel
from ..packets.control import Control, encode_control, parse_control_untrusted

__all__ = ["ControlChannel"]

_MAX_WAITING: Final = 256
"""Messages of ours; a member that takes none for so long has no use for more."""


class ControlChannel:
    """Run it once.

    Args:
        on_open: called when it is open.
        on_control: called with what the member says.
        may_read: waits while the member must wait.
        counts: ``control_malformed``, ``control_unknown``, ``control_unsent`` (the member takes no message as long).
    """

    def __init__(
        self,
        channel: BundleChannel,
        *,
        on_open: Callable[[], None],
        on_control: Callable[[Control], None],
        may_read: Callable[[], Awaitable[None]],
        on_error: Callable[[RoomError], None],
        counts: Counter[str],
    ) -> None:
        self._channel: Final = channel
        self._on_open: Final = on_open
        self._on_control: Final = on_control
        self._may_read: Final = may_read
        self._on_error: Final = on_error
        self._counts: Final = counts
        self._send, self._out = trio.open_memory_channel[Control](_MAX_WAITING)
        self._was_open = False

    @property
    def open(self) -> bool:
        """Whether messages reach the member by it."""
        return self._was_open and self._channel.open

    def say(self, control: Control) -> None:
        """Sends one message.

        Raises:
            trio.WouldBlock: too many wait.
        """
        self._send.send_nowait(control)

    async def run(self) -> str:
        """Carries messages until the channel ends, and returns why."""
        try:
            await self._channel.wait_open()
            self._was_open = True
            self._on_open()
            async with open_alone() as nursery:
                nursery.start_soon(self._write)
                await self._read()
                nursery.cancel_scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            return str(error) or "the connection broke"
        return "the member has left"

    async def _read(self) -> None:
        while messages := await self._channel.receive():
            for message in messages:
                await self._may_read()
                self._take(message)

    def _take(self, message: bytes | str) -> None:
        try:
            if isinstance(message, str):
                raise RemoteProtocolError("expected a binary message on the control channel, got text")
            control = parse_control_untrusted(message)
        except RemoteProtocolError as error:
            self._counts["control_malformed"] += 1
            self._on_error(RoomError("SIGNALING_ERROR", str(error)))
            return
        if control is None:
            self._counts["control_unknown"] += 1
        else:
            self._on_control(control)

    async def _write(self) -> None:
        try:
            async for control in self._out:
                await self._write_one(encode_control(control))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the reader learns of it, too

    async def _write_one(self, message: bytes) -> None:
        if len(message) <= self._channel.max_message:
            await self._channel.send(message)
        else:
            self._counts["control_unsent"] += 1
            most = self._channel.max_message
            self._on_error(RoomError("SIGNALING_ERROR", f"the member takes no control message of over {most} bytes"))
