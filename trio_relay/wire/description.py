"""Session descriptions and candidates of WebRTC from strangers, before anything else reads them. Pure.

Here they are only checked: one data channel, or audio and video with at most one; everything that is needed to open
it, nothing in excess. What passes may still be refused by the WebRTC implementation (SDP: RFC 8866; its use here:
RFC 8829, RFC 8839, RFC 8841, RFC 8842, RFC 9143).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from ..exceptions import RemoteProtocolError
from .json import JSONValue, describe

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
MAX_CANDIDATES: Final = 64
"""Addresses in one description; of audio and video: in the section whose addresses count."""
MAX_SECTIONS: Final = 8
"""Of one description of audio and video."""
_MAX_LINES: Final = 256
_MAX_MEDIA_LINES: Final = 2048
_MAX_LINE: Final = 1024
"""Characters in a line of a description of audio and video."""
_MAX_OF_ONE: Final = 256
"""Codecs, or sources, or whatever else can be repeated in one section: browsers have at most 150."""
_MAX_CANDIDATE: Final = 512
_MAX_MID: Final = 64
_MAX_LINE_INDEX: Final = 255
_MAX_FINGERPRINTS: Final = 8

_DIGESTS: Final = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
"""Hash functions of certificates that are accepted, and the bytes of their digests."""
_SETUP: Final = frozenset({"actpass", "active", "passive"})
_TEXT: Final = re.compile(r"[\x20-\x7e\r\n]*", re.ASCII)
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_LINE: Final = re.compile(r"[a-z]=.*")
_MEDIA: Final = re.compile(r"m=application ([0-9]{1,5}) ((?:UDP/|TCP/)?DTLS/SCTP) ([^ ]+)")
_RTP: Final = re.compile(r"m=(audio|video) ([0-9]{1,5}) (?:UDP/TLS/|TCP/TLS/)?RTP/SAVPF( [0-9]{1,3}){1,128}")
_MID: Final = re.compile(r"[!-~]{1,64}")
_DIRECTIONS: Final = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})
_CANDIDATE: Final = re.compile(
    r"candidate:[^ ]{1,64} ([0-9]{1,3}) [^ ]{1,16} ([0-9]{1,10}) [^ ]{1,256} ([0-9]{1,5}) typ [^ ]{1,16}( [^ ]+ [^ ]+)*"
)
_NUMBERS: Final = re.compile(r" (?:rport|generation) (?![0-9]{1,10}(?: |$))")
_FINGERPRINT: Final = re.compile(r"([^ ]{1,32}) ((?:[0-9A-Fa-f]{2}:){0,127}[0-9A-Fa-f]{2})")
_UFRAG: Final = re.compile(r"[A-Za-z0-9+/=_-]{4,256}")
_PASSWORD: Final = re.compile(r"[A-Za-z0-9+/=_-]{22,256}")


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
    _require_candidate(text)
    return Candidate(text, mid, line)


def check_description_untrusted(sdp: str) -> None:
    """Refuses whatever is not the description of one data channel, and of nothing else.

    Raises:
        RemoteProtocolError: what was expected, and what came.
    """
    lines = _lines(sdp)
    sections = [number for number, line in enumerate(lines) if line.startswith("m=")]
    if len(sections) != 1:
        raise RemoteProtocolError(f"expected a description of one data channel, got {len(sections)} media sections")
    protocol = _require_media(lines[sections[0]])
    session, media = _attributes(lines[: sections[0]]), _attributes(lines[sections[0] + 1 :])
    _require_transport({**session, **media})
    _require_fingerprints(lines)
    _require_sctp(media, protocol)
    candidates = session.get("candidate", []) + media.get("candidate", [])
    if len(candidates) > MAX_CANDIDATES:
        raise RemoteProtocolError(f"expected at most {MAX_CANDIDATES} candidates, got {len(candidates)}")
    for candidate in candidates:
        _require_candidate(f"candidate:{candidate}")


def check_media_description_untrusted(sdp: str) -> None:
    """Refuses whatever is not the description of audio or video, with one data channel at most, over one transport.

    Raises:
        RemoteProtocolError: what was expected, and what came.
    """
    lines = _lines(sdp, MAX_MEDIA_DESCRIPTION, _MAX_MEDIA_LINES)
    if any(len(line) > _MAX_LINE for line in lines):
        raise RemoteProtocolError(f"expected lines of at most {_MAX_LINE} characters in a description, got more")
    session, *sections = _split(lines)
    kinds = [section[0][2:].partition(" ")[0] for section in sections]
    if len(kinds) > MAX_SECTIONS or kinds.count("application") > 1 or not {"audio", "video"} & {*kinds}:
        raise RemoteProtocolError(
            f"expected audio or video, at most {MAX_SECTIONS} sections and one data channel, got {kinds[:10]!r:.200}"
        )
    tagged = sections[find_tagged(sdp)]
    for section in sections:
        _require_section(section, is_tagged=section is tagged)
    transport = [*session, *tagged]
    _require_transport({**_attributes(session), **_attributes(tagged)})
    _require_fingerprints(transport)
    candidates = _attributes(transport).get("candidate", [])
    if len(candidates) > MAX_CANDIDATES:
        raise RemoteProtocolError(f"expected at most {MAX_CANDIDATES} candidates, got {len(candidates)}")
    for candidate in candidates:
        _require_candidate(f"candidate:{candidate}")


def find_tagged(sdp: str) -> int:
    """The number of the section whose transport all sections of a description share (RFC 9143 section 7).

    Raises:
        RemoteProtocolError: sections have no names, or are not all in one BUNDLE group.
    """
    session, *sections = _split(_lines(sdp, MAX_MEDIA_DESCRIPTION, _MAX_MEDIA_LINES))
    mids = [_attributes(section).get("mid", []) for section in sections]
    names = [values[0] for values in mids if len(values) == 1 and _MID.fullmatch(values[0])]
    if not names or len({*names}) < len(sections):
        raise RemoteProtocolError("expected a name as mid of each section of a description, each another")
    groups = [group.split() for group in _attributes(session).get("group", [])]
    bundles = [names for semantic, *names in filter(None, groups) if semantic == "BUNDLE"]
    refused = {name for name, section in zip(names, sections, strict=True) if _is_refused(section)}
    if len(sections) == 1 and not bundles:
        return 0
    if len(bundles) != 1 or not bundles[0] or {*bundles[0]} | refused != {*names}:
        raise RemoteProtocolError("expected all sections of a description in one BUNDLE group")
    return names.index(bundles[0][0])


def count_places(offer: str) -> Counter[str]:
    """How many tracks of ``"audio"`` and ``"video"`` an answer to this offer may have; nothing is checked here."""
    session, *sections = _split([line for line in _LINE_END.split(offer) if line])
    common = _DIRECTIONS.intersection(_attributes(session))
    places = Counter[str]()
    for section in sections:
        own = _DIRECTIONS.intersection(_attributes(section)) or common or {"sendrecv"}
        if own & {"sendrecv", "recvonly"} and not _is_refused(section):
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
    lines = ["offer", *_require_fingerprints(_lines(offer)), "answer", *_require_fingerprints(_lines(answer))]
    text = "".join(f"{line}\n" for line in lines)
    return f"webrtc:{hashlib.sha256(text.encode('ascii')).hexdigest()}"


def _lines(sdp: str, most: int = MAX_DESCRIPTION, most_lines: int = _MAX_LINES) -> list[str]:
    """The lines; all characters are such that every reader finds the same lines."""
    if len(sdp) > most:
        raise RemoteProtocolError(f"expected a description of at most {most} characters, got {len(sdp)}")
    if not _TEXT.fullmatch(sdp):
        raise RemoteProtocolError("expected printable ASCII in a description, got other characters")
    lines = [line for line in _LINE_END.split(sdp) if line]
    if len(lines) > most_lines:
        raise RemoteProtocolError(f"expected a description of at most {most_lines} lines, got {len(lines)}")
    for line in lines:
        if not _LINE.fullmatch(line):
            raise RemoteProtocolError(f"expected lines like 'v=0' in a description, got {describe(line)}")
    return lines


def _split(lines: list[str]) -> list[list[str]]:
    """The lines before the first section, and those of each section."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("m="):
            parts.append([])
        parts[-1].append(line)
    return parts


def _attributes(lines: list[str]) -> dict[str, list[str]]:
    """The values of each attribute, in their order."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("a="):
            name, _, value = line[2:].partition(":")
            found.setdefault(name, []).append(value)
    return found


def _require_media(line: str) -> str:
    """The protocol that a media line names."""
    found = _MEDIA.fullmatch(line)
    if found is None:
        raise RemoteProtocolError(f"expected a data channel over SCTP and DTLS, got {describe(line)}")
    port, protocol, form = found[1], found[2], found[3]
    if not 0 < int(port) < 65536:
        raise RemoteProtocolError(f"expected a data channel with a port, got {describe(line)}")
    if not (_is_port(form) if protocol == "DTLS/SCTP" else form == "webrtc-datachannel"):
        raise RemoteProtocolError(f"expected a data channel of WebRTC, got {describe(line)}")
    return protocol


def _is_refused(section: list[str]) -> bool:
    """Whether a section with the port 0 means that: not that another one has its transport."""
    return section[0].split(" ")[1:2] == ["0"] and "a=bundle-only" not in section


def _require_section(section: list[str], *, is_tagged: bool) -> None:
    """One of audio, video, or a data channel; its transport is not looked at here."""
    line, attributes = section[0], _attributes(section)
    if line.startswith("m=application "):
        shared = re.sub("^(m=application) 0 ", r"\1 9 ", line) if "a=bundle-only" in section else line
        _require_sctp(attributes, _require_media(shared))
        return
    found = _RTP.fullmatch(line)
    if found is None or int(found[2]) > 65535:
        raise RemoteProtocolError(f"expected audio or video over RTP and DTLS, got {describe(line)}")
    if is_tagged and _is_refused(section):
        raise RemoteProtocolError("expected a transport, got a section with the port 0")
    if "rtcp-mux" not in attributes:
        raise RemoteProtocolError("expected rtcp-mux in a section of audio or video, got none")
    for name in ("rtpmap", "fmtp", "rtcp-fb", "extmap", "ssrc", "ssrc-group"):
        if len(attributes.get(name, [])) > _MAX_OF_ONE:
            raise RemoteProtocolError(f"expected at most {_MAX_OF_ONE} lines of {name}, got {len(attributes[name])}")


def _require_transport(attributes: dict[str, list[str]]) -> None:
    """What ICE and DTLS need, once each."""
    for name in ("ice-ufrag", "ice-pwd", "setup"):
        values = attributes.get(name, [])
        if len(values) != 1:
            raise RemoteProtocolError(f"expected one {name} in a description, got {len(values)}")
    if not _UFRAG.fullmatch(attributes["ice-ufrag"][0]):
        raise RemoteProtocolError(f"expected a user name as ice-ufrag, got {describe(attributes['ice-ufrag'][0])}")
    if not _PASSWORD.fullmatch(attributes["ice-pwd"][0]):
        raise RemoteProtocolError("expected 22 to 256 characters of a password as ice-pwd, got something else")
    if attributes["setup"][0] not in _SETUP:
        raise RemoteProtocolError(f"expected {', '.join(sorted(_SETUP))} as setup, got {attributes['setup'][0][:60]!r}")


def _require_sctp(attributes: dict[str, list[str]], protocol: str) -> None:
    """The SCTP port, where the media line does not name it, and how long messages may be."""
    ports = attributes.get("sctp-port", [])
    if protocol != "DTLS/SCTP" and not (len(ports) == 1 and _is_port(ports[0])):
        raise RemoteProtocolError(f"expected one SCTP port in a description, got {ports[:2]!r:.60}")
    sizes = attributes.get("max-message-size", [])
    if len(sizes) > 1 or not all(re.fullmatch("[0-9]{1,19}", size) for size in sizes):
        raise RemoteProtocolError(f"expected one number as max-message-size, got {sizes[:2]!r:.60}")


def _require_fingerprints(lines: list[str]) -> list[str]:
    """All fingerprints in their canonical form, sorted; one at least is of a known hash function."""
    found: set[str] = set()
    known = False
    for line in lines:
        if not line.startswith("a=fingerprint:"):
            continue
        parts = _FINGERPRINT.fullmatch(line.removeprefix("a=fingerprint:"))
        if parts is None:
            raise RemoteProtocolError(f"expected the fingerprint of a certificate, got {describe(line)}")
        name, digits = parts[1].lower(), parts[2].upper()
        length = _DIGESTS.get(name)
        if length is not None and len(digits) != 3 * length - 1:
            raise RemoteProtocolError(f"expected {length} bytes in a fingerprint of {name}, got {describe(digits)}")
        known = known or length is not None
        found.add(f"{name} {digits}")
    if not known:
        raise RemoteProtocolError(f"expected a fingerprint of {', '.join(_DIGESTS)}, got {len(found)} others")
    if len(found) > _MAX_FINGERPRINTS:
        raise RemoteProtocolError(f"expected at most {_MAX_FINGERPRINTS} fingerprints, got {len(found)}")
    return sorted(found)


def _require_candidate(text: str) -> None:
    if len(text) > _MAX_CANDIDATE:
        raise RemoteProtocolError(f"expected a candidate of at most {_MAX_CANDIDATE} characters, got {len(text)}")
    parts = _CANDIDATE.fullmatch(text) if text.isascii() and text.isprintable() else None
    if parts is None or _NUMBERS.search(text):
        raise RemoteProtocolError(f"expected an ICE candidate, got {describe(text)}")
    component, priority, port = int(parts[1]), int(parts[2]), int(parts[3])
    if not (1 <= component <= 256 and priority < 1 << 32 and port < 65536):
        raise RemoteProtocolError(f"expected an ICE candidate with numbers in their range, got {describe(text)}")


def _is_port(text: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", text) is not None and 0 < int(text) < 65536
