"""Descriptions of connections with many channels and streams, read and written with aiortc's words for SDP. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from aiortc import (
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCIceCandidate,
    RTCIceParameters,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCSctpTransport,
)
from aiortc.rtcrtpparameters import RTCRtpParameters
from aiortc.sdp import GroupDescription, MediaDescription, SessionDescription, SsrcDescription

from ...wire.bundle_description import Outline
from .candidates import Signalled
from .sections import LEFT_OUT, direction_of, name_of, signalled_of, split_parts, transport_of

__all__ = ["Described", "Own", "Section", "Written", "read", "write"]

_PORT: Final = 9
"""Of whatever has its transport elsewhere in the description."""
_HOST: Final = "0.0.0.0"


# Theirs


@dataclass(frozen=True, slots=True)
class Section:
    """One of the other side.

    Attributes:
        mid: None when it was refused and has none.
        media: None when it was refused.
        sends: whether the other side sends, or offers to.
        receives: whether it receives, or offers to.
    """

    kind: str
    mid: str | None
    media: MediaDescription | None = None
    sends: bool = False
    receives: bool = False

    @property
    def stream(self) -> str:
        """The id of its stream; empty when it has none (RFC 8830 section 2)."""
        stream = self._msid[0]
        return "" if stream == "-" else stream

    @property
    def track(self) -> str | None:
        """The id of its track."""
        return self._msid[1] or None

    @property
    def sources(self) -> list[int]:
        """Of its packets, and after that of those that are sent again."""
        return [source.ssrc for source in self.media.ssrc] if self.media is not None else []

    @property
    def _msid(self) -> tuple[str, str]:
        stream, _, rest = ((self.media.msid if self.media is not None else None) or "").partition(" ")
        return stream, rest.split(" ")[0]


@dataclass(frozen=True, slots=True)
class Described:
    """What the other side's description says; `ice` and `dtls` are of the transport that all sections share."""

    sections: tuple[Section, ...]
    ice: RTCIceParameters
    dtls: RTCDtlsParameters
    signalled: Signalled

    @property
    def identity(self) -> object:
        """By what the transport is known: other names would be another one."""
        fingerprints = {(known.algorithm.lower(), known.value.upper()) for known in self.dtls.fingerprints}
        return self.ice.usernameFragment, self.ice.password, frozenset(fingerprints)


def read(sdp: str, outline: Outline) -> Described:
    """Reads what has passed `check_bundle_description_untrusted`, whose outline it takes.

    aiortc raises whatever it likes when it does not understand something.
    """
    session, *sections = split_parts(sdp)
    lines = [line for line in session if name_of(line) not in LEFT_OUT]
    shared = transport_of(session, sections[outline.tagged])
    for number, section in enumerate(sections):
        if not outline.refused[number]:
            kept = [line for line in section if name_of(line) not in LEFT_OUT]
            lines += [*kept, *shared, f"a={direction_of(session, section)}"]
    parsed = iter(SessionDescription.parse("\r\n".join([*lines, ""])).media)
    read = tuple(
        Section(kind, mid) if is_refused else _read_section(kind, mid, next(parsed))
        for kind, mid, is_refused in zip(outline.kinds, outline.mids, outline.refused, strict=True)
    )
    tagged = read[outline.tagged].media
    assert tagged is not None
    assert tagged.ice is not None
    assert tagged.dtls is not None
    signalled = signalled_of(session, sections[outline.tagged], outline.tagged)
    return Described(read, tagged.ice, tagged.dtls, signalled)


def _read_section(kind: str, mid: str | None, media: MediaDescription) -> Section:
    sends, receives = (media.direction in ("sendrecv", one_way) for one_way in ("sendonly", "recvonly"))
    return Section(kind, mid, media, sends, receives)


# Ours


@dataclass(frozen=True, slots=True)
class Own:
    """What our descriptions say of the transport."""

    ice: RTCIceParameters
    candidates: Sequence[RTCIceCandidate]
    fingerprints: Sequence[RTCDtlsFingerprint]
    role: str
    sctp_port: int = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A section of ours.

    Attributes:
        direction: None: it is refused, or has ended.
        sources: as of `Section`.
    """

    kind: str
    mid: str
    profile: str
    direction: str | None
    codecs: Sequence[RTCRtpCodecParameters] = ()
    extensions: Sequence[RTCRtpHeaderExtensionParameters] = ()
    msid: str | None = None
    sources: Sequence[int] = field(default=())


def write(sections: Sequence[Written], own: Own, *, number: int, version: int, cname: str) -> str:
    """A description with these sections; the first that has not ended has the candidates.

    Args:
        number: of the session; `version` grows with every description (RFC 8829 section 5.2.1).
        cname: our name in RTCP.
    """
    description = SessionDescription()
    description.origin = f"- {number} {version} IN IP4 127.0.0.1"
    bundled = [section for section in sections if section.direction is not None]
    description.group.append(GroupDescription(semantic="BUNDLE", items=[section.mid for section in bundled]))
    description.msid_semantic.append(GroupDescription(semantic="WMS", items=["*"]))
    texts = [
        _write_section(section, own, cname, is_tagged=section is bundled[0])
        if section.direction is not None
        else _write_ended(section)
        for section in sections
    ]
    return "".join([str(description), *texts])


def _write_ended(section: Written) -> str:
    form = "webrtc-datachannel" if section.kind == "application" else "0"
    lines = [f"m={section.kind} 0 {section.profile} {form}", f"c=IN IP4 {_HOST}", "a=inactive"]
    lines += [f"a=mid:{section.mid}"] if section.mid else []
    return "".join(f"{line}\r\n" for line in lines)


def _write_section(section: Written, own: Own, cname: str, *, is_tagged: bool) -> str:
    media = MediaDescription(kind=section.kind, port=_PORT, profile=section.profile, fmt=["webrtc-datachannel"])
    media.host = _HOST
    media.rtp = RTCRtpParameters(muxId=section.mid)
    if section.kind == "application":
        media.sctp_port = own.sctp_port
        media.sctpCapabilities = RTCSctpTransport.getCapabilities()
    else:
        _write_media(media, section, cname)
    media.ice = own.ice
    if is_tagged and own.candidates:
        media.ice_candidates = list(own.candidates)
        media.ice_candidates_complete = True
        media.host, media.port = own.candidates[0].ip, own.candidates[0].port
    media.dtls = RTCDtlsParameters(fingerprints=list(own.fingerprints), role=own.role)
    return str(media)


def _write_media(media: MediaDescription, section: Written, cname: str) -> None:
    media.fmt = [codec.payloadType for codec in section.codecs]
    media.direction = section.direction
    media.msid = section.msid
    media.rtp = RTCRtpParameters(
        codecs=list(section.codecs), headerExtensions=list(section.extensions), muxId=section.mid
    )
    media.rtcp_port, media.rtcp_host, media.rtcp_mux = _PORT, _HOST, True
    media.ssrc = [SsrcDescription(ssrc=source, cname=cname) for source in section.sources]
    if len(section.sources) > 1:
        media.ssrc_group = [GroupDescription(semantic="FID", items=list(section.sources))]
