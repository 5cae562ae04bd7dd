"""Keeps what we send within the other side's receive window (RFC 9260 section 6.1): aiortc does not."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiortc import RTCSctpTransport

__all__ = ["SendWindow"]

_FIRST_PROBE: Final = 1.0
_LAST_PROBE: Final = 30.0
"""Seconds until a closed window is tried with one packet, for the news that it is open may have been lost."""


class SendWindow:
    """Around the methods of one association; everything is in asyncio context.

    Each packet that acknowledges something says how many bytes may be under way.
    """

    def __init__(self, sctp: RTCSctpTransport) -> None:
        self._sctp: Any = sctp
        self._size = 128 * 1024
        self._patience = _FIRST_PROBE
        self._timer: asyncio.TimerHandle | None = None
        self._probing: asyncio.Future[None] | None = None
        self._probes = self._is_narrow = False
        self._transmit: Final = sctp._transmit
        self._receive_chunk: Final = sctp._receive_chunk
        association: Any = sctp
        association._transmit = self._transmit_within
        association._receive_chunk = self._note_window

    def stop(self) -> None:
        """At the end of the association."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _note_window(self, chunk: Any) -> None:
        size = getattr(chunk, "advertised_rwnd", None)
        if size is not None:
            self._size = size
            if size:
                self._patience = _FIRST_PROBE
        await self._receive_chunk(chunk)

    async def _transmit_within(self) -> None:
        sctp, size = self._sctp, self._size
        if not sctp._flight_size and (sctp._sent_queue or self._probes):
            size = max(size, 1)  # what was lost is repeated, and a probe goes out
            self._probes = False
        congestion = sctp._cwnd
        if size >= congestion or self._is_narrow:  # another call, which waits for TURN, has narrowed it
            await self._transmit()
        else:
            sctp._cwnd, self._is_narrow = size, True
            try:
                await self._transmit()
            finally:
                sctp._cwnd, self._is_narrow = congestion, False
        if sctp._outbound_queue and not sctp._sent_queue and self._timer is None and sctp.state == "connected":
            self._timer = asyncio.get_event_loop().call_later(self._patience, self._probe)

    def _probe(self) -> None:
        """Callback."""
        self._timer = None
        if self._sctp.state == "connected" and self._sctp._outbound_queue and not self._sctp._sent_queue:
            self._patience = min(2 * self._patience, _LAST_PROBE)
            self._probes = True
            self._probing = asyncio.ensure_future(self._sctp._transmit())
