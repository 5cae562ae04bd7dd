"""ICE candidates and session descriptions as peers write them to each other, in JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ...exceptions import RemoteProtocolError
from ...wire import description
from ...wire.description import Candidate
from ...wire.json import JSONValue, describe

__all__ = [
    "MAX_DESCRIPTION",
    "IceCandidate",
    "candidate_to_json",
    "description_to_json",
    "parse_candidate_untrusted",
    "parse_description_untrusted",
]

MAX_DESCRIPTION: Final = 128 * 1024
"""Characters in a session description. Each direction has its own media sections here, of which browsers make 5,000
characters each. What is in it is checked by whoever applies it."""
_MAX_FRAGMENT: Final = 256
"""Characters (RFC 8839 section 5.4)."""


@dataclass(frozen=True, slots=True)
class IceCandidate:
    """One address at which a peer may be reached, as ``RTCIceCandidate.toJSON`` has it.

    Attributes:
        candidate: ``candidate:`` and what follows it in SDP; empty when there are no more, and then the next two
            are None.
        mid: the name of its media section, or None; `line` is that section's number from 0, or None.
        fragment: the ``ice-ufrag`` of the description that it belongs to, or None.
    """

    candidate: str
    mid: str | None
    line: int | None
    fragment: str | None

    @property
    def address(self) -> Candidate | None:
        """What a `Bundle` takes; None when there are no more."""
        return Candidate(self.candidate, self.mid, self.line) if self.candidate else None


def candidate_to_json(candidate: IceCandidate) -> JSONValue:
    """Its members, in the order of browsers."""
    return {
        "candidate": candidate.candidate,
        "sdpMid": candidate.mid,
        "sdpMLineIndex": candidate.line,
        "usernameFragment": candidate.fragment,
    }


def parse_candidate_untrusted(value: JSONValue) -> IceCandidate:
    """Reads what `candidate_to_json` makes.

    Raises:
        RemoteProtocolError: it is none.
    """
    address = description.parse_candidate_untrusted(value)
    fragment = value.get("usernameFragment") if isinstance(value, dict) else None
    if fragment is not None and not (isinstance(fragment, str) and len(fragment) <= _MAX_FRAGMENT):
        raise RemoteProtocolError(
            f"expected usernameFragment of at most {_MAX_FRAGMENT} characters, got {describe(fragment)}"
        )
    if address is None:
        return IceCandidate("", None, None, fragment)
    return IceCandidate(address.candidate, address.mid, address.line, fragment)


def description_to_json(type: Literal["offer", "answer"], sdp: str) -> JSONValue:
    """Its members, in the order of browsers."""
    return {"type": type, "sdp": sdp}


def parse_description_untrusted(value: JSONValue, type: Literal["offer", "answer"]) -> str:
    """The SDP of a description of this type; of the text itself only the length is checked.

    Raises:
        RemoteProtocolError: it is none, of another type, or too long.
    """
    if not isinstance(value, dict) or value.get("type") != type:
        raise RemoteProtocolError(f"expected a session description that is an {type}, got {describe(value)}")
    sdp = value.get("sdp")
    if not isinstance(sdp, str) or not 0 < len(sdp) <= MAX_DESCRIPTION:
        raise RemoteProtocolError(f"expected a session description of 1 to {MAX_DESCRIPTION} characters")
    return sdp
