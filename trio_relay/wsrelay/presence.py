"""States that watchers still have to be told, in the order in which they came about. Pure.

Each address has at most two states waiting: a peer that comes and goes faster than its watchers can be told is told
of as often as it can be, and the last state told is always the true one.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, NamedTuple

__all__ = ["Announcement", "Announcements"]


class Announcement(NamedTuple):
    """A peer came or went; for watches that are older than `number`."""

    number: int
    address: str
    online: bool


class Announcements:
    """The announcements that wait.

    Args:
        counts: ``presence_merged`` is counted there.

    Attributes:
        number: of the newest announcement.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self.number = 0
        self._counts: Final = counts
        self._waiting: Final[OrderedDict[str, list[Announcement]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def make(self, address: str, online: bool) -> Announcement:
        """The next announcement."""
        self.number += 1
        return Announcement(self.number, address, online)

    def add(self, announcement: Announcement) -> None:
        """Lets an announcement wait its turn; may take away ones that it makes pointless."""
        waiting = self._waiting.setdefault(announcement.address, [])
        if len(waiting) == 2:
            # The first of three is a state that the third repeats, or a repetition of the second's opposite.
            del waiting[0 if waiting[0].online == announcement.online else 1 :]
            self._counts["presence_merged"] += 1
        waiting.append(announcement)

    def take(self) -> Announcement | None:
        """The announcement whose turn it is."""
        if not self._waiting:
            return None
        address, waiting = next(iter(self._waiting.items()))
        first = waiting.pop(0)
        if not waiting:
            del self._waiting[address]
        else:
            self._waiting.move_to_end(address)
        return first
