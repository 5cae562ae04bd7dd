"""WebRTC over aiortc, which is asyncio's, for plain Trio tasks: the only folder that knows asyncio.

A file of this folder is loaded only where WebRTC is asked for: `trio_relay.transports.webrtc_implementation`. The
import of trio-asyncio itself replaces the event loop policy of asyncio in the process.

What is called from where ("Trio": from Trio tasks, may wait; "asyncio": awaited on the loop; "plain": does not wait;
"callback": called by the loop or by aiortc, in asyncio context, and does not wait):

| what | flavour |
| --- | --- |
| `open_factory`, and the factory that it gives | Trio |
| `PeerConnection`, `data_channel.Channel`: what `transports.webrtc` declares | Trio |
| `open_media_factory`, and the factory that it gives | Trio |
| `open_bundle_factory`, and the factory that it gives | Trio |
| `Bundle`, `bundle_channel.BundleChannel`: what `transports.bundle` declares | Trio, or plain where it says so |
| their properties, and `selected_pair` | plain |
| `MediaPeer`, `remote_track.RemoteTrack`: likewise | Trio |
| `guarded`, `session`, `peer_connection`, `media_peer`: ``_make_...``, ``_take_...``, ``_describe``, | |
| ``_on_packet``; `bundle`: likewise, and ``_gather`` | asyncio |
| `bundle_transport`, `bundle_media`, `bundle_channels`, `bundle_feed`, `bundle_flow`, `bundle_internals`, | |
| `bundle_consent`, `bundle_patience`, where they do not say otherwise | plain, in asyncio context |
| `bundle_lines`, `bundle_sections`, `bundle_numbers` | plain |
| every method named ``_on_...``, but ``_on_packet`` | callback |
| `loop.open_loop`, `Loop.run`, `Loop.settle`, `Loop.wait_ready`, `Loop.finish` | Trio |
| `Loop.call`, `Loop.spawn` | plain, in Trio tasks; what they are given runs in asyncio context |
| `candidates.Candidates`: ``add`` | plain, in asyncio context; ``begin``, ``_take``, ``_end`` asyncio |
| `closing.close` | Trio, shielded |
| `lookups.Lookups` | ``submit`` Trio, called by the loop |
| `fate.Fate` | plain, callable from both sides; ``wait`` Trio |
| `internals` | plain; `send_window_update` asyncio, `restart` Trio |
| `fragments`, `reassembly` | plain; what they put around aiortc's functions runs in asyncio context |
| `media_internals` | plain; `Decoding.get` is called in a thread of aiortc, `Frames.get` is asyncio's |

A callback only appends to something bounded and wakes somebody. An exception in one is kept, and raised by whoever
waits next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..bundle import BundleFactory
from ..webrtc import Factory, MediaFactory, WebRTCConfig
from .bundle import Bundle
from .loop import open_loop
from .media_peer import MediaPeer
from .peer_connection import PeerConnection

__all__ = ["Bundle", "MediaPeer", "PeerConnection", "open_bundle_factory", "open_factory", "open_media_factory"]


@asynccontextmanager
async def open_factory(*, close_timeout: float, counters: Counter[str] | None = None) -> AsyncIterator[Factory]:
    """Trio. Gives the block a `Factory` of connections over aiortc, and the loop that they need.

    Args:
        close_timeout: seconds that the end of a connection, and that of the loop, may take.
        counters: ``webrtc_faults`` (what the other side sent made aiortc fail), ``webrtc_candidates_ignored``,
            ``webrtc_datagrams_dropped`` (too many waited, they were not DTLS, or pieces of messages were too far ahead
            of one that is missing), ``webrtc_channels_refused`` (there was one already), ``webrtc_overflows`` (the
            other side sent more than `WebRTCConfig.receive_window` allows) and ``webrtc_close_timeouts``.

    Raises:
        trio.BrokenResourceError: the loop could not be started.
    """
    counts = Counter[str]() if counters is None else counters
    async with open_loop(close_timeout=close_timeout) as loop:

        @asynccontextmanager
        async def factory(config: WebRTCConfig) -> AsyncIterator[PeerConnection]:
            connection = PeerConnection(loop, config, counts)
            try:
                yield connection
            finally:
                await connection.aclose(close_timeout)

        yield factory


@asynccontextmanager
async def open_media_factory(
    *, close_timeout: float, counters: Counter[str] | None = None
) -> AsyncIterator[MediaFactory]:
    """Trio. Gives the block a `MediaFactory` of connections over aiortc; the loop is that of `open_factory`.

    Args:
        close_timeout: see `open_factory`.
        counters: as of `open_factory`, and ``webrtc_frames_dropped``: of the other side, because nobody received them
            in time, or too many waited to be decoded, or a picture was too large. ``webrtc_datagrams_dropped`` counts
            also those that were of too many sources.

    Raises:
        trio.BrokenResourceError: the loop could not be started.
    """
    counts = Counter[str]() if counters is None else counters
    async with open_loop(close_timeout=close_timeout) as loop:

        @asynccontextmanager
        async def factory(config: WebRTCConfig) -> AsyncIterator[MediaPeer]:
            peer = MediaPeer(loop, config, counts)
            try:
                yield peer
            finally:
                await peer.aclose(close_timeout)

        yield factory


@asynccontextmanager
async def open_bundle_factory(
    *, close_timeout: float, counters: Counter[str] | None = None
) -> AsyncIterator[BundleFactory]:
    """Trio. Gives the block a `BundleFactory` of connections over aiortc; the loop is that of `open_factory`.

    Args:
        close_timeout: see `open_factory`.
        counters: as of `open_media_factory`, and ``webrtc_tracks_refused`` (of the other side: too many, or without a
            codec that is known here), ``webrtc_tracks_untold`` (too many waited to be accepted) and
            ``webrtc_frames_unsent`` (of ours: a connection was slower than others that send the same track, or
            the encoder failed at it).
            ``webrtc_channels_refused`` counts those of the other side beyond the bound.

    Raises:
        trio.BrokenResourceError: the loop could not be started.
    """
    counts = Counter[str]() if counters is None else counters
    async with open_loop(close_timeout=close_timeout) as loop:

        @asynccontextmanager
        async def factory(config: WebRTCConfig) -> AsyncIterator[Bundle]:
            bundle = Bundle(loop, config, counts)
            try:
                yield bundle
            finally:
                await bundle.aclose(close_timeout)

        yield factory
