"""What the other side means by a reason, for people; pure."""

from __future__ import annotations

from typing import Final

from ..wire.hello import Reason, Refusal

__all__ = ["explain"]

_MEANINGS: Final[dict[int, str]] = {
    Reason.NOT_ADMITTED: "the other side does not admit this node",
    Reason.FULL: "the other side is full: too many links or attempts",
    Reason.DISCONNECTED: "the other side disconnected this node a moment ago",
    Reason.DUPLICATE: "the other side has a link with this node already",
    Reason.SHUTDOWN: "the other side is closing",
    Reason.UNWANTED: "the other side gave it up",
    Reason.PROTOCOL: "the other side could not read what this node sent",
    Reason.NO_ADDRESS: "the other side can not, or may not, dial an address of this node",
    Reason.NO_WEBRTC: "the other side makes no WebRTC links",
    Reason.FAILED: "the connection failed on the other side",
}


def explain(reason: int) -> str:
    """A reason of REFUSED or SIGNAL in words."""
    return _MEANINGS.get(reason, f"the other side gave the reason {Refusal(reason, {}).name}")
