"""Topics: nodes that know a name in common meet at the three relays closest to its key; pure.

The parts are `Board`, what we keep for others; `Interests`, our own subscriptions; `Publishing`, our own publications;
`Places`, which relays those are. This file puts them together.
"""

from __future__ import annotations

from typing import Final, assert_never

from ..exceptions import RemoteProtocolError
from ..wire.frame import Flag
from ..wire.ids import NodeId
from ..wire.rendezvous import (
    Event,
    Gone,
    Publication,
    Publish,
    Subscribe,
    Unsubscribe,
    Untimely,
    parse_rendezvous_untrusted,
)
from .actions import Acknowledged, Failed
from .admission import Admission
from .discovery import Discovery
from .endpoint import Endpoint
from .rendezvous_board import Board, Verdict
from .rendezvous_inbox import RendezvousInbox
from .rendezvous_interests import Interests
from .rendezvous_places import Places
from .rendezvous_publishing import Publishing
from .state import State

__all__ = ["Rendezvous"]

_PLAN_AFTER: Final = 0.25
"""Relays that come or go together are one change."""


class Rendezvous:
    """What a node does with topics, as a relay and for its own application.

    Args:
        admission: whom we keep subscriptions for, and whose publications our application takes.
    """

    def __init__(self, state: State, endpoint: Endpoint, discovery: Discovery, admission: Admission) -> None:
        self._state: Final = state
        self._endpoint: Final = endpoint
        self._admission: Final = admission
        self._places: Final = Places(state, discovery)
        self._board: Final = Board(state.own, state.verify, state.counts, state.now)
        self._interests: Final = Interests(state, endpoint, self._places, self._board, admission, self._ask)
        self._publishing: Final = Publishing(state, self._places, self._ask, endpoint.cancel, self._serve)
        self._inbox: Final = RendezvousInbox(state, endpoint, self._receive)
        endpoint.receive_rendezvous = self._inbox.receive
        endpoint.settle_rendezvous = self._settle
        self._results: Final = list[Acknowledged | Failed]()
        self._plan_at = float("inf")
        self._record = state.record
        self.moved = False
        """Whether `next_deadline` may have come nearer, or there is news, since the last `handle_news`."""

    def sizes(self) -> dict[str, int]:
        """How full each bounded table is."""
        return {
            "topics": len(self._board),
            "topic_subscriptions": self._board.subscriptions,
            "own_topics": len(self._interests),
            "publishing": len(self._publishing),
            "rendezvous_seen": len(self._inbox),
        }

    # The application

    @property
    def has_topic_room(self) -> bool:
        """Whether the application may subscribe to one more topic."""
        return self._interests.has_room

    def has_room(self, size: int) -> bool:
        """Whether one more publication of so many bytes may be under way."""
        return self._publishing.has_room(size)

    def subscribe(self, key: NodeId) -> None:
        """From now on; `Subscribed` tells how it goes, `Published` what comes."""
        self.moved = True
        self._interests.add(key)

    def unsubscribe(self, key: NodeId) -> None:
        """No more."""
        self._interests.remove(key)

    def publish(self, key: NodeId, data: bytes, timeout: float) -> bytes:
        """Ends in `Acknowledged` or `Failed` with the token that is returned. Our own subscription has it at once."""
        self.moved = True
        token, publication = self._publishing.publish(key, data, timeout)
        if key in self._interests:
            self._interests.put(publication)
        return token

    def close(self) -> None:
        """The node ends: whoever subscribed here looks for another relay."""
        for subscriber, key in self._board.clear():
            if subscriber != self._state.own:
                self._endpoint.send(subscriber, Gone(key).to_bytes(), Flag.RENDEZVOUS)

    # Messages

    def _ask(self, relay: NodeId, payload: bytes, timeout: float) -> bytes:
        self.moved = True
        return self._endpoint.deliver(relay, payload, timeout, Flag.RENDEZVOUS)

    def _receive(self, via: NodeId, source: NodeId, payload: bytes, proven: bool) -> Verdict:
        """A message about a topic; `via`: the neighbour that it came over, `proven`: it is from `source`."""
        self.moved = True
        try:
            message = parse_rendezvous_untrusted(payload)
        except RemoteProtocolError:
            self._state.counts["bad_rendezvous"] += 1
            return Verdict.REFUSED
        match message:
            case Event():
                return self._receive_event(source, message.publication)
            case Gone():
                if proven:
                    self._interests.gone(source, message.key)
            case Unsubscribe():
                if proven:
                    self._board.unsubscribe(source, message.key)
            case Untimely():
                if proven:
                    self._publishing.untimely(source, message)
            case Subscribe() | Publish():
                return self._receive_request(via, source, message, proven=proven)
            case _:
                assert_never(message)
        return Verdict.TAKEN if proven else Verdict.REFUSED

    def _receive_request(self, via: NodeId, source: NodeId, message: Subscribe | Publish, *, proven: bool) -> Verdict:
        """As a relay; what a publisher signed needs no other proof."""
        state = self._state
        if not self._admission.either(source):
            state.counts["not_admitted"] += 1
        elif not self._places.serves or (not proven and isinstance(message, Subscribe)):
            state.counts["rendezvous_refused"] += 1
        elif isinstance(message, Subscribe):
            return self._board.subscribe(via, source, message.key, state.now)
        else:
            return self._take(via, source, message.publication)
        return Verdict.REFUSED

    def _serve(self, publication: Publication) -> Verdict:
        return self._take(self._state.own, self._state.own, publication)

    def _take(self, via: NodeId, source: NodeId, publication: Publication) -> Verdict:
        state = self._state
        verdict, subscribers = self._board.publish(via, source, publication, state.now, state.wall)
        if verdict is Verdict.UNTIMELY and source != state.own:
            answer = Untimely(publication.key, publication.number, max(0, int(state.wall * 1_000_000)))
            self._endpoint.send(source, answer.to_bytes(), Flag.RENDEZVOUS)
        event = Event(publication).to_bytes() if subscribers else b""
        for subscriber in subscribers:
            if subscriber == state.own:
                self._interests.receive(subscriber, publication)
            else:
                self._endpoint.send(subscriber, event, Flag.RENDEZVOUS)
        return verdict

    def _receive_event(self, relay: NodeId, publication: Publication) -> Verdict:
        if publication.key not in self._interests:
            # It was not reached when we unsubscribed, or does not know yet.
            self._endpoint.send(relay, Unsubscribe(publication.key).to_bytes(), Flag.RENDEZVOUS)
        return self._interests.receive(relay, publication)

    # Results

    def _settle(self, result: Acknowledged | Failed) -> None:
        """A confirmed message of ours has an answer, or none in time."""
        self.moved = True
        self._results.append(result)

    def handle_news(self) -> None:
        """Answers, and lookups that ended: neither is handled in the middle of something else."""
        self.moved = False
        while self._results or self._places.ended:
            ended = self._places.ended.copy()
            self._places.ended.clear()
            for key in ended:
                self._interests.found(key)
                self._publishing.found(key)
            results = self._results.copy()
            self._results.clear()
            for result in results:
                if not self._interests.settled(result):
                    self._publishing.settled(result)

    def found(self, key: NodeId) -> None:
        """A lookup of ours has ended."""
        self.moved = True
        self._places.found(key)

    def changed(self) -> None:
        """Relays came or went."""
        if len(self._interests) or len(self._publishing):
            self._plan_at = min(self._plan_at, self._state.now + _PLAN_AFTER)
            self.moved = True

    def role_changed(self) -> None:
        """Our own record is another one: we may have begun to relay, or ceased to."""
        if self._record is not self._state.record:
            relayed, self._record = self._record.rendezvous, self._state.record
            self.changed()
            if relayed and not self._record.rendezvous:
                self.close()

    # Time

    def expire(self) -> None:
        """Ends what was not renewed."""
        self._board.expire(self._state.now)
        self._interests.expire()
        self._inbox.expire()

    def handle_timeout(self) -> None:
        """Does what is due now."""
        self.moved = True
        if self._plan_at <= self._state.now:
            self._plan_at = float("inf")
            self._interests.plan_all()
            self._publishing.plan_all()
        self._interests.handle_timeout()
        self._publishing.handle_timeout()

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        return min(self._plan_at, self._interests.next_deadline(), self._publishing.next_deadline())
