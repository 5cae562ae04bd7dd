"""Pieces of messages that wait in SCTP: aiortc counts their bytes, and neither the pieces nor the streams.

A piece costs several hundred bytes, whatever is in it. `reassembly` is what keeps their cost in time low.
"""

from __future__ import annotations

from typing import Any, Final

from aiortc.rtcsctptransport import SCTP_DATA_UNORDERED, RTCSctpTransport
from aiortc.utils import uint32_gt

from .reassembly import Reassembly

__all__ = ["MAX_STREAMS", "SLACK", "bound_fragments", "keep_window_closed"]

MAX_STREAMS: Final = 64
"""Of one association: a data channel has one."""
_MIN_FRAGMENTS: Final = 4096
_MIN_SIZE: Final = 256
"""Bytes in a piece; honest ones that are not the last of a message have four times as many."""
_ORDERED: Final = 8
"""Times as many may wait where they need order: a message may be as small as one likes."""
_FEW: Final = 512
"""Of one stream: what does not matter."""


class _BoundedStream(Reassembly):
    """Raises OverflowError, which ends the connection."""

    def __init__(self, stream_id: int, streams: dict[int, _BoundedStream], bound: int) -> None:
        super().__init__(stream_id)
        self._streams = streams
        self._bound = bound

    def add_chunk(self, chunk: Any) -> None:
        if self.waiting >= _FEW:
            bound = self._bound if chunk.flags & SCTP_DATA_UNORDERED else self._bound * _ORDERED
            if sum(stream.waiting for stream in self._streams.values()) >= bound:
                raise OverflowError("too many pieces of messages wait for others")
        super().add_chunk(chunk)


def bound_fragments(sctp: RTCSctpTransport, window: int, most_streams: int = MAX_STREAMS) -> None:
    """Plain. Bounds them by the receive window; called before the association begins."""
    transport: Any = sctp
    streams: dict[int, _BoundedStream] = transport._inbound_streams
    bound = max(_MIN_FRAGMENTS, window // _MIN_SIZE)

    def get_inbound_stream(stream_id: int) -> _BoundedStream:
        if stream_id not in streams:
            if len(streams) >= most_streams:
                raise OverflowError(f"more than {most_streams} streams")
            streams[stream_id] = _BoundedStream(stream_id, streams, bound)
        return streams[stream_id]

    transport._get_inbound_stream = get_inbound_stream


SLACK: Final = 512 * 1024
"""Bytes beyond the receive window: what an honest side may have sent before it learned how narrow it has become. It
has room for a message of the largest size, so that one whose beginning was taken can always be completed."""


def keep_window_closed(sctp: RTCSctpTransport) -> None:
    """Plain. Far beyond the receive window new data are dropped (RFC 9260 section 6.2), but not what fills a gap.

    aiortc takes and acknowledges all, and so lets a browser go on: each probe of a closed window calls for the next.
    """
    transport: Any = sctp
    receive = transport._receive_data_chunk

    async def receive_data_chunk(chunk: Any) -> None:
        if transport._advertised_rwnd >= -SLACK or not _is_newest(transport, chunk.tsn):
            await receive(chunk)
        else:
            transport._sack_needed = True

    transport._receive_data_chunk = receive_data_chunk


def _is_newest(transport: Any, tsn: int) -> bool:
    newest = transport._last_received_tsn
    for misordered in transport._sack_misordered:
        if uint32_gt(misordered, newest):
            newest = misordered
    return uint32_gt(tsn, newest)
