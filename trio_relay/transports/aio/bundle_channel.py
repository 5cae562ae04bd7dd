"""One of several data channels of a connection, as Trio tasks read and write it."""

from __future__ import annotations

from typing import Final

import trio
from aiortc import RTCDataChannel

from ..webrtc import WebRTCConfig
from .data_channel import Channel, Inflow
from .fate import Fate
from .loop import Loop, Owner

__all__ = ["BundleChannel"]


class BundleChannel(Channel):
    """Implements `trio_relay.transports.bundle.BundleChannel`."""

    def __init__(
        self, loop: Loop, owner: Owner, channel: RTCDataChannel, config: WebRTCConfig, fate: Fate, inflow: Inflow
    ) -> None:
        super().__init__(loop, owner, channel, config, fate, inflow)
        self._closed_here = False
        self._opened: Final = fate.add_lot()
        channel.on("open", fate.guard(self._on_open))

    def __repr__(self) -> str:
        return f"<BundleChannel {self.label!r}, {self._channel.readyState}>"

    @property
    def open(self) -> bool:
        """Whether messages can be sent now."""
        return self._channel.readyState == "open" and not self._fate.over

    async def wait_open(self) -> None:
        """Trio. Waits until it is open."""
        await trio.lowlevel.checkpoint()
        while True:
            self._check()
            if self.open:
                return
            if self._channel.readyState in ("closing", "closed"):
                raise trio.BrokenResourceError("the other side closed the data channel")
            await self._opened.park()

    async def send(self, message: bytes | str) -> None:
        """Trio. Waits until it is open and for room, then hands the message over."""
        if not self.open:
            await self.wait_open()
        await super().send(message)

    async def aclose(self) -> None:
        """Trio. Closes this channel alone; what was given to `send` is still sent."""
        await trio.lowlevel.checkpoint()
        if self._closed_here:
            return
        self._closed_here = True
        if not self._fate.over and not self._loop.has_ended:
            self._take_all()
            self._loop.call(self._owner, self._channel.close)
        self.on_ended()

    def _check_ours(self) -> None:
        super()._check_ours()
        if self._closed_here:
            raise trio.ClosedResourceError("the data channel was closed here")

    # Callbacks, in asyncio context

    def _on_open(self) -> None:
        self._opened.unpark_all()

    def _on_message(self, message: bytes | str) -> None:
        if not self._closed_here:
            super()._on_message(message)

    def on_ended(self) -> None:
        """Callback. It was closed, by the other side or here."""
        super().on_ended()
        self._opened.unpark_all()
