"""With whom no link may be made now, and why; pure."""

from __future__ import annotations

from typing import Final

from ...limits import Limits
from ...overlay.admission import Admission
from ...wire.hello import Reason
from ...wire.ids import NodeId
from .actions import OverlayView
from .links import LegacyLinks

__all__ = ["Refusals"]

_DISCONNECTED: Final = 1024
_DISCONNECTED_FOR: Final = 60.0


class Refusals:
    """Asked before a link is begun, and again when it is about to come up."""

    def __init__(
        self, own: NodeId, *, limits: Limits, overlay: OverlayView, links: LegacyLinks, admission: Admission
    ) -> None:
        self._own: Final = own
        self._limits: Final = limits
        self._overlay: Final = overlay
        self._links: Final = links
        self._admission: Final = admission
        self._disconnected: Final = dict[NodeId, float]()
        self._greeted: Final = set[NodeId]()

    def __len__(self) -> int:
        return len(self._disconnected)

    def reason(self, peer: NodeId) -> Reason | None:
        """Why no link may be made with who calls itself `peer`; None if one may."""
        if peer == self._own:
            return Reason.SELF
        if self._overlay.is_ours(peer):
            return Reason.BAD_PROOF
        if not self._admission.links(peer):
            return Reason.NOT_ADMITTED
        if self._links.of(peer) is not None or peer in self._greeted:
            return Reason.DUPLICATE
        if peer in self._disconnected:
            return Reason.DISCONNECTED
        return Reason.FULL if len(self._links) >= self._limits.legacy_links else None

    # Those that are being greeted

    def begin_greeting(self, peer: NodeId) -> None:
        """Our id is about to be sent to that one."""
        self._greeted.add(peer)

    def end_greeting(self, peer: NodeId) -> None:
        """It was sent, or that failed."""
        self._greeted.discard(peer)

    # Those that the application sent away

    def disconnected(self, peer: NodeId, now: float) -> None:
        """For a minute."""
        if len(self._disconnected) < _DISCONNECTED:
            self._disconnected[peer] = now + _DISCONNECTED_FOR

    def wanted(self, peer: NodeId) -> None:
        """The application wants it again."""
        self._disconnected.pop(peer, None)

    def next_deadline(self) -> float:
        """When `expire` has something to do."""
        return min(self._disconnected.values(), default=float("inf"))

    def expire(self, now: float) -> None:
        """Forgets who was sent away long enough ago."""
        for peer in [p for p, until in self._disconnected.items() if until <= now]:
            del self._disconnected[peer]
