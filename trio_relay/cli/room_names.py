"""What members are called, and which member a name means."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from ..peerix import Room
from .room_text import clean, nick_of

__all__ = ["Names"]

_REMEMBERED: Final = 1024
_SHOWN: Final = 8
"""Characters of an id."""
_SHORTEST: Final = 4


class Names:
    """Of one room. A name proves nothing: where two members have the same, ids are shown beside it."""

    def __init__(self, room: Room) -> None:
        self._room: Final = room
        self._past: Final[OrderedDict[str, str]] = OrderedDict()

    def remember(self, id: str, metadata: Any) -> None:
        """Keeps a name for when its member has gone."""
        self._past[id] = nick_of(metadata)
        self._past.move_to_end(id)
        while len(self._past) > _REMEMBERED:
            self._past.popitem(last=False)

    def of(self, id: str) -> str:
        """How a member is shown."""
        member = self._room.members.get(id)
        nick = nick_of(member.metadata) if member is not None else self._past.get(id, "")
        shown = clean(id[:_SHOWN])
        if not nick:
            return shown
        others = [other for other in self._room.members.values() if other.id != id]
        return f"{nick} ({shown})" if any(nick_of(other.metadata) == nick for other in others) else nick

    def find(self, name: str) -> str:
        """The id of the member that is meant: by its id, its name, or the beginning of its id.

        Raises:
            ValueError: there is none, or more than one.
        """
        members = self._room.members
        if name in members:
            return name
        found = [member.id for member in members.values() if nick_of(member.metadata) == name]
        if not found and len(name) >= _SHORTEST:
            found = [id for id in members if id.startswith(name)]
        if len(found) != 1:
            raise ValueError(
                f"there {'are several members' if found else 'is no member'} {clean(name)!r}; /who shows all"
            )
        return found[0]
