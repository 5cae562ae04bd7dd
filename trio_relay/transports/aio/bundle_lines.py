"""The places of a description, and what an offer or an answer makes of them (RFC 8829 sections 5.2, 5.3, 5.10, 5.11).

Each has one direction: what we send and what the other side sends never share one. One that has ended stays, until
something new takes it. Nothing here changes a place: a plan says what is to be at each of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, zip_longest
from typing import TYPE_CHECKING, Final, Literal

from aiortc import RTCRtpCodecParameters, RTCRtpHeaderExtensionParameters
from aiortc.codecs import is_rtx

from ...exceptions import NegotiationFailed
from ...wire.bundle_description import MAX_BUNDLE_SECTIONS
from .bundle_numbers import Numbers, common_codecs, common_extensions
from .bundle_sections import Section, Written

if TYPE_CHECKING:
    from .bundle_media import Incoming, Place

__all__ = ["MAX_INCOMING", "Line", "Lines", "Plan"]

MAX_INCOMING: Final = 24
"""Tracks of the other side: each takes a thread while it comes."""

_NAME: Final = re.compile("t([0-9]{1,6})")
_SCTP: Final = "UDP/DTLS/SCTP"
_RTP: Final = "UDP/TLS/RTP/SAVPF"


@dataclass(eq=False)
class Line:
    """One place.

    Attributes:
        kind: ``"application"``, ``"audio"`` or ``"video"``.
        codecs: what both sides know; in an offer of ours, before its answer: what we know.
        place: what we send there, where the role is ``ours``.
        incoming: what comes, where the role is ``theirs``; None while the other side sends nothing.
    """

    kind: str
    mid: str
    role: Literal["channels", "ours", "theirs", "ended"]
    profile: str = _RTP
    codecs: list[RTCRtpCodecParameters] = field(default_factory=list)
    extensions: list[RTCRtpHeaderExtensionParameters] = field(default_factory=list)
    place: Place | None = None
    incoming: Incoming | None = None

    def ended(self) -> Line:
        """The same without anything."""
        return Line(self.kind, self.mid, "ended", self.profile)

    def write_offered(self) -> Written:
        """As it stands in our offers."""
        return self._write("sendonly" if self.role == "ours" else "recvonly")

    def write_answered(self, section: Section | None) -> Written:
        """As it stands in our answer to an offer with this section."""
        goes_on = section is not None and (section.receives if self.role == "ours" else section.sends)
        return self._write(("sendonly" if self.role == "ours" else "recvonly") if goes_on else "inactive")

    def _write(self, direction: str) -> Written:
        """`direction` is of audio and video that has not ended."""
        place = self.place if self.role == "ours" else None
        sources = [] if place is None else [place.sender._ssrc, place.sender._rtx_ssrc]
        return Written(
            kind=self.kind,
            mid=self.mid,
            profile=self.profile,
            direction=None if self.role == "ended" else direction,
            codecs=self.codecs,
            extensions=self.extensions,
            msid=None if place is None else place.msid,
            sources=sources if any(map(is_rtx, self.codecs)) else sources[:1],
        )


Plan = list[tuple[Line, Section | None]]
"""What is to be at each place, and what the other side says of it."""


class Lines:
    """All places of one connection. Plain functions, without effects but upon the numbers.

    Args:
        counters: ``webrtc_tracks_refused`` counts those of the other side beyond `MAX_INCOMING`, or without a codec
            that is known here.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self.now: list[Line] = []
        self._counters: Final = counters
        self.numbers: Final = Numbers()
        self._next = 0

    @property
    def channels(self) -> Line | None:
        """That of the data channels."""
        return next((line for line in self.now if line.role == "channels"), None)

    def draft(self, places: Sequence[Place]) -> list[Line]:
        """What our next offer has: the data channels, all these places, and what the other side sends.

        Raises:
            NegotiationFailed: there are too many.
        """
        draft = [line.ended() if line.role == "ours" and line.place not in places else line for line in self.now]
        free = iter([number for number, line in enumerate(self.now) if line.role == "ended"])
        if self.channels is None:
            draft.append(Line("application", self._name_channels(draft), "channels", _SCTP))
        told = {line.place for line in draft}
        for place in (place for place in places if place not in told and not place.refused):
            new = Line(place.kind, self._name(draft), "ours", place=place)
            new.codecs, new.extensions = self.numbers.codecs(place.kind), self.numbers.extensions(place.kind)
            number = next(free, len(draft))
            draft[number : number + 1] = [new]
        if len(draft) > MAX_BUNDLE_SECTIONS:
            raise NegotiationFailed(f"more than {MAX_BUNDLE_SECTIONS} tracks of both sides together")
        return draft

    def plan_answered(self, draft: list[Line], sections: Sequence[Section]) -> Plan:
        """What our offer has come to.

        Raises:
            NegotiationFailed: it is no answer to this offer.
        """
        if len(sections) != len(draft) or any(map(_differ, draft, sections)):
            raise NegotiationFailed("the answer is to another offer")
        plan: Plan = []
        for line, section in zip(draft, sections, strict=True):
            if line.role == "channels" and section.media is None:
                raise NegotiationFailed("the other side refuses data channels")
            if section.media is None or (
                line.role == "ours" and not common_codecs(line.kind, section.media.rtp.codecs)
            ):
                plan.append((line.ended(), None))
            else:
                plan.append((line, section if line.role != "ended" else None))
        return plan

    def plan_offered(self, sections: Sequence[Section], places: Sequence[Place]) -> Plan:
        """What the other side's offer comes to; what we no longer send, and what we cannot receive, is refused.

        Raises:
            NegotiationFailed: it is not of this connection.
        """
        if len(sections) < len(self.now):
            raise NegotiationFailed(f"the offer has {len(sections)} sections, and had {len(self.now)} before")
        incoming = sum(line.role == "theirs" for line in self.now)
        plan: Plan = []
        for line, section in zip_longest(self.now, sections):
            planned = self._plan_one(line, section, places) if line is not None else self._plan_new(section)
            if planned[0].role == "theirs" and planned[0] is not line:
                incoming += 1
                if incoming > MAX_INCOMING:
                    planned = planned[0].ended(), None
            if planned[0].role == "ended" and section.media is not None and (line is None or line.role != "ours"):
                self._counters["webrtc_tracks_refused"] += 1
            plan.append(planned)
        return plan

    def _plan_one(self, line: Line, section: Section, places: Sequence[Place]) -> tuple[Line, Section | None]:
        if line.role == "ended":
            return self._plan_new(section, line)
        if _differ(line, section):
            raise NegotiationFailed(f"the offer has another section where {line.mid} of this connection is")
        if line.role == "channels" and section.media is None:
            raise NegotiationFailed("the other side refuses data channels")
        if section.media is None or (line.role == "ours" and line.place not in places):
            return line.ended(), None
        return line, section

    def _plan_new(self, section: Section, ended: Line | None = None) -> tuple[Line, Section | None]:
        """Where there is nothing until now."""
        mid = section.mid or (ended.mid if ended is not None else "")
        if section.media is None:
            return Line(section.kind, mid, "ended", _SCTP if section.kind == "application" else _RTP), None
        profile = section.media.profile
        if section.kind == "application":
            if section.media.sctp_port is None or self.channels is not None:
                raise NegotiationFailed("the offer has data channels of a kind, or in a place, that is not known")
            return Line("application", mid, "channels", profile), section
        codecs = common_codecs(section.kind, section.media.rtp.codecs)
        if not codecs:
            return Line(section.kind, mid, "ended", profile), None
        extensions = common_extensions(section.kind, section.media.rtp.headerExtensions)
        return Line(section.kind, mid, "theirs", profile, codecs, extensions), section

    def _name_channels(self, draft: Sequence[Line]) -> str:
        """As browsers call the only section of a first offer: Chromium does not find them again under another name."""
        used = {line.mid for line in draft}
        return next(name for name in map(str, count()) if name not in used)

    def _name(self, draft: Sequence[Line]) -> str:
        """A mid that no side has used.

        Browsers have numbers. Chromium takes an offer of its own back badly when other sections have the same names as
        those in it, which had other numbers of header extensions.
        """
        used = [int(found[1]) for line in (*self.now, *draft) if (found := _NAME.fullmatch(line.mid))]
        self._next = max(self._next, *(number + 1 for number in used), 0)
        return f"t{self._next}"


def _differ(line: Line, section: Section) -> bool:
    return (section.kind, section.mid or line.mid) != (line.kind, line.mid)
