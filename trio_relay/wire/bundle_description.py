"""Session descriptions from strangers of what is negotiated again and again: channels, and any tracks. Pure.

Like those of audio and video in `description`, but with more sections, and those that were refused or have ended stay
in their places (RFC 8829 section 5.2.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..exceptions import RemoteProtocolError
from .json import describe
from .sections import (
    MID,
    attributes_of,
    is_refused,
    read_lines,
    require_candidates,
    require_fingerprints,
    require_section,
    require_transport,
    split_sections,
)

__all__ = ["MAX_BUNDLE_DESCRIPTION", "MAX_BUNDLE_SECTIONS", "Outline", "check_bundle_description_untrusted"]

MAX_BUNDLE_SECTIONS: Final = 48
"""The data channels, and the tracks of both sides."""
MAX_BUNDLE_DESCRIPTION: Final = 256 * 1024
"""Characters: browsers need about 5,000 for a picture and 1,500 for a sound."""
_MAX_LINES: Final = 8192
_MAX_LINE: Final = 1024
_KINDS: Final = frozenset({"application", "audio", "video"})


@dataclass(frozen=True, slots=True)
class Outline:
    """What sections there are, in their order.

    Attributes:
        kinds: ``"application"``, ``"audio"`` or ``"video"``.
        mids: their names; None where a refused one has none.
        refused: whether there is nothing (any more).
        tagged: the number of the section whose transport all share (RFC 9143 section 7).
    """

    kinds: tuple[str, ...]
    mids: tuple[str | None, ...]
    refused: tuple[bool, ...]
    tagged: int


def check_bundle_description_untrusted(sdp: str) -> Outline:
    """Refuses whatever is not the description of data channels, audio and video, over one transport.

    Raises:
        RemoteProtocolError: what was expected, and what came.
    """
    lines = read_lines(sdp, MAX_BUNDLE_DESCRIPTION, _MAX_LINES)
    if any(len(line) > _MAX_LINE for line in lines):
        raise RemoteProtocolError(f"expected lines of at most {_MAX_LINE} characters in a description, got more")
    session, *sections = split_sections(lines)
    kinds = tuple(section[0][2:].partition(" ")[0] for section in sections)
    if not 1 <= len(kinds) <= MAX_BUNDLE_SECTIONS:
        raise RemoteProtocolError(f"expected 1 to {MAX_BUNDLE_SECTIONS} sections in a description, got {len(kinds)}")
    if not _KINDS.issuperset(kinds) or kinds.count("application") > 1:
        raise RemoteProtocolError(f"expected audio, video and at most one data channel, got {kinds[:10]!r:.200}")
    refused = tuple(map(is_refused, sections))
    mids = tuple(map(_mid, sections, refused))
    tagged = _find_tagged(session, mids, refused)
    for number, section in enumerate(sections):
        if not refused[number]:
            require_section(section, is_tagged=number == tagged)
    transport = [*session, *sections[tagged]]
    require_transport({**attributes_of(session), **attributes_of(sections[tagged])})
    require_fingerprints(transport)
    require_candidates(attributes_of(transport))
    return Outline(kinds, mids, refused, tagged)


def _mid(section: list[str], is_refused: bool) -> str | None:
    found = attributes_of(section).get("mid", [])
    if not found and is_refused:
        return None
    if len(found) != 1 or not MID.fullmatch(found[0]):
        raise RemoteProtocolError(f"expected a name as mid of each section of a description, got {describe(found)}")
    return found[0]


def _find_tagged(session: list[str], mids: tuple[str | None, ...], refused: tuple[bool, ...]) -> int:
    names = [mid for mid in mids if mid is not None]
    if len({*names}) < len(names):
        raise RemoteProtocolError("expected another name as mid of each section of a description")
    live = {mid for mid, is_refused in zip(mids, refused, strict=True) if not is_refused}
    groups = [group.split() for group in attributes_of(session).get("group", [])]
    bundles = [names for semantic, *names in filter(None, groups) if semantic == "BUNDLE"]
    if not bundles and len(live) == 1:
        return refused.index(False)
    if len(bundles) != 1 or not live <= {*bundles[0]} <= {*names} or bundles[0][:1] == [] or bundles[0][0] not in live:
        raise RemoteProtocolError("expected all sections of a description in one BUNDLE group")
    return mids.index(bundles[0][0])
