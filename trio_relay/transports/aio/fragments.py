"""Pieces of messages that wait in SCTP: aiortc counts their bytes, and neither the pieces nor the streams.

A piece costs several hundred bytes, whatever is in it, and of those that need no order aiortc looks through all that
wait whenever one more comes.
"""

from __future__ import annotations

from typing import Any, Final

from aiortc.rtcsctptransport import SCTP_DATA_UNORDERED, InboundStream, RTCSctpTransport

__all__ = ["MAX_STREAMS", "bound_fragments"]

MAX_STREAMS: Final = 64
"""Of one association: a data channel has one."""
_MIN_FRAGMENTS: Final = 4096
_MIN_SIZE: Final = 256
"""Bytes in a piece; honest ones that are not the last of a message have four times as many."""
_ORDERED: Final = 8
"""Times as many may wait where they need order: a message may be as small as one likes."""
_FEW: Final = 512
"""Of one stream: what does not matter."""


class _BoundedStream(InboundStream):
    """Raises OverflowError, which ends the connection."""

    def __init__(self, streams: dict[int, InboundStream], bound: int) -> None:
        super().__init__()
        self._streams = streams
        self._bound = bound

    def add_chunk(self, chunk: Any) -> None:
        waiting = len(self.reassembly)
        if waiting >= _FEW:
            bound = self._bound if chunk.flags & SCTP_DATA_UNORDERED else self._bound * _ORDERED
            if waiting >= bound or sum(len(stream.reassembly) for stream in self._streams.values()) >= bound:
                raise OverflowError("too many pieces of messages wait for others")
        super().add_chunk(chunk)


def bound_fragments(sctp: RTCSctpTransport, window: int, most_streams: int = MAX_STREAMS) -> None:
    """Plain. Bounds them by the receive window; called before the association begins."""
    transport: Any = sctp
    streams: dict[int, InboundStream] = transport._inbound_streams
    bound = max(_MIN_FRAGMENTS, window // _MIN_SIZE)

    def get_inbound_stream(stream_id: int) -> InboundStream:
        if stream_id not in streams:
            if len(streams) >= most_streams:
                raise OverflowError(f"more than {most_streams} streams")
            streams[stream_id] = _BoundedStream(streams, bound)
        return streams[stream_id]

    transport._get_inbound_stream = get_inbound_stream
