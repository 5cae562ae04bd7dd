"""Whom the application admits, to links and to its mailbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from ..wire.ids import NodeId

__all__ = ["EVERYBODY", "Admission", "Predicate"]

Predicate: TypeAlias = Callable[[NodeId], bool]


@dataclass(frozen=True, slots=True)
class Admission:
    """The predicates must not raise.

    Attributes:
        links: whether an id may link with us.
        messages: whether an id may send to our application.
    """

    links: Predicate
    messages: Predicate

    def either(self, node_id: NodeId) -> bool:
        """Whether we have anything to do with an id."""
        return self.links(node_id) or (self.messages is not self.links and self.messages(node_id))


def _admit(_: NodeId) -> bool:
    return True


EVERYBODY: Final = Admission(_admit, _admit)
