"""Who may offer when: the rules of perfect negotiation (W3C WebRTC, section 10.7), without rollback. Pure.

An offer of ours changes nothing on our side before its answer (see `transports.bundle.Bundle.create_offer`). So where
a browser rolls back, the polite side here forgets its offer, and makes another one when it has answered.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Negotiation", "is_polite"]


def is_polite(own: str, other: str) -> bool:
    """Whether we give way where both offer at once: the greater id does, in the order of code points."""
    return own > other


class Negotiation:
    """The state of one connection's negotiation; its user does what the methods say, one thing after the other.

    Attributes:
        counts of what was not followed are the caller's.
    """

    def __init__(self, *, polite: bool) -> None:
        self.polite: Final = polite
        self._offered = False
        self._ignoring = False

    @property
    def may_offer(self) -> bool:
        """Whether an offer can be made now: none of ours waits for its answer."""
        return not self._offered

    def offer(self) -> None:
        """Ours is on its way."""
        assert not self._offered
        self._offered = True

    def take_offer(self) -> bool:
        """The other side's has come; says whether to accept it. If so, ours is void."""
        self._ignoring = self._offered and not self.polite
        if not self._ignoring:
            self._offered = False
        return not self._ignoring

    def take_answer(self) -> bool:
        """An answer has come; says whether there is an offer that it answers."""
        if not self._offered:
            return False
        self._offered = self._ignoring = False
        return True

    def take_candidate(self) -> bool:
        """Whether a candidate is of interest: those of an offer that is ignored are not."""
        return not self._ignoring

    def give_up(self) -> None:
        """Our offer will not be answered: another one may be made."""
        self._offered = self._ignoring = False
