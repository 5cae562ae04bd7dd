"""What connections with a data channel and those with media have in common: aiortc's own negotiation."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import Any, cast

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from ..webrtc import WebRTCConfig
from .closing import Connection
from .guarded import Guarded
from .loop import Loop

__all__ = ["Session"]


class Session(Guarded):
    """One connection that is negotiated once.

    Raises:
        NegotiationFailed: the asyncio loop has ended.
    """

    def __init__(self, loop: Loop, config: WebRTCConfig, counters: Counter[str]) -> None:
        super().__init__(loop, config, counters)
        self._aio.on("connectionstatechange", self._fate.guard(self._on_state))
        self._aio.on("datachannel", self._fate.guard(self._on_data_channel))

    # asyncio

    async def _describe(self, description: RTCSessionDescription) -> str:
        """asyncio. Gathers our addresses; ICE begins when the other side's description is there, too."""
        await self._aio.setLocalDescription(description)
        self._check_addresses()
        sdp: str = self._aio.localDescription.sdp
        return sdp

    # Plain, in asyncio context

    @property
    def _aio(self) -> RTCPeerConnection:
        return cast(RTCPeerConnection, self._connection)

    def _make(self, configuration: RTCConfiguration) -> Connection:
        return RTCPeerConnection(configuration)

    # Callbacks, in asyncio context

    @abstractmethod
    def _on_state(self) -> None:
        """Callback. ICE or DTLS has changed its state."""

    @abstractmethod
    def _on_data_channel(self, channel: Any) -> None:
        """Callback. The other side has opened one."""

    def _why_failed(self) -> str:
        """In the state ``failed``."""
        ice = self._aio.iceConnectionState == "failed"
        return "ICE: no pair of addresses works" if ice else "DTLS: the handshake failed"
