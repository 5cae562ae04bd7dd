"""Private parts of aiortc that connections with many channels and streams need, each with its reason.

The others are in `internals` and `media_internals`. Functions are plain, in asyncio context.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pylibsrtp
from aiortc import RTCDataChannel, RTCDtlsTransport, RTCIceTransport, RTCRtpReceiver, RTCRtpSender, RTCSctpTransport
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from aiortc.rtp import RtcpByePacket

__all__ = [
    "Encoding",
    "bound_sources",
    "forget_sources",
    "make_receiver",
    "missing",
    "named_bytes",
    "repair_open_message",
    "route_repeats",
    "set_controlling",
    "set_enabled",
    "set_roles",
]

logger: Final = logging.getLogger("trio_relay")

_MAX_SOURCES: Final = 256
"""That the decryption keeps a state of, of all tracks that there were; the one unused for longest goes."""
_MAX_ROUTES: Final = 128
"""Sources of packets that belong to a track."""


def set_controlling(ice: RTCIceTransport, controlling: bool) -> None:
    """Our role in ICE (RFC 8445 section 6.1.1)."""
    ice._connection.ice_controlling = controlling


def set_roles(ice: RTCIceTransport, dtls: RTCDtlsTransport, role: str, *, controlling: bool) -> None:
    """What aiortc's own negotiation sets."""
    set_controlling(ice, controlling)
    ice._role_set = True
    dtls._set_role(role)


def repair_open_message(sctp: RTCSctpTransport, channel: RTCDataChannel) -> None:
    """Counts the bytes of a new channel's label and protocol, where aiortc counts characters (RFC 8832 section 5.1)."""
    queue: Any = sctp._data_channel_queue
    if channel.label.isascii() and channel.protocol.isascii():
        return
    for place, (owner, kind, data) in enumerate(queue):
        if owner is channel:
            lengths = b"".join(len(text.encode()).to_bytes(2, "big") for text in (channel.label, channel.protocol))
            queue[place] = owner, kind, data[:8] + lengths + data[12:]
            return


def named_bytes(sctp: RTCSctpTransport) -> int:
    """Of the labels and protocols of all channels that there are: aiortc keeps those that are closed here, too."""
    return sum(len(channel.label) + len(channel.protocol) for channel in sctp._data_channels.values())


# Media


def make_receiver(kind: str, track: str | None, dtls: RTCDtlsTransport, rtcp_ssrc: int) -> RTCRtpReceiver:
    """A receiver with its track, as aiortc's negotiation makes them.

    A goodbye in RTCP does not end the track: browsers also say it when they have nothing to send for a while.
    """
    receiver = RTCRtpReceiver(kind, dtls)
    receiver._track = RemoteStreamTrack(kind=kind, id=track)
    receiver._set_rtcp_ssrc(rtcp_ssrc)
    handle = receiver._handle_rtcp_packet

    async def handle_rtcp_packet(packet: Any) -> None:
        if not isinstance(packet, RtcpByePacket):
            await handle(packet)

    receiver._handle_rtcp_packet = handle_rtcp_packet  # type: ignore[method-assign]
    return receiver


def set_enabled(media: RTCRtpSender | RTCRtpReceiver, enabled: bool) -> None:
    """Whether the other side wants what is sent."""
    media._enabled = enabled


class Encoding:
    """Around what encodes the frames of a sender, such that its track can be replaced by any other of its kind.

    An encoder of aiortc takes frames of one form only, and fails for good at others. RTP timestamps are those of the
    frames, which begin anew; here, they go on.

    Args:
        counters: ``webrtc_frames_unsent`` counts frames at which the encoder failed; it is made anew.

    Attributes:
        clock_rate: per second, of the codec.
    """

    def __init__(self, sender: RTCRtpSender, counters: Counter[str]) -> None:
        self.clock_rate = 90000
        private: Any = sender
        self._sender = private
        self._counters = counters
        self._encode = sender._next_encoded_frame
        self._begins_anew = False
        self._offset = self._last = 0
        self._last_at: float | None = None
        private._next_encoded_frame = self._next_encoded_frame

    def begin_anew(self) -> None:
        """The next frame, which is not encoded yet, is of another track."""
        self._sender._RTCRtpSender__encoder = None
        self._begins_anew = True

    async def _next_encoded_frame(self, codec: Any) -> Any:
        try:
            frame: Any = await self._encode(codec)
        except (ConnectionError, MediaStreamError):
            raise
        except Exception:
            logger.debug("a frame cannot be encoded", exc_info=True)
            self._counters["webrtc_frames_unsent"] += 1
            self.begin_anew()
            return None
        if frame is None:
            return None
        now = time.monotonic()
        if self._begins_anew and self._last_at is not None:
            self._offset = self._last + max(1, round((now - self._last_at) * self.clock_rate)) - frame.timestamp
        self._begins_anew = False
        frame.timestamp = self._last = frame.timestamp + self._offset
        self._last_at = now
        return frame


def route_repeats(dtls: RTCDtlsTransport, receiver: RTCRtpReceiver, parameters: RTCRtpReceiveParameters) -> None:
    """Packets that are sent again have a source of their own: aiortc finds its receiver only when there is one."""
    for encoding in parameters.encodings:
        if encoding.rtx is not None:
            dtls._rtp_router.ssrc_table[encoding.rtx.ssrc] = receiver


class _Sources:
    """The decrypting side of SRTP, with a bounded number of sources."""

    def __init__(self, dtls: RTCDtlsTransport, on_drop: Callable[[], None]) -> None:
        self._session: Any = dtls._rx_srtp
        self._routes: dict[int, Any] = dtls._rtp_router.ssrc_table
        self._on_drop = on_drop
        self._known: OrderedDict[int, None] = OrderedDict()

    def unprotect(self, data: bytes) -> bytes:
        source = int.from_bytes(data[8:12], "big")
        if source not in self._routes and len(self._routes) >= _MAX_ROUTES:
            self._on_drop()
            raise pylibsrtp.Error("too many sources")
        taken: bytes = self._session.unprotect(data)
        self._note(source)
        return taken

    def unprotect_rtcp(self, data: bytes) -> bytes:
        taken: bytes = self._session.unprotect_rtcp(data)
        self._note(int.from_bytes(data[4:8], "big"))
        return taken

    def forget(self, source: int) -> None:
        if source in self._known:
            del self._known[source]
            with suppress(pylibsrtp.Error):
                self._session.remove_stream(source)

    def _note(self, source: int) -> None:
        self._known[source] = None
        self._known.move_to_end(source)
        if len(self._known) > _MAX_SOURCES:
            self.forget(next(iter(self._known)))


def bound_sources(dtls: RTCDtlsTransport, on_drop: Callable[[], None]) -> None:
    """Bounds the sources of packets; called when DTLS has just connected.

    Args:
        on_drop: callback; there came one more.
    """
    transport: Any = dtls
    transport._rx_srtp = _Sources(dtls, on_drop)


def forget_sources(dtls: RTCDtlsTransport, media: RTCRtpSender | RTCRtpReceiver) -> None:
    """What encryption keeps of something that was stopped."""
    if isinstance(media, RTCRtpSender) and dtls._tx_srtp is not None:
        for source in (media._ssrc, media._rtx_ssrc):
            with suppress(pylibsrtp.Error):
                dtls._tx_srtp.remove_stream(source)


def missing(
    sender: RTCRtpSender, receiver: RTCRtpReceiver, dtls: RTCDtlsTransport, sctp: RTCSctpTransport
) -> list[str]:
    """The names used here that the installed version does not have."""
    wanted: list[tuple[object, str]] = [
        *(
            (sender, name)
            for name in (
                "_enabled",
                "_next_encoded_frame",
                "_RTCRtpSender__encoder",
                "_ssrc",
                "_rtx_ssrc",
            )
        ),
        *((receiver, name) for name in ("_enabled", "_track", "_handle_rtcp_packet", "_set_rtcp_ssrc")),
        *((dtls, name) for name in ("_set_role", "_rx_srtp", "_tx_srtp", "_rtp_router")),
        (dtls._rtp_router, "ssrc_table"),
        *((dtls.transport, name) for name in ("_connection", "_role_set")),
        *((dtls.transport._connection, name) for name in ("_nominated", "_query_consent_task", "build_request")),
        (dtls.transport._connection, "query_consent"),
        *((sctp, name) for name in ("_data_channel_queue", "_data_channels")),
        *((sctp, name) for name in ("_cwnd", "_flight_size", "_receive_chunk", "_transmit")),
        (pylibsrtp.Session, "remove_stream"),
    ]
    return [name for thing, name in wanted if not hasattr(thing, name)]
