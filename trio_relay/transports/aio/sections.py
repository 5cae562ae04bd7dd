"""Descriptions of audio and video, made such that aiortc takes them. Pure."""

from __future__ import annotations

import re
from typing import Final

from ...wire.description import Candidate, find_tagged
from .candidates import Signalled

__all__ = [
    "LEFT_OUT",
    "direction_of",
    "name_of",
    "signalled_of",
    "split_media_description",
    "split_parts",
    "transport_of",
]

_TRANSPORT: Final = ("ice-ufrag", "ice-pwd", "fingerprint", "setup")
_DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
LEFT_OUT: Final = (*_TRANSPORT, *_DIRECTIONS, "group", "candidate", "end-of-candidates", "ice-options", "bundle-only")


def split_media_description(sdp: str) -> tuple[str, Signalled]:
    """Takes the candidates out of a checked description, and gives every section the one transport that counts.

    aiortc takes the credentials of the first audio or video, which in a BUNDLE may be another's; it fails where a
    section has none, as all but one may (RFC 9143 section 7), or no direction. The group goes: here, everything is
    over one transport from the beginning, and aiortc would take that apart. A section that the other side refused is
    inactive.
    """
    tagged = find_tagged(sdp)
    session, *sections = split_parts(sdp)
    shared = transport_of(session, sections[tagged])
    directions = [direction_of(session, section) for section in sections]
    lines = [line for line in session if name_of(line) not in LEFT_OUT]
    for section, direction in zip(sections, directions, strict=True):
        lines += [line for line in section if name_of(line) not in LEFT_OUT]
        lines += [*shared, f"a={direction}"]
    return "\r\n".join([*lines, ""]), signalled_of(session, sections[tagged], tagged)


def split_parts(sdp: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for line in re.split(r"\r\n|\r|\n", sdp):
        if line.startswith("m="):
            parts.append([])
        if line:
            parts[-1].append(line)
    return parts


def name_of(line: str) -> str:
    return line[2:].partition(":")[0] if line.startswith("a=") else ""


def transport_of(session: list[str], section: list[str]) -> list[str]:
    """What stands in the section, and of what does not, what stands before all sections; all fingerprints."""
    lines = [line for line in (*session, *section) if name_of(line) == "fingerprint"]
    for name in ("ice-ufrag", "ice-pwd", "setup"):
        own = [line for line in section if name_of(line) == name]
        lines += own or [line for line in session if name_of(line) == name]
    return lines


def direction_of(session: list[str], section: list[str]) -> str:
    if section[0].split(" ")[1] == "0" and "a=bundle-only" not in section:
        return "inactive"
    for part in (section, session):
        for line in part:
            if line[2:] in _DIRECTIONS and line.startswith("a="):
                return line[2:]
    return "sendrecv"


def signalled_of(session: list[str], section: list[str], number: int) -> Signalled:
    """See `candidates.split_description`."""
    both = [*session, *section]
    candidates = [Candidate(line[2:], None, number) for line in both if name_of(line) == "candidate"]
    trickles = any("trickle" in line[14:].split() for line in both if line.startswith("a=ice-options:"))
    complete = "a=end-of-candidates" in both or bool(candidates and not trickles)
    mid = next((line[6:] for line in section if name_of(line) == "mid"), None)
    ufrag = next((line[12:] for line in [*section, *session] if name_of(line) == "ice-ufrag"), None)
    return Signalled(candidates, complete, number, mid, ufrag)
