"""The signals by which originals and pages negotiate WebRTC: those of simple-peer 6 and 9. Pure.

```
{"type": "offer" | "answer", "sdp": "v=0…"}                                       both versions
{"candidate": {"candidate": "candidate:…", "sdpMLineIndex": 0, "sdpMid": "0"}}    6
{"type": "candidate", "candidate": {…}}                                           9
{"type": "renegotiate", "renegotiate": true}                                      9: not for a data channel alone
{"type": "transceiverRequest", "transceiverRequest": {…}}                         9: likewise
```

What a signal means is told by its keys, as simple-peer does it: a candidate and a description may be in one. A string
that holds such an object as JSON is one too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from ...exceptions import RemoteProtocolError
from ...wire.body import Signal
from ...wire.description import Candidate, check_description_untrusted, parse_candidate_untrusted
from ...wire.json import JSONValue, decode_untrusted, describe

__all__ = ["Description", "PeerSignal", "build_signal", "parse_signal_untrusted"]

Role: TypeAlias = Literal["offer", "answer"]

_MAX_TEXT: Final = 64 * 1024
"""Characters of a signal that comes as a string: every one of the largest description may be written as six."""


@dataclass(frozen=True, slots=True)
class Description:
    """A session description that has passed `check_description_untrusted`."""

    role: Role
    sdp: str


@dataclass(frozen=True, slots=True)
class PeerSignal:
    """What one signal says; all are empty when it asks for something that a data channel does not need.

    Attributes:
        candidates: one or none; None in it says that no more follow.
    """

    candidates: tuple[Candidate | None, ...] = ()
    description: Description | None = None


def parse_signal_untrusted(value: JSONValue) -> PeerSignal:
    """Reads the data of a `signal` envelope.

    Raises:
        RemoteProtocolError: it is nothing that simple-peer sends, or no description of a data channel.
    """
    if isinstance(value, str):
        if len(value) > _MAX_TEXT:
            raise RemoteProtocolError(f"expected a signal of at most {_MAX_TEXT} characters, not {len(value)}")
        value = decode_untrusted(value)
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"expected a signal object, not {describe(value)}")
    candidate, sdp = value.get("candidate"), value.get("sdp")
    if not candidate and not sdp and not (value.get("renegotiate") or value.get("transceiverRequest")):
        raise RemoteProtocolError(f"expected a description or a candidate in a signal, not {describe(value)}")
    candidates = (parse_candidate_untrusted(candidate),) if candidate else ()
    return PeerSignal(candidates, _parse_description(value.get("type"), sdp) if sdp else None)


def _parse_description(role: JSONValue, sdp: JSONValue) -> Description:
    if role not in ("offer", "answer") or not isinstance(sdp, str):
        raise RemoteProtocolError(f"expected an offer or an answer, not {describe(role)} with {describe(sdp)}")
    check_description_untrusted(sdp)
    return Description(cast(Role, role), sdp)


def build_signal(role: Role, sdp: str) -> Signal:
    """Our own description, with all its candidates."""
    return Signal({"type": role, "sdp": sdp})
