"""Our own subscriptions: at which relays they are kept, that they stay there, and what comes of them; pure.

Rules of this file:

1. A subscription is renewed every minute at the relays that are closest to its key then. One that does not answer, or
   says that it keeps nothing any more, is replaced at once by the next closest.
2. A relay that misses what another one brought is asked whether it still keeps the subscription.
3. A publication is taken once, from a relay that we asked, if its publisher signed it, for that key, just now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._bounded import BoundedMap, TokenBucket
from ..exceptions import MailboxFull
from ..wire.frame import Flag
from ..wire.ids import NodeId
from ..wire.rendezvous import Publication, Subscribe, Unsubscribe
from .actions import Acknowledged, Failed, Published, Subscribed
from .admission import Admission
from .endpoint import Endpoint
from .rendezvous_board import LIFETIME, TOPICS_PER_SUBSCRIBER, Board, Verdict
from .rendezvous_leases import FULL_AGAIN_AFTER, Interest, Lease
from .rendezvous_numbers import Numbers, is_timely
from .rendezvous_places import REFRESH, Places
from .state import State

__all__ = ["PATIENCE", "Interests"]

PATIENCE: Final = 5.0
"""A relay that does not confirm within so many seconds is replaced."""

_RENEW_AFTER: Final = 30.0
_LOOK_AGAIN_AFTER: Final = 2.0
_PATIENCE_WITH_SUSPECTS: Final = 3.0
_KEPT: Final = 16
"""Relays of one key that may bring publications; those that are not asked any more go first."""
_CHECKS_PER_SECOND, _CHECKS_BURST = 1000.0, 4000.0
"""Signatures that one relay may make us verify."""
_PUBLISHERS: Final = 1024
_RELAYS: Final = 1024


class Interests:
    """The keys that this node subscribed to.

    Args:
        admission: whose publications our application takes.
        ask: sends a confirmed message to a relay; returns its id.
    """

    def __init__(
        self,
        state: State,
        endpoint: Endpoint,
        places: Places,
        board: Board,
        admission: Admission,
        ask: Callable[[NodeId, bytes, float], bytes],
    ) -> None:
        self._state: Final = state
        self._endpoint: Final = endpoint
        self._places: Final = places
        self._board: Final = board
        self._admission: Final = admission
        self._ask_relay: Final = ask
        self._numbers: Final = Numbers(_PUBLISHERS)
        self._interests: Final = dict[NodeId, Interest]()
        self._asked: Final = dict[bytes, tuple[Interest, NodeId]]()
        self._checks: Final = BoundedMap[NodeId, TokenBucket](_RELAYS, REFRESH)
        self._due = float("inf")  # nothing is due before, so that not all are looked at after each input

    def __len__(self) -> int:
        return len(self._interests)

    @property
    def has_room(self) -> bool:
        """Whether there may be one more: no relay takes more of one subscriber."""
        return len(self._interests) < TOPICS_PER_SUBSCRIBER

    def __contains__(self, key: NodeId) -> bool:
        return key in self._interests

    # What we want

    def add(self, key: NodeId) -> None:
        """From now on; `Subscribed` tells how it goes."""
        if key not in self._interests:
            self._interests[key] = interest = Interest(key, self._state.now, renewed=self._state.now)
            self._plan(interest)
            self._look(interest)

    def remove(self, key: NodeId) -> None:
        """No more."""
        interest = self._interests.pop(key, None)
        for relay, lease in interest.leases.items() if interest is not None else ():
            if lease.message_id:
                self._endpoint.cancel(lease.message_id)
                self._asked.pop(lease.message_id, None)
            if relay == self._state.own:
                self._board.unsubscribe(relay, key)
            else:
                self._endpoint.send(relay, Unsubscribe(key).to_bytes(), Flag.RENDEZVOUS)

    # Where it is kept

    def _look(self, interest: Interest) -> None:
        now = self._state.now
        interest.looked = now
        interest.look_at = now + REFRESH * self._state.rng.uniform(0.9, 1.0)
        self._due = min(self._due, interest.look_at)
        self._places.look(interest.key)

    def _look_soon(self, interest: Interest, delay: float = 0.0) -> None:
        at = max(self._state.now + delay, interest.looked + _LOOK_AGAIN_AFTER)
        interest.look_at = min(interest.look_at, at)
        self._due = min(self._due, interest.look_at)

    def found(self, key: NodeId) -> None:
        """The relays closest to a key were looked for."""
        interest = self._interests.get(key)
        if interest is not None:
            renew = interest.renewed + _RENEW_AFTER <= self._state.now
            if renew:
                interest.renewed = self._state.now
            self._plan(interest, renew=renew)
            if not self._places.is_fresh(key):
                self._look_soon(interest)

    def plan_all(self) -> None:
        """Relays came or went."""
        for interest in self._interests.values():
            self._plan(interest)
            if not self._places.is_fresh(interest.key):
                self._look(interest)

    def _plan(self, interest: Interest, *, renew: bool = False) -> None:
        """Asks whoever is closest to keep it, unless he does."""
        interest.targets = targets = self._places.closest(interest.key)
        for relay, lease in interest.leases.items():
            if relay not in targets and lease.until == float("inf"):
                lease.until, lease.confirmed, lease.missed = self._state.now + LIFETIME, False, float("inf")
        for relay in targets:
            known = interest.leases.get(relay)
            if known is None or renew or known.is_due(self._state.now):
                self._ask(interest, relay)
        if not targets:
            self._look_soon(interest, _LOOK_AGAIN_AFTER)
        self._forget_old(interest)
        self._tell(interest)

    def _forget_old(self, interest: Interest) -> None:
        old = sorted((lease.until, relay) for relay, lease in interest.leases.items() if lease.until < float("inf"))
        surplus = len(interest.leases) - _KEPT
        for number, (until, relay) in enumerate(old):
            if until <= self._state.now or number < surplus:
                del interest.leases[relay]

    def _ask(self, interest: Interest, relay: NodeId, patience: float = PATIENCE) -> None:
        now = self._state.now
        lease = interest.leases.get(relay)
        if lease is None:
            lease = interest.leases[relay] = Lease()
        lease.until, lease.missed = float("inf"), float("inf")
        if lease.message_id:
            return
        lease.asked = now
        if relay == self._state.own:
            taken = self._board.subscribe(relay, relay, interest.key, now) is Verdict.TAKEN
            lease.refused = "" if taken else "this node keeps too many"
            self._kept(interest, lease, taken)
        else:
            lease.message_id = self._ask_relay(relay, Subscribe(interest.key).to_bytes(), patience)
            self._asked[lease.message_id] = interest, relay

    def settled(self, result: Acknowledged | Failed) -> bool:
        """A question has an answer, or none in time; whether it was one of ours."""
        interest, relay = self._asked.pop(result.message_id, (None, NodeId(b"")))
        if interest is None:
            return False
        lease = interest.leases.get(relay)
        if lease is None or lease.message_id != result.message_id:
            return True
        lease.message_id = b""
        if isinstance(result, Acknowledged):
            lease.refused = ""
            self._kept(interest, lease, True)
            self._places.trust(relay)
        elif isinstance(result.error, MailboxFull):
            lease.confirmed, lease.refused = False, "it keeps too many"
            self._look_soon(interest, FULL_AGAIN_AFTER)
        else:
            self._lost(interest, relay)
            return True
        self._tell(interest)
        return True

    @staticmethod
    def _kept(interest: Interest, lease: Lease, confirmed: bool) -> None:
        """A relay keeps it from now on, or does not."""
        interest.moved += confirmed and not lease.confirmed and interest.settled
        lease.confirmed = confirmed

    def gone(self, relay: NodeId, key: NodeId) -> None:
        """A relay keeps it no more."""
        interest = self._interests.get(key)
        if interest is None or relay not in interest.leases:
            self._state.counts["rendezvous_unwanted"] += 1
        else:
            self._lost(interest, relay)

    def _lost(self, interest: Interest, relay: NodeId) -> None:
        """It may still bring what it had, if only its answer was lost."""
        self._places.avoid(relay)
        lease = interest.leases[relay]
        if lease.message_id:
            self._endpoint.cancel(lease.message_id)
            self._asked.pop(lease.message_id, None)
        lease.message_id, lease.confirmed, lease.missed = b"", False, float("inf")
        lease.until = min(lease.until, lease.asked + LIFETIME)
        self._look_soon(interest)
        self._plan(interest)

    def _tell(self, interest: Interest) -> None:
        leases = [interest.leases[relay] for relay in interest.targets if relay in interest.leases]
        kept = sum(lease.confirmed for lease in leases)
        settled = all(lease.confirmed or lease.refused for lease in leases)
        reason = next((lease.refused for lease in leases if lease.refused), "")
        complete = bool(leases) and settled and self._places.is_fresh(interest.key)
        interest.settled = interest.settled or (complete and kept > 0)
        told = Subscribed(interest.key, kept, complete, reason, interest.moved)
        if told != interest.told:
            interest.told = told
            self._state.do(told)

    # What comes

    def receive(self, relay: NodeId, publication: Publication) -> Verdict:
        """A relay brings a publication."""
        state, counts, key = self._state, self._state.counts, publication.key
        interest = self._interests.get(key)
        lease = None if interest is None else interest.leases.get(relay)
        if interest is None or lease is None:
            counts["rendezvous_unwanted"] += 1
            return Verdict.REFUSED
        lease.missed = float("inf")
        if publication.publisher == state.own or self._numbers.seen(publication, state.now):
            counts["publications_repeated"] += 1
        elif not is_timely(publication, state.wall):
            counts["publications_untimely"] += 1
        elif not self._admission.messages(publication.publisher):
            counts["not_admitted"] += 1
        elif relay != state.own and not self._may_check(relay):
            counts["publications_rate"] += 1
        elif not publication.is_signed(state.verify):
            counts["publications_forged"] += 1
        else:
            self._numbers.add(publication, state.now)
            for other in interest.leases.values():
                if other is not lease and other.confirmed and other.missed == float("inf"):
                    other.missed = state.now
                    self._due = min(self._due, other.suspected_at)
            self.put(publication)
            return Verdict.TAKEN
        return Verdict.REFUSED

    def _may_check(self, relay: NodeId) -> bool:
        """Whether a relay may make us verify one more signature, of whatever key."""
        now = self._state.now
        bucket = self._checks.get(relay, now) or TokenBucket(_CHECKS_PER_SECOND, _CHECKS_BURST, now)
        self._checks.set(relay, bucket, now)
        return bucket.take(now)

    def put(self, publication: Publication) -> None:
        """For the application."""
        self._state.counts["publications_received"] += 1
        self._state.do(Published(publication.key, publication.data, publication.publisher))

    # Time

    def expire(self) -> None:
        """Forgets what needs not be known any more."""
        self._numbers.expire(self._state.now)
        self._checks.expire(self._state.now)

    def handle_timeout(self) -> None:
        """Does what is due now."""
        now = self._state.now
        if self._due > now:
            return
        for interest in list(self._interests.values()):
            if interest.look_at <= now:
                self._look(interest)
            for relay, lease in list(interest.leases.items()):
                if lease.suspected_at <= now:
                    self._state.counts["publications_missed"] += 1
                    self._ask(interest, relay, _PATIENCE_WITH_SUSPECTS)
        self._due = float("inf")
        for interest in self._interests.values():
            self._due = min(self._due, interest.look_at, *(lease.suspected_at for lease in interest.leases.values()))

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do, at the earliest."""
        return self._due
