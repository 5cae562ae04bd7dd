"""Session descriptions and candidates of WebRTC from strangers, before anything else reads them. Pure.

Here they are only checked: one data channel, or audio and video with at most one; everything that is needed to open
it, nothing in excess. What passes may still be refused by the WebRTC implementation (SDP: RFC 8866; its use here:
RFC 8829, RFC 8839, RFC 8841, RFC 8842, RFC 9143).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Final

from ..exceptions import RemoteProtocolError
from .json import JSONValue, describe
from .sections import (
    DIRECTIONS,
    LINE_END,
    MAX_CANDIDATES,
    MID,
    attributes_of,
    is_refused,
    read_lines,
    require_candidate,
    require_candidates,
    require_fingerprints,
    require_media,
    require_sctp,
    require_section,
    require_transport,
    split_sections,
)

__all__ = [
    "MAX_CANDIDATES",
    "MAX_DESCRIPTION",
    "MAX_MEDIA_DESCRIPTION",
    "MAX_SECTIONS",
    "Candidate",
    "binding",
    "check_description_untrusted",
    "check_media_description_untrusted",
    "count_places",
    "find_tagged",
    "parse_candidate_untrusted",
]

MAX_DESCRIPTION: Final = 16 * 1024
"""Characters in a description: ten times what a host with a few addresses needs."""
MAX_MEDIA_DESCRIPTION: Final = 64 * 1024
"""Characters in a description of audio and video: browsers need 6,000 to 12,000."""
MAX_SECTIONS: Final = 8
"""Of one description of audio and video."""
_MAX_LINES: Final = 256
_MAX_MEDIA_LINES: Final = 2048
_MAX_LINE: Final = 1024
"""Characters in a line of a description of audio and video."""
_MAX_MID: Final = 64
_MAX_LINE_INDEX: Final = 255


@dataclass(frozen=True, slots=True)
class Candidate:
    """One address at which a side may be reached.

    Attributes:
        candidate: ``candidate:`` and what follows it in SDP (RFC 8839 section 5.1).
        mid: the name of its media section, `line` its number from 0; a side that sends candidates one by one tells
            one of them or both.
    """

    candidate: str
    mid: str | None
    line: int | None


def parse_candidate_untrusted(value: JSONValue) -> Candidate | None:
    """Reads the form that browsers give a candidate in JSON, ``{"candidate", "sdpMid", "sdpMLineIndex"}``.

    Returns:
        None when there are no more: the text is empty.

    Raises:
        RemoteProtocolError: it is none.
    """
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"expected an ICE candidate as an object, got {describe(value)}")
    text, mid, line = value.get("candidate"), value.get("sdpMid"), value.get("sdpMLineIndex")
    if not isinstance(text, str):
        raise RemoteProtocolError(f"expected the text of an ICE candidate, got {describe(text)}")
    if mid is not None and not (isinstance(mid, str) and mid.isascii() and mid.isprintable() and len(mid) <= _MAX_MID):
        raise RemoteProtocolError(f"expected sdpMid of at most {_MAX_MID} characters, got {describe(mid)}")
    if line is not None and not (type(line) is int and 0 <= line <= _MAX_LINE_INDEX):
        raise RemoteProtocolError(f"expected sdpMLineIndex from 0 to {_MAX_LINE_INDEX}, got {describe(line)}")
    if not text:
        return None
    require_candidate(text)
    return Candidate(text, mid, line)


def check_description_untrusted(sdp: str) -> None:
    """Refuses whatever is not the description of one data channel, and of nothing else.

    Raises:
        RemoteProtocolError: what was expected, and what came.
    """
    lines = read_lines(sdp, MAX_DESCRIPTION, _MAX_LINES)
    sections = [number for number, line in enumerate(lines) if line.startswith("m=")]
    if len(sections) != 1:
        raise RemoteProtocolError(f"expected a description of one data channel, got {len(sections)} media sections")
    protocol = require_media(lines[sections[0]])
    session, media = attributes_of(lines[: sections[0]]), attributes_of(lines[sections[0] + 1 :])
    require_transport({**session, **media})
    require_fingerprints(lines)
    require_sctp(media, protocol)
    require_candidates(attributes_of(lines))


def check_media_description_untrusted(sdp: str) -> None:
    """Refuses whatever is not the description of audio or video, with one data channel at most, over one transport.

    Raises:
        RemoteProtocolError: what was expected, and what came.
    """
    lines = read_lines(sdp, MAX_MEDIA_DESCRIPTION, _MAX_MEDIA_LINES)
    if any(len(line) > _MAX_LINE for line in lines):
        raise RemoteProtocolError(f"expected lines of at most {_MAX_LINE} characters in a description, got more")
    session, *sections = split_sections(lines)
    kinds = [section[0][2:].partition(" ")[0] for section in sections]
    if len(kinds) > MAX_SECTIONS or kinds.count("application") > 1 or not {"audio", "video"} & {*kinds}:
        raise RemoteProtocolError(
            f"expected audio or video, at most {MAX_SECTIONS} sections and one data channel, got {kinds[:10]!r:.200}"
        )
    tagged = sections[find_tagged(sdp)]
    for section in sections:
        require_section(section, is_tagged=section is tagged)
    transport = [*session, *tagged]
    require_transport({**attributes_of(session), **attributes_of(tagged)})
    require_fingerprints(transport)
    require_candidates(attributes_of(transport))


def find_tagged(sdp: str) -> int:
    """The number of the section whose transport all sections of a description share (RFC 9143 section 7).

    Raises:
        RemoteProtocolError: sections have no names, or are not all in one BUNDLE group.
    """
    session, *sections = split_sections(read_lines(sdp, MAX_MEDIA_DESCRIPTION, _MAX_MEDIA_LINES))
    mids = [attributes_of(section).get("mid", []) for section in sections]
    names = [values[0] for values in mids if len(values) == 1 and MID.fullmatch(values[0])]
    if not names or len({*names}) < len(sections):
        raise RemoteProtocolError("expected a name as mid of each section of a description, each another")
    groups = [group.split() for group in attributes_of(session).get("group", [])]
    bundles = [names for semantic, *names in filter(None, groups) if semantic == "BUNDLE"]
    refused = {name for name, section in zip(names, sections, strict=True) if is_refused(section)}
    if len(sections) == 1 and not bundles:
        return 0
    if len(bundles) != 1 or not bundles[0] or {*bundles[0]} | refused != {*names}:
        raise RemoteProtocolError("expected all sections of a description in one BUNDLE group")
    return names.index(bundles[0][0])


def count_places(offer: str) -> Counter[str]:
    """How many tracks of ``"audio"`` and ``"video"`` an answer to this offer may have; nothing is checked here."""
    session, *sections = split_sections([line for line in LINE_END.split(offer) if line])
    common = DIRECTIONS.intersection(attributes_of(session))
    places = Counter[str]()
    for section in sections:
        own = DIRECTIONS.intersection(attributes_of(section)) or common or {"sendrecv"}
        if own & {"sendrecv", "recvonly"} and not is_refused(section):
            places[section[0][2:].partition(" ")[0]] += 1
    return places


def binding(offer: str, answer: str) -> str:
    """Names a connection by the certificates of both ends: both compute the same, and nobody in between can.

    The same whatever else stands in the descriptions, and in whatever order and case.

    Args:
        offer: with `answer`, what the two sides exchanged; both have passed `check_description_untrusted`.

    Returns:
        ``webrtc:`` and 64 hexadecimal digits: SHA-256 over ``offer``, its fingerprints, ``answer``, its
        fingerprints, each on a line of its own. A fingerprint is the name of its hash function in lower case, a
        space, and the digits in upper case; those of one side are sorted, each is there once.

    Raises:
        RemoteProtocolError: a description has no fingerprint.
    """
    offered, answered = (require_fingerprints(read_lines(sdp, MAX_DESCRIPTION, _MAX_LINES)) for sdp in (offer, answer))
    lines = ["offer", *offered, "answer", *answered]
    text = "".join(f"{line}\n" for line in lines)
    return f"webrtc:{hashlib.sha256(text.encode('ascii')).hexdigest()}"
