"""The data channels of one connection: a bounded number, of both sides together."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Final

import trio
from aiortc import RTCDataChannel, RTCSctpTransport
from aiortc.rtcdatachannel import RTCDataChannelParameters

from ..bundle_checks import MAX_CHANNELS, check_channel
from ..webrtc import WebRTCConfig
from .bundle_channel import BundleChannel
from .bundle_internals import named_bytes, repair_open_message
from .data_channel import Inflow
from .fate import Fate
from .loop import Loop, Owner

__all__ = ["MAX_STREAMS", "BundleChannels", "make_parameters"]

MAX_STREAMS: Final = 4 * MAX_CHANNELS
"""Channels that the other side uses at a time: those that are still closing are among them."""
_MAX_NAMED: Final = 4 * 1024 * 1024
"""Bytes of the names of all channels, those that are closing included."""


class BundleChannels:
    """Plain functions, in asyncio context, but for `accept`, which is Trio's.

    Args:
        on_association_ended: callback; it is at its end, and with it all channels.
        owner: of its counters, ``webrtc_channels_refused`` counts those of the other side beyond the bound.
    """

    def __init__(
        self,
        loop: Loop,
        owner: Owner,
        sctp: RTCSctpTransport,
        config: WebRTCConfig,
        fate: Fate,
        on_association_ended: Callable[[], None],
    ) -> None:
        self._on_association_ended: Final = on_association_ended
        self._loop: Final = loop
        self._owner: Final = owner
        self._sctp: Final = sctp
        self._config: Final = config
        self._fate: Final = fate
        self._counters: Final[Counter[str]] = owner.counters
        self.inflow: Final = Inflow(loop, owner, sctp, config, fate)
        self._open: Final[set[BundleChannel]] = set()
        self._new: Final[deque[BundleChannel]] = deque()
        self._arrived: Final = fate.add_lot()
        sctp.on("datachannel", fate.guard(self._on_data_channel))

    def __len__(self) -> int:
        return len(self._open)

    def open(self, parameters: RTCDataChannelParameters) -> BundleChannel:
        """Makes one.

        Raises:
            ValueError: there are too many, or one has the same id.
        """
        if len(self._open) >= MAX_CHANNELS:
            raise ValueError(f"expected at most {MAX_CHANNELS} data channels of both sides together")
        channel = RTCDataChannel(self._sctp, parameters)
        repair_open_message(self._sctp, channel)
        return self._adopt(channel)

    async def accept(self) -> BundleChannel:
        """Trio. See `Bundle.accept_channel`."""
        await trio.lowlevel.checkpoint()
        while not self._new or self._fate.closed:
            self._fate.check_open()
            await self._arrived.park()
        return self._new.popleft()

    def end(self) -> None:
        """The other side has closed the connection: nothing more will come over any of them."""
        for channel in tuple(self._open):
            channel.on_ended()

    def _adopt(self, channel: RTCDataChannel) -> BundleChannel:
        adopted = BundleChannel(self._loop, self._owner, channel, self._config, self._fate, self.inflow)
        self._open.add(adopted)
        channel.on("close", self._fate.guard(partial(self._on_close, adopted)))
        return adopted

    # Callbacks

    def _on_data_channel(self, channel: RTCDataChannel) -> None:
        if named_bytes(self._sctp) > _MAX_NAMED:
            self._fate.fail("the other side opened data channels with too long names")
        if len(self._open) >= MAX_CHANNELS or len(self._new) >= MAX_CHANNELS or self._fate.over:
            self._counters["webrtc_channels_refused"] += 1
            channel.close()
            return
        self._new.append(self._adopt(channel))
        self._arrived.unpark_all()

    def _on_close(self, channel: BundleChannel) -> None:
        if self._sctp.state == "closed":
            self._on_association_ended()
        elif not self._fate.over:
            channel.on_ended()
        self._open.discard(channel)


def make_parameters(
    label: str,
    *,
    protocol: str,
    ordered: bool,
    max_retransmits: int | None,
    max_packet_lifetime: float | None,
    id: int | None,
) -> RTCDataChannelParameters:
    """What `Bundle.open_channel` was given, as aiortc takes it.

    Raises:
        ValueError: it cannot be.
    """
    check_channel(label, protocol, max_retransmits, max_packet_lifetime, id)
    return RTCDataChannelParameters(
        label=label,
        protocol=protocol,
        ordered=ordered,
        maxRetransmits=max_retransmits,
        maxPacketLifeTime=None if max_packet_lifetime is None else math.ceil(max_packet_lifetime * 1000),
        negotiated=id is not None,
        id=id,
    )
