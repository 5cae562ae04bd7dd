"""The life of links: who may come in, two links with one peer, silence, goodbyes and ends; pure.

Rules of this file:

1. A peer is one neighbour, however many links it has. Of two links the one of the higher rank is used (WebSocket
   before WebRTC, unless that is preferred); of one rank the one dialled by the smaller id, of one dialler's the newer.
   The others are spares: they stay readable, and the best comes into use when the first ends. A spare is closed by its
   dialler after a while, or as soon as that has another one; by its acceptor only after a longer while. Both ends know
   the ranks and the diallers, so both use a link of the same rank and dialler. That dialler never closes the one that
   it uses itself, and the other end closes none of them so soon. So two ends that see links come up in different
   orders keep one.
2. Whoever lets a link go says so, sends nothing more over it, and still handles what comes until the other end closes
   it; a neighbour that says it is about to end gets no more frames, and is read to its end.
3. A neighbour that breaks the protocol, or is dead, loses its links, and nothing else.
4. A WebRTC link proves nothing about an address. What a WebSocket link proved about its peer stays true when a WebRTC
   link takes over; what its peer proved about us lasts as long as the WebSocket link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..wire.frame import Kind
from ..wire.hello import Reason, Refusal
from ..wire.ids import NodeId
from ..wire.record import join_records
from .actions import CloseLink, Linked, LinkHandle, Relinked, Unlinked
from .admission import Admission
from .liveness import Liveness
from .membership import Membership
from .reachability import Reachability
from .state import State
from .table import Neighbour, Rank

__all__ = ["Links"]

_ACCEPTOR_PATIENCE: Final = 4
"""How many times longer than its dialler the acceptor of a spare link keeps it: the dialler decides."""
_ACCEPTED: Final = 8
"""Spares of one peer that were accepted; a peer that does not close its own loses the oldest."""


@dataclass(frozen=True, slots=True)
class _Spare:
    """A second link with a neighbour, and when to close it; `rtt` and `since` as they were last."""

    link: LinkHandle
    dialled: bool
    url: str
    rank: Rank
    since: float
    rtt: float | None
    until: float


class Links:
    """Links by handle; each leads to the neighbour at its other end."""

    def __init__(
        self,
        state: State,
        reachability: Reachability,
        membership: Membership,
        liveness: Liveness,
        admission: Admission,
    ) -> None:
        self._state: Final = state
        self._reachability: Final = reachability
        self._membership: Final = membership
        self._liveness: Final = liveness
        self._admission: Final = admission
        self._by_link: dict[LinkHandle, Neighbour] = {}
        self._spares: dict[NodeId, list[_Spare]] = {}
        """The oldest first; no empty list."""
        self._leaving: dict[LinkHandle, float] = {}

    def __len__(self) -> int:
        return len(self._by_link)

    def get(self, link: LinkHandle) -> Neighbour | None:
        """The neighbour at the other end of a link that is up."""
        return self._by_link.get(link)

    # Coming

    def admit(self, node_id: NodeId, probe: bool, claims_relay: bool) -> tuple[Reason, bytes] | None:
        """Whether a proven dialler may link with us: None, or the reason and, when full, relays to try instead."""
        state = self._state
        table, limits = state.table, state.limits
        if not self._admission.links(node_id):
            return Reason.NOT_ADMITTED, b""
        if probe or table.get(node_id) is not None:
            return None
        if self._membership.is_refused(node_id):
            return Reason.DISCONNECTED, b""
        # Whoever claims to relay is a leaf until that is proven: the claim makes a little more room, not all.
        leaves = limits.leaves + (limits.relay_links if claims_relay else 0)
        if table.leaf_count < leaves and not (claims_relay and table.relay_count >= limits.relay_links):
            return None
        state.counts["full"] += 1
        return Reason.FULL, join_records(state.directory.answer(node_id, state.wall, None, node_id))

    def up(self, new: Neighbour) -> Neighbour | None:
        """A link came up; returns its neighbour, None when the link is with ourselves and closes."""
        state = self._state
        if new.dialled and new.rank is Rank.WEBSOCKET:
            self._membership.dialled(new.id, True)
        if new.id == state.own:
            state.do(CloseLink(new.link, Reason.SELF))
            return None
        if new.record is not None:
            state.directory.add(new.record, state.wall, new.scope)
            if new.record.expiry <= state.wall:
                new.record = None
        known = state.table.get(new.id)
        neighbour = new if known is None else known
        self._by_link[new.link] = neighbour
        if known is None:
            state.table.add(new)
            state.directory.trust(new.id)
            self._reachability.linked(new)
            self._liveness.watch(new)
            state.do(Linked(new.id, new.link))
        else:
            self._second(known, new)
        return neighbour

    def _second(self, neighbour: Neighbour, new: Neighbour) -> None:
        """A link with a peer that we have one with: one is used, the other becomes the spare."""
        old, spare = self._spare(neighbour), self._spare(new)
        if new.record is not None and (neighbour.record is None or new.record.sequence > neighbour.record.sequence):
            neighbour.record = new.record
        if self._wins(spare, old, neighbour):
            self._use(neighbour, spare)
            if new.rank is Rank.WEBSOCKET:
                neighbour.group, neighbour.scope = new.group, new.scope
            spare = old
        else:
            self._reachability.linked(neighbour)
        self._displace(neighbour.id, dialled=spare.dialled)
        self._spares.setdefault(neighbour.id, []).append(spare)
        self._weigh(neighbour)

    def _wins(self, new: _Spare, old: _Spare, neighbour: Neighbour) -> bool:
        """Whether one of two links is used, and not the other, which is older."""
        if new.rank != old.rank:
            return new.rank > old.rank
        # Of links by different diallers, the one dialled by the smaller id.
        return new.dialled == old.dialled or new.dialled == (self._state.own < neighbour.id)

    def _displace(self, node_id: NodeId, *, dialled: bool) -> None:
        """One more spare comes: whoever dialled it keeps no other, and the acceptor not too many."""
        alike = [spare for spare in self._spares.get(node_id, ()) if spare.dialled == dialled]
        if len(alike) >= (1 if dialled else _ACCEPTED):
            self._drop(node_id, alike[0])
            self._shut(alike[0].link, Reason.DUPLICATE)

    def _drop(self, node_id: NodeId, spare: _Spare) -> None:
        spares = self._spares[node_id]
        spares.remove(spare)
        if not spares:
            del self._spares[node_id]

    def _spare(self, link: Neighbour) -> _Spare:
        patience = self._state.limits.handshake_timeout * (1 if link.dialled else _ACCEPTOR_PATIENCE)
        until = self._state.now + patience
        return _Spare(link.link, link.dialled, link.url, link.rank, link.since, link.rtt, until)

    def _weigh(self, neighbour: Neighbour) -> None:
        """Without a WebSocket link, it does not testify to our address any longer."""
        ranks = {neighbour.rank, *(spare.rank for spare in self._spares.get(neighbour.id, ()))}
        if Rank.WEBSOCKET not in ranks:
            self._reachability.unwitnessed(neighbour)

    def _use(self, neighbour: Neighbour, spare: _Spare) -> None:
        """The neighbour's frames leave over this link from now on; its trust in us is whatever it says there."""
        old = neighbour.link
        neighbour.link, neighbour.dialled, neighbour.url = spare.link, spare.dialled, spare.url
        neighbour.rank, neighbour.since = spare.rank, spare.since
        neighbour.rtt = neighbour.rtt if spare.rtt is None else spare.rtt
        neighbour.trusts_us = False
        self._reachability.linked(neighbour)
        self._liveness.renew(neighbour)
        self._state.do(Relinked(neighbour.id, spare.link, old))

    # Going

    def down(self, link: LinkHandle, reason: str, alive: bool) -> None:
        """A link ended; the spare, if there is one, takes its place."""
        neighbour = self._by_link.pop(link, None)
        self._leaving.pop(link, None)
        if neighbour is None or self._state.table.get(neighbour.id) is not neighbour:
            return
        spares = self._spares.get(neighbour.id, [])
        if neighbour.link is not link:
            for spare in [spare for spare in spares if spare.link is link]:
                self._drop(neighbour.id, spare)
        elif spares:
            best = spares[0]
            for spare in spares[1:]:
                best = spare if self._wins(spare, best, neighbour) else best
            self._drop(neighbour.id, best)
            self._use(neighbour, best)
        else:
            self._remove(neighbour, reason, alive)
            return
        self._weigh(neighbour)

    def close(self, neighbour: Neighbour, reason: Reason, *, alive: bool = True) -> None:
        """Says goodbye and forgets the neighbour; one that lives closes the links, so that its last frames come in."""
        listed = self._state.table.get(neighbour.id) is neighbour
        if listed:
            self._state.tell(neighbour, Kind.GOODBYE, bytes([reason]))
        if alive:
            self._read_on(neighbour)
        else:
            self._shut_all(neighbour, reason)
        if listed:
            self._remove(neighbour, reason.name.lower(), alive)

    def _read_on(self, neighbour: Neighbour) -> None:
        """Its links are not used any more, but read until it closes them, or for a while."""
        until = self._state.now + 2 * self._state.limits.close_timeout
        self._leaving |= {link: until for link, other in self._by_link.items() if other is neighbour}

    def _shut_all(self, neighbour: Neighbour, reason: Reason) -> None:
        for link in [link for link, other in self._by_link.items() if other is neighbour]:
            self._shut(link, reason)

    def _shut(self, link: LinkHandle, reason: Reason) -> None:
        if self._by_link.pop(link, None) is not None:
            self._leaving.pop(link, None)
            self._state.do(CloseLink(link, reason))

    def _remove(self, neighbour: Neighbour, reason: str, alive: bool) -> None:
        """The peer is no neighbour any more."""
        state = self._state
        state.table.remove(neighbour)
        self._spares.pop(neighbour.id, None)
        self._reachability.unlinked(neighbour)
        if not alive:
            state.directory.suspect(neighbour.id)
        state.do(Unlinked(neighbour.id, neighbour.link, reason))
        self._reachability.update_role()

    # Link-local frames

    def receive(self, via: Neighbour, kind: int, message_id: bytes, payload: bytes) -> None:
        """PING, PONG, STATUS or GOODBYE of a neighbour."""
        if kind == Kind.PING:
            self._state.tell(via, Kind.PONG, message_id=message_id)
        elif kind == Kind.PONG:
            self._liveness.pong(via, message_id)
        elif kind == Kind.STATUS and payload:
            self._receive_status(via, payload)
        elif kind == Kind.GOODBYE and payload:
            self._receive_goodbye(via, payload[0])
        else:
            self._state.counts["unknown_kind"] += 1

    def _receive_status(self, via: Neighbour, payload: bytes) -> None:
        state = self._state
        if state.table.get(via.id) is not via:
            return
        state.directory.add_untrusted([payload[1:]], state.wall, via.scope)
        record = state.directory.get(via.id, state.wall)
        if record is None or (via.record is not None and via.record.sequence >= record.sequence):
            record = via.record
        self._reachability.receive_status(via, record, bool(payload[0] & 1))

    def _receive_goodbye(self, via: Neighbour, reason: int) -> None:
        state = self._state
        if state.table.get(via.id) is not via:
            self._shut_all(via, Reason.UNWANTED)
            return
        if reason == Reason.SHUTDOWN:
            # The answer is our last frame: when all neighbours gave it, whoever ends may go without loss.
            state.tell(via, Kind.GOODBYE, bytes([Reason.UNWANTED]))
            self._read_on(via)
        else:
            self._shut_all(via, Reason.UNWANTED)
        self._remove(via, Refusal(reason, {}).name, alive=reason != Reason.SHUTDOWN)
        # Whoever lets us go would do so again at once.
        if reason == Reason.DISCONNECTED or (reason == Reason.UNWANTED and via.dialled):
            self._membership.back_off(via.id)

    def goodbye(self) -> None:
        """We are about to end: tells every neighbour; each answers, and then its link closes."""
        self._membership.stop()
        for neighbour in self._state.table:
            self._state.tell(neighbour, Kind.GOODBYE, bytes([Reason.SHUTDOWN]))

    # Time

    def handle_timeout(self) -> None:
        """Closes whoever is dead, spares that were not needed, and links of those that left."""
        now = self._state.now
        for neighbour in self._liveness.overdue():
            self._state.counts["links_silent"] += 1
            self.close(neighbour, Reason.SILENT, alive=False)
        for node_id, spare in [(i, s) for i, spares in self._spares.items() for s in spares if s.until <= now]:
            self._drop(node_id, spare)
            spared = self._state.table.get(node_id)
            if spared is not None:
                self._weigh(spared)
            self._shut(spare.link, Reason.DUPLICATE)
        for link in [link for link, until in self._leaving.items() if until <= now]:
            self._shut(link, Reason.SHUTDOWN)

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        deadline = self._liveness.next_deadline()
        if self._spares or self._leaving:
            deadline = min(
                deadline, *(s.until for spares in self._spares.values() for s in spares), *self._leaving.values()
            )
        return deadline
