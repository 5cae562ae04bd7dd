"""What a connection with many streams sends and receives."""

from __future__ import annotations

import re
import uuid
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiortc import RTCRtpReceiver, RTCRtpSender
from aiortc.codecs import is_rtx
from aiortc.rtcrtpparameters import (
    RTCRtpDecodingParameters,
    RTCRtpReceiveParameters,
    RTCRtpRtxParameters,
    RTCRtpSendParameters,
)
from aiortc.utils import random32

from ..bundle import StreamTrack
from ..bundle_checks import check_stream
from ..webrtc import MediaTrack
from .bundle_feed import Feed
from .bundle_internals import Encoding, make_receiver, set_enabled
from .bundle_lines import Line
from .bundle_sections import Section
from .bundle_transport import BundleTransport
from .fate import Fate
from .loop import Loop, Owner
from .remote_track import RemoteTrack

__all__ = ["Incoming", "Media", "Place"]

_MAX_WAITING: Final = 64
"""Tracks of the other side that nobody has accepted."""
_TOKEN: Final = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]{1,64}")
"""What the id of a track may be (RFC 8830 section 2)."""


class Place:
    """Where a track of ours is sent, and its successors.

    Attributes:
        refused: the other side does not want it.
    """

    def __init__(
        self, loop: Loop, stream: str, track: MediaTrack, transport: BundleTransport, counters: Counter[str]
    ) -> None:
        self.kind: Final = track.kind
        self.stream: Final = stream
        self.feed: Final = Feed(loop, track.kind, counters)
        self.sender: Final = RTCRtpSender(self.feed, transport.dtls)
        self.msid: Final = f"{stream} {track.id if _TOKEN.fullmatch(track.id) else uuid.uuid4()}"
        self.refused = self.started = False
        self.encoding: Final = Encoding(self.sender, counters)
        self.feed.on_other_track = self.encoding.begin_anew


@dataclass(frozen=True, eq=False)
class Incoming:
    """A track of the other side; `key` is what it said of it."""

    receiver: RTCRtpReceiver
    track: RemoteTrack
    told: StreamTrack
    key: object


class Media:
    """Of one connection. Plain functions, in asyncio context.

    Attributes:
        places: what is to be sent, those that are not negotiated yet included.
        new: tracks that nobody has accepted.
    """

    def __init__(self, loop: Loop, owner: Owner, transport: BundleTransport, fate: Fate) -> None:
        self.places: Final[list[Place]] = []
        self.incoming: Final[list[Incoming]] = []
        self.new: Final[deque[StreamTrack]] = deque()
        self.arrived: Final = fate.add_lot()
        self._loop: Final = loop
        self._transport: Final = transport
        self._fate: Final = fate
        self._counters: Final[Counter[str]] = owner.counters
        self._cname: Final = str(uuid.uuid4())
        self._rtcp_ssrc: Final[int] = random32()

    @property
    def cname(self) -> str:
        """Our name in RTCP."""
        return self._cname

    # What we send

    def set_stream(self, stream: str, tracks: Sequence[MediaTrack]) -> None:
        """See `Bundle.set_stream`; `check` has passed."""
        old = [place for place in self.places if place.stream == stream]
        kept = [place for place in old if any(place.feed.current is track for track in tracks)]
        free = [place for place in old if place not in kept and not place.refused]
        present = [place.feed.current for place in kept]
        for track in [track for track in tracks if not any(track is known for known in present)]:
            place = next((place for place in free if place.kind == track.kind), None)
            if place is not None:
                free.remove(place)
            else:
                place = Place(self._loop, stream, track, self._transport, self._counters)
                self._transport.add(place.sender)
                self.places.append(place)
            place.feed.use(track)
            kept.append(place)
        for place in [place for place in old if place not in kept]:
            self.places.remove(place)
            self.stop_sending(place)

    def check(self, stream: str, tracks: Sequence[MediaTrack]) -> None:
        """Plain. Raises ValueError when that cannot be sent."""
        check_stream(stream, tracks, sum(place.stream != stream for place in self.places))

    def send(self, line: Line, section: Section) -> None:
        """The other side has answered."""
        place = line.place
        if place is None or place not in self.places:  # it has been removed since
            return
        set_enabled(place.sender, section.receives)
        if not place.started:
            place.started = True
            place.encoding.clock_rate = line.codecs[0].clockRate
            parameters = RTCRtpSendParameters(codecs=line.codecs, headerExtensions=line.extensions, muxId=line.mid)
            parameters.rtcp.cname, parameters.rtcp.ssrc, parameters.rtcp.mux = self._cname, place.sender._ssrc, True
            self._transport.send(place.sender, parameters)

    def stop_sending(self, place: Place) -> None:
        """At once; the other side learns it from the next description."""
        place.feed.stop()
        self._transport.stop(place.sender)

    def release(self) -> None:
        """At the end: a sender that has not begun would not stop its track."""
        for place in self.places:
            place.feed.stop()

    # What we receive

    def receive(self, line: Line, section: Section) -> None:
        """The other side sends there now, or does not."""
        key = section.stream, section.track, section.sources
        if line.incoming is not None and (not section.sends or line.incoming.key != key):
            self.stop_receiving(line)
        if line.incoming is None and section.sends:
            line.incoming = self._take(line, section, key)
            self._tell(line.incoming.told)

    def stop_receiving(self, line: Line) -> None:
        """The track has ended."""
        incoming, line.incoming = line.incoming, None
        if incoming is not None:
            self.incoming.remove(incoming)
            self._transport.stop(incoming.receiver)
            incoming.track.end()

    def end(self, line: Line) -> None:
        """There is nothing any more at this place."""
        if line.place is not None and line.place in self.places:
            line.place.refused = True
            line.place.feed.use(None)
            self._transport.stop(line.place.sender)
        self.stop_receiving(line)

    def _take(self, line: Line, section: Section, key: object) -> Incoming:
        receiver = make_receiver(line.kind, section.track, self._transport.dtls, self._rtcp_ssrc)
        self._transport.add(receiver)
        track = RemoteTrack(receiver, receiver.track, self._fate, self._counters)
        incoming = Incoming(receiver, track, StreamTrack(track, section.stream), key)
        self.incoming.append(incoming)
        parameters = RTCRtpReceiveParameters(
            codecs=line.codecs, headerExtensions=line.extensions, muxId=line.mid, encodings=_encodings(line, section)
        )
        self._transport.receive(receiver, parameters)
        return incoming

    def _tell(self, track: StreamTrack) -> None:
        if len(self.new) >= _MAX_WAITING:
            self._counters["webrtc_tracks_untold"] += 1
        else:
            self.new.append(track)
            self.arrived.unpark_all()


def _encodings(line: Line, section: Section) -> list[RTCRtpDecodingParameters]:
    """From which sources the packets come, as far as that is known."""
    sources = section.sources
    if not sources:
        return []
    found = {
        codec.payloadType: RTCRtpDecodingParameters(ssrc=sources[0], payloadType=codec.payloadType)
        for codec in line.codecs
        if codec.payloadType is not None and not is_rtx(codec)
    }
    for codec in line.codecs:
        base = found.get(codec.parameters.get("apt")) if is_rtx(codec) else None  # type: ignore[arg-type]
        if base is not None and len(sources) == 2:
            base.rtx = RTCRtpRtxParameters(ssrc=sources[1])
    return list(found.values())
