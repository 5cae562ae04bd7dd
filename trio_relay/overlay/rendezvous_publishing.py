"""Our own publications: to the relays closest to their key, each by itself, until they confirm; pure.

A publication is done when the first relay has taken it; the others get it all the same. It leaves at once for the
closest relays that we know, and then, if there are closer ones, for those. A relay that does not answer is replaced by
the next closest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ..exceptions import DeliveryError, MailboxFull, Outcome, TopicUnavailable
from ..wire.ids import NodeId
from ..wire.rendezvous import Publication, Publish, Untimely, build_publication
from .actions import Acknowledged, Failed, PublishingRoom
from .rendezvous_board import Verdict
from .rendezvous_interests import PATIENCE
from .rendezvous_places import PLACES, Places
from .state import State

__all__ = ["Publishing"]

_UNTAKEN: Final = 128
"""That no relay has taken yet; not more than the numbers that subscribers remember, or late ones would count as old."""
_UNDER_WAY: Final = 640
"""All: as many as relays take of one publisher in the time in which each has to answer; a silent one stops nobody."""
_BYTES_UNDER_WAY: Final = 4 * 1024 * 1024
_FURTHER_AFTER: Final = 2.0
"""If all three do not answer, subscribers may have noticed it already, and be at the next ones."""
_MOST_ASKED: Final = 4 * PLACES
"""Relays that one publication is tried at."""
_MICRO: Final = 1_000_000


@dataclass(slots=True, eq=False)
class _Outgoing:
    """A publication under way.

    Attributes:
        token: what its `Acknowledged` or `Failed` names.
        asked: relays that it was sent to.
        waiting: how many of them have not answered.
        begun: whether it is known which relays to send it to; until then it goes to the closest that we know.
        taken: whether a relay has it.
        further_at: when it goes to further relays, if none has taken it.
        error: why a relay did not take it.
        uncertain: whether one that did not answer may have taken it all the same.
    """

    token: bytes
    publication: Publication
    until: float
    asked: set[NodeId] = field(default_factory=set)
    waiting: int = 0
    begun: bool = False
    taken: bool = False
    further_at: float = float("inf")
    error: DeliveryError | None = None
    uncertain: bool = False


class Publishing:
    """Publications that are under way.

    Args:
        ask: sends a confirmed message to a relay; returns its id.
        cancel: does not repeat it any more, and forgets it.
        serve: takes a publication as one of the relays ourselves.
    """

    def __init__(
        self,
        state: State,
        places: Places,
        ask: Callable[[NodeId, bytes, float], bytes],
        cancel: Callable[[bytes], None],
        serve: Callable[[Publication], Verdict],
    ) -> None:
        self._state: Final = state
        self._places: Final = places
        self._ask_relay: Final = ask
        self._cancel: Final = cancel
        self._serve: Final = serve
        self._outgoing: Final = dict[bytes, _Outgoing]()
        self._asked: Final = dict[bytes, tuple[_Outgoing, NodeId]]()
        self._bytes = 0
        self._untaken = 0
        self._number = 0
        self._due = float("inf")  # nothing is due before

    def __len__(self) -> int:
        return len(self._outgoing)

    def has_room(self, size: int) -> bool:
        """Whether one more publication of so many bytes may be under way."""
        return self._untaken < _UNTAKEN and len(self._outgoing) < _UNDER_WAY and self._bytes + size <= _BYTES_UNDER_WAY

    def _tell_room(self) -> None:
        """Before there is more of it."""
        if not self.has_room(_BYTES_UNDER_WAY // 2):
            self._state.do(PublishingRoom())

    def publish(self, key: NodeId, data: bytes, timeout: float) -> tuple[bytes, Publication]:
        """Begins; ends in `Acknowledged` or `Failed` with the token that is returned."""
        state = self._state
        self._number = max(self._number + 1, int(state.wall * _MICRO))
        publication = build_publication(state.public_key, state.sign, key=key, number=self._number, data=data)
        outgoing = _Outgoing(state.token(), publication, state.now + timeout)
        self._outgoing[outgoing.token] = outgoing
        self._due = min(self._due, outgoing.until)
        self._bytes += len(data)
        self._untaken += 1
        state.counts["publications_sent"] += 1
        if self._places.is_fresh(key) and self._places.closest(key):
            self._begin(outgoing)
        else:
            self._ask(outgoing)
            self._places.look(key)
        return outgoing.token, publication

    # Where it goes

    def found(self, key: NodeId) -> None:
        """The relays closest to a key were looked for."""
        for outgoing in list(self._outgoing.values()):
            if outgoing.publication.key == key and not outgoing.begun and self._places.closest(key):
                self._begin(outgoing)

    def plan_all(self) -> None:
        """Relays came or went: what knew of none may have a way now."""
        for key in {out.publication.key for out in self._outgoing.values() if not out.begun}:
            self._places.look(key)

    def _begin(self, outgoing: _Outgoing) -> None:
        outgoing.begun = True
        outgoing.further_at = self._state.now + _FURTHER_AFTER
        self._due = min(self._due, outgoing.further_at)
        self._ask(outgoing)
        self._end_if_done(outgoing)

    def _ask(self, outgoing: _Outgoing, *, further: bool = False) -> None:
        """Sends it to those of the closest that have not got it; `further`: to the closest of those."""
        left = outgoing.until - self._state.now
        for relay in self._places.closest(outgoing.publication.key, outgoing.asked if further else ()):
            if relay in outgoing.asked or len(outgoing.asked) >= _MOST_ASKED or left <= 0:
                continue
            outgoing.asked.add(relay)
            if relay == self._state.own:
                self._serve_ourselves(outgoing)
                continue
            message_id = self._ask_relay(relay, Publish(outgoing.publication).to_bytes(), min(PATIENCE, left))
            self._asked[message_id] = outgoing, relay
            outgoing.waiting += 1

    def _serve_ourselves(self, outgoing: _Outgoing) -> None:
        if self._serve(outgoing.publication) is Verdict.TAKEN:
            self._taken(outgoing, 0.0, 0)
        else:
            outgoing.error = MailboxFull("this node carries too much for that topic or publisher", "not_delivered")

    def _taken(self, outgoing: _Outgoing, rtt: float, hops: int) -> None:
        if not outgoing.taken:
            self._tell_room()
            outgoing.taken = True
            self._untaken -= 1
            self._state.do(Acknowledged(outgoing.token, rtt, hops))

    def settled(self, result: Acknowledged | Failed) -> bool:
        """A relay has taken it, or not in time; whether it was one of ours."""
        outgoing, relay = self._asked.pop(result.message_id, (None, NodeId(b"")))
        if outgoing is None:
            return False
        outgoing.waiting -= 1
        if isinstance(result, Acknowledged):
            self._places.trust(relay)
            self._taken(outgoing, result.rtt, result.hops)
        else:
            assert isinstance(result.error, DeliveryError)
            outgoing.error = result.error
            outgoing.uncertain = outgoing.uncertain or result.error.outcome == "unknown"
            if not isinstance(result.error, MailboxFull):
                self._places.avoid(relay)
                self._ask(outgoing)
        self._end_if_done(outgoing)
        return True

    def untimely(self, relay: NodeId, message: Untimely) -> None:
        """A relay does not take a publication, since its clock says another time than ours."""
        message_id = next((i for i, asked in self._asked.items() if _is_about(message, relay, *asked)), None)
        if message_id is None:
            self._state.counts["answers_to_nothing"] += 1
            return
        outgoing, _ = self._asked.pop(message_id)
        self._cancel(message_id)
        outgoing.waiting -= 1
        ahead = message.number / _MICRO - message.clock / _MICRO
        way = "ahead of" if ahead > 0 else "behind"
        if ahead > 0:
            self._number = 0  # nobody has seen these numbers; when our clock is put right, they must not stay ahead
        outgoing.error = DeliveryError(
            f"this node's clock is {abs(ahead):.0f} s {way} that of a relay", "not_delivered"
        )
        self._end_if_done(outgoing)

    def _end_if_done(self, outgoing: _Outgoing) -> None:
        if not outgoing.waiting and outgoing.begun:
            self._end(outgoing)

    def _end(self, outgoing: _Outgoing) -> None:
        if outgoing.token not in self._outgoing:
            return
        self._tell_room()
        del self._outgoing[outgoing.token]
        self._bytes -= len(outgoing.publication.data)
        if outgoing.taken:
            return
        self._untaken -= 1
        self._state.counts["publications_failed"] += 1
        error = outgoing.error
        outcome: Outcome = "unknown" if outgoing.uncertain else "not_delivered"
        if error is None:
            text = "no relay that keeps topics was found in time"
        elif isinstance(error, MailboxFull):
            text = "the relays carry too much for that topic or publisher"
        else:
            text = f"no relay took it: {error}"
        failure = TopicUnavailable(text, outcome)
        self._state.do(Failed(outgoing.token, failure))

    # Time

    def handle_timeout(self) -> None:
        """Gives up what has nowhere to go, and sends what nobody has taken to more relays."""
        now = self._state.now
        if self._due > now:
            return
        for outgoing in list(self._outgoing.values()):
            if not outgoing.begun and outgoing.until <= now:
                self._end(outgoing)
            elif not outgoing.taken and outgoing.further_at <= now:
                outgoing.further_at = now + _FURTHER_AFTER
                self._ask(outgoing, further=True)
        unsettled = [out for out in self._outgoing.values() if not (out.begun and out.taken)]
        self._due = min((out.further_at if out.begun else out.until for out in unsettled), default=float("inf"))

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do, at the earliest."""
        return self._due


def _is_about(message: Untimely, relay: NodeId, outgoing: _Outgoing, asked: NodeId) -> bool:
    publication = outgoing.publication
    return asked == relay and (publication.key, publication.number) == (message.key, message.number)
