"""The sections of session descriptions from strangers, line by line (SDP: RFC 8866). Pure.

`description` and `bundle_description` say what a whole one may be.
"""

from __future__ import annotations

import re
from typing import Final

from ..exceptions import RemoteProtocolError
from .json import describe

__all__ = [
    "DIRECTIONS",
    "LINE_END",
    "MAX_CANDIDATES",
    "MID",
    "attributes_of",
    "is_refused",
    "read_lines",
    "require_candidate",
    "require_candidates",
    "require_fingerprints",
    "require_media",
    "require_sctp",
    "require_section",
    "require_transport",
    "split_sections",
]

MAX_CANDIDATES: Final = 64
"""Addresses in one description; of audio and video: in the section whose addresses count."""
_MAX_OF_ONE: Final = 256
"""Codecs, or sources, or whatever else can be repeated in one section: browsers have at most 150."""
_MAX_CANDIDATE: Final = 512
_MAX_FINGERPRINTS: Final = 8

_DIGESTS: Final = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
"""Hash functions of certificates that are accepted, and the bytes of their digests."""
_SETUP: Final = frozenset({"actpass", "active", "passive"})
_TEXT: Final = re.compile(r"[\x20-\x7e\r\n]*", re.ASCII)
LINE_END: Final = re.compile(r"\r\n|\r|\n")
_LINE: Final = re.compile(r"[a-z]=.*")
_MEDIA: Final = re.compile(r"m=application ([0-9]{1,5}) ((?:UDP/|TCP/)?DTLS/SCTP) ([^ ]+)")
_RTP: Final = re.compile(r"m=(audio|video) ([0-9]{1,5}) (?:UDP/TLS/|TCP/TLS/)?RTP/SAVPF( [0-9]{1,3}){1,128}")
MID: Final = re.compile(r"[!-~]{1,64}")
DIRECTIONS: Final = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})
_CANDIDATE: Final = re.compile(
    r"candidate:[^ ]{1,64} ([0-9]{1,3}) [^ ]{1,16} ([0-9]{1,10}) [^ ]{1,256} ([0-9]{1,5}) typ [^ ]{1,16}( [^ ]+ [^ ]+)*"
)
_NUMBERS: Final = re.compile(r" (?:rport|generation) (?![0-9]{1,10}(?: |$))")
_FINGERPRINT: Final = re.compile(r"([^ ]{1,32}) ((?:[0-9A-Fa-f]{2}:){0,127}[0-9A-Fa-f]{2})")
_UFRAG: Final = re.compile(r"[A-Za-z0-9+/=_-]{4,256}")
_PASSWORD: Final = re.compile(r"[A-Za-z0-9+/=_-]{22,256}")


def read_lines(sdp: str, most: int, most_lines: int) -> list[str]:
    """The lines; all characters are such that every reader finds the same lines."""
    if len(sdp) > most:
        raise RemoteProtocolError(f"expected a description of at most {most} characters, got {len(sdp)}")
    if not _TEXT.fullmatch(sdp):
        raise RemoteProtocolError("expected printable ASCII in a description, got other characters")
    lines = [line for line in LINE_END.split(sdp) if line]
    if len(lines) > most_lines:
        raise RemoteProtocolError(f"expected a description of at most {most_lines} lines, got {len(lines)}")
    for line in lines:
        if not _LINE.fullmatch(line):
            raise RemoteProtocolError(f"expected lines like 'v=0' in a description, got {describe(line)}")
    return lines


def split_sections(lines: list[str]) -> list[list[str]]:
    """The lines before the first section, and those of each section."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("m="):
            parts.append([])
        parts[-1].append(line)
    return parts


def attributes_of(lines: list[str]) -> dict[str, list[str]]:
    """The values of each attribute, in their order."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("a="):
            name, _, value = line[2:].partition(":")
            found.setdefault(name, []).append(value)
    return found


def require_media(line: str) -> str:
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


def is_refused(section: list[str]) -> bool:
    """Whether a section with the port 0 means that: not that another one has its transport."""
    return section[0].split(" ")[1:2] == ["0"] and "a=bundle-only" not in section


def require_section(section: list[str], *, is_tagged: bool) -> None:
    """One of audio, video, or a data channel; its transport is not looked at here."""
    line, attributes = section[0], attributes_of(section)
    if line.startswith("m=application "):
        shared = re.sub("^(m=application) 0 ", r"\1 9 ", line) if "a=bundle-only" in section else line
        require_sctp(attributes, require_media(shared))
        return
    found = _RTP.fullmatch(line)
    if found is None or int(found[2]) > 65535:
        raise RemoteProtocolError(f"expected audio or video over RTP and DTLS, got {describe(line)}")
    if is_tagged and is_refused(section):
        raise RemoteProtocolError("expected a transport, got a section with the port 0")
    if "rtcp-mux" not in attributes:
        raise RemoteProtocolError("expected rtcp-mux in a section of audio or video, got none")
    for name in ("rtpmap", "fmtp", "rtcp-fb", "extmap", "ssrc", "ssrc-group"):
        if len(attributes.get(name, [])) > _MAX_OF_ONE:
            raise RemoteProtocolError(f"expected at most {_MAX_OF_ONE} lines of {name}, got {len(attributes[name])}")


def require_transport(attributes: dict[str, list[str]]) -> None:
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


def require_sctp(attributes: dict[str, list[str]], protocol: str) -> None:
    """The SCTP port, where the media line does not name it, and how long messages may be."""
    ports = attributes.get("sctp-port", [])
    if protocol != "DTLS/SCTP" and not (len(ports) == 1 and _is_port(ports[0])):
        raise RemoteProtocolError(f"expected one SCTP port in a description, got {ports[:2]!r:.60}")
    sizes = attributes.get("max-message-size", [])
    if len(sizes) > 1 or not all(re.fullmatch("[0-9]{1,19}", size) for size in sizes):
        raise RemoteProtocolError(f"expected one number as max-message-size, got {sizes[:2]!r:.60}")


def require_fingerprints(lines: list[str]) -> list[str]:
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


def require_candidates(attributes: dict[str, list[str]]) -> None:
    """Those of the section whose addresses count: a bounded number."""
    candidates = attributes.get("candidate", [])
    if len(candidates) > MAX_CANDIDATES:
        raise RemoteProtocolError(f"expected at most {MAX_CANDIDATES} candidates, got {len(candidates)}")
    for candidate in candidates:
        require_candidate(f"candidate:{candidate}")


def require_candidate(text: str) -> None:
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
