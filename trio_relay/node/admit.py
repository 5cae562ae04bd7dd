"""What an application says about whom it admits, and what the node makes of that."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

from ..overlay.admission import Admission, Predicate
from ..wire.ids import NodeId, as_node_id, short

__all__ = ["Admit", "Guests", "make_admission"]

logger = logging.getLogger("trio_relay")

Guests: TypeAlias = Collection[NodeId] | Callable[[NodeId], bool]
"""Ids, or a function of an id."""

_ERRORS_LOGGED: Final = 16
"""Kinds of errors of the application's functions of which a log tells."""


@dataclass(frozen=True, slots=True)
class Admit:
    """Who may do what with a node: ids, or a function of an id; None for everybody.

    A function is called often, in the middle of the node's work: it must be quick. If it raises, the answer is no.

    Attributes:
        links: who may link with the node, or make it dial. Links that the node makes of its own accord are not asked
            about.
        messages: whose messages the application gets, by `Message.sender`.
    """

    links: Guests | None = None
    messages: Guests | None = None


def make_admission(admit: Admit | Guests | None, counts: Counter[str]) -> Admission:
    """What `open_node` was told, with functions that never raise.

    Raises:
        ValueError: an id is not one.
    """
    judge = _Judge(counts)
    if isinstance(admit, Admit):
        return Admission(judge.predicate(admit.links), judge.predicate(admit.messages))
    both = judge.predicate(admit)
    return Admission(both, both)


class _Judge:
    """Asks the application who is admitted; its error is a refusal, and costs no more than what was asked about."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts: Final = counts
        self._logged: Final = set[str]()

    def predicate(self, guests: Guests | None) -> Predicate:
        if guests is None:
            return lambda _: True
        if not callable(guests):
            return frozenset(as_node_id(node_id) for node_id in guests).__contains__
        admits = guests

        def ask(node_id: NodeId) -> bool:
            try:
                return admits(node_id)
            except Exception as error:  # the application's, whatever it is
                self._failed(error, node_id)
                return False

        return ask

    def _failed(self, error: Exception, node_id: NodeId) -> None:
        self._counts["admit_failed"] += 1
        name = type(error).__name__
        if name not in self._logged and len(self._logged) < _ERRORS_LOGGED:
            self._logged.add(name)
            logger.warning("admit raised %s for %s, a refusal; told once", name, short(node_id), exc_info=error)
