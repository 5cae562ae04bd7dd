"""Simulated peers and links: routers whose actions are carried out in one event queue; a seed repeats a run exactly."""

from __future__ import annotations

import gc
import heapq
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Final

from ..limits import Limits
from ..overlay.actions import Acknowledged, Action, CloseLink, Deliver, Dial, Failed, Found, Linked, Transmit, Unlinked
from ..overlay.router import Router
from ..overlay.session.sessions import Sealing
from ..wire.content import Data, encode_content
from ..wire.frame import Kind, parse_frames_untrusted
from ..wire.ids import NodeId
from ..wire.record import id_of_key
from ..wire.session import Cipher
from .simulated_peer import End, SimulatedPeer, new_key, pair

__all__ = ["SimulatedNetwork"]

_WALL: Final = 1_700_000_000.0
_CONNECT_TIMEOUT: Final = 1.0
_ALONE_EVERY: Final = 5.0
_BOOTSTRAP_EVERY: Final = 60.0


class SimulatedNetwork:
    """Peers, their links and the clock.

    Args:
        seed: decides everything that is random.
        latency: seconds that a batch takes over a link.
        sealed: whether peers encrypt messages end to end (with real keys, fake signatures, and without ML-KEM).

    Attributes:
        counts: frames transmitted (``data``, ``control``) and not forwarded (``dropped``), ``dials``, ``probes``, and
            those ``refused``.
    """

    def __init__(
        self, seed: int = 0, *, latency: float = 0.01, limits: Limits | None = None, sealed: bool = True
    ) -> None:
        self.sealed: Final = sealed
        self.rng: Final = random.Random(seed)
        self.now = 0.0
        self.latency: Final = latency
        self.limits: Final = limits or Limits()
        self.peers: Final[list[SimulatedPeer]] = []
        self.counts: Final[Counter[str]] = Counter()
        self._by_url: Final[dict[str, SimulatedPeer]] = {}
        self._queue: Final[list[tuple[float, int, Callable[[], None]]]] = []
        self._sequence = 0
        self._groups: dict[str, int] = {}
        self._installing = False
        self._posted = 0

    # Peers

    @property
    def alive(self) -> list[SimulatedPeer]:
        """The peers that were not killed."""
        return [peer for peer in self.peers if peer.alive]

    def add(
        self, *, listening: bool = True, limits: Limits | None = None, near: NodeId | None = None, bits: int = 14
    ) -> SimulatedPeer:
        """A new peer without links.

        Args:
            listening: whether others can dial it.
            near: an id that its own is close to: its key was ground until so many `bits` are the same.
        """
        name = f"peer{len(self.peers)}"
        key = new_key(self.rng, near, bits)
        rng = random.Random(self.rng.getrandbits(64))
        router = Router(
            id_of_key(key),
            key,
            sign=lambda _: bytes(64),
            verify=lambda *_: True,
            rng=rng,
            token=lambda: rng.randbytes(8),
            now=self.now,
            wall_offset=_WALL,
            limits=limits or self.limits,
            sealing=Sealing(rng.randbytes, Cipher.CHACHA20_POLY1305, False) if self.sealed else None,
        )
        peer = SimulatedPeer(name, "", id_of_key(key), router, ground=near is not None)
        self.peers.append(peer)
        if listening:
            self.open_listener(peer)
        return peer

    def join(self, peer: SimulatedPeer, bootstrap: SimulatedPeer) -> None:
        """Dials a known address now; later whenever the peer is alone, or has lost sight of whoever is there.

        The second makes one network of two that never heard of each other, as it does for nodes with a bootstrap.
        """
        if not peer.alive:
            return
        alone = not len(peer.router.table)
        if alone or peer.router.record_of(bootstrap.id) is None:
            self._after(self.latency * 3, lambda: self._accept(peer, bootstrap, None))
        self._after(_ALONE_EVERY if alone else _BOOTSTRAP_EVERY, lambda: self.join(peer, bootstrap))

    def open_listener(self, peer: SimulatedPeer) -> None:
        """From now on others can dial the peer, and it says so."""
        peer.url = f"ws://{peer.name}.example:80"
        self._by_url[peer.url] = peer
        self._carry_out(peer, peer.router.advertise([peer.url], self.now))

    def close_listener(self, peer: SimulatedPeer) -> None:
        """Nobody can dial the peer any more, and it says so."""
        del self._by_url[peer.url]
        peer.url = ""
        self._carry_out(peer, peer.router.advertise([], self.now))

    def kill(self, *peers: SimulatedPeer, silent: bool = False) -> None:
        """Ends peers; their neighbours see it after one latency, or (silent) only by keepalive."""
        for peer in peers:
            peer.alive = False
            for end in peer.ends:
                if not silent:
                    self._end_other(end, "connection lost", alive=False)

    def leave(self, peer: SimulatedPeer) -> None:
        """Ends a peer in the polite way: when its neighbours have closed their links, or after a while."""
        self._carry_out(peer, peer.router.goodbye(self.now))
        self._leave_by(peer, self.now + self.limits.close_timeout)

    def _leave_by(self, peer: SimulatedPeer, deadline: float) -> None:
        if peer.ends and self.now < deadline:
            self._after(self.latency, lambda: self._leave_by(peer, deadline))
        else:
            self.kill(peer)

    def drop_forwarding(self, *peers: SimulatedPeer, kinds: Iterable[Kind] = (Kind.DATA, Kind.ACK)) -> None:
        """From now on frames of these kinds vanish when they pass through those peers.

        In all else the peers are honest: they keep links, answer pings and questions, and send and take messages of
        their own. So nobody sees that anything is wrong with them, except by what does not arrive.
        """
        for peer in peers:
            peer.drops = frozenset(kinds)

    def partition(self, *groups: Iterable[SimulatedPeer]) -> None:
        """From now on nothing passes between the groups; links across stay up until keepalive ends them."""
        self._groups = {peer.name: number for number, group in enumerate(groups) for peer in group}

    def heal(self) -> None:
        """Ends the partition."""
        self._groups = {}

    def _connected(self, a: SimulatedPeer, b: SimulatedPeer) -> bool:
        return a.alive and b.alive and self._together(a, b)

    def _together(self, a: SimulatedPeer, b: SimulatedPeer) -> bool:
        return self._groups.get(a.name, -1) == self._groups.get(b.name, -1)

    # Links

    def link(self, dialler: SimulatedPeer, acceptor: SimulatedPeer) -> None:
        """A link at once, as if dialled at the acceptor's address; nobody is asked."""
        near, far = pair(dialler, acceptor)
        self._up(far, dialled=False)
        self._up(near, dialled=True)

    def _install(self, links: Iterable[tuple[SimulatedPeer, SimulatedPeer]]) -> None:
        """Links of (dialler, acceptor) that were there before the simulation began: nobody says or asks anything."""
        ends: dict[SimulatedPeer, list[tuple[End, bool]]] = {}
        for dialler, acceptor in links:
            near, far = pair(dialler, acceptor)
            near.up = far.up = True
            ends.setdefault(dialler, []).append((far, False))
            ends.setdefault(acceptor, []).append((near, True))
        collecting = gc.isenabled()
        gc.disable()  # nothing of this becomes garbage, and looking for some takes as long as all the rest
        self._installing = True
        try:
            for other, theirs in ends.items():  # all that hear of one peer follow each other: its record is read once
                for end, dialled in theirs:
                    self._up(end, dialled=dialled)
                    self._agree(end.peer, other)
        finally:
            self._installing = False
            if collecting:
                gc.enable()

    def cut(self, a: SimulatedPeer, b: SimulatedPeer) -> None:
        """Every link between two peers breaks."""
        for end in [end for end in a.ends if end.other.peer is b]:
            self._end_other(end.other, "connection lost", alive=False)
            self._end_other(end, "connection lost", alive=False)

    def _dial(self, peer: SimulatedPeer, dial: Dial) -> None:
        self.counts["probes" if dial.probe else "dials"] += 1
        target = next((self._by_url[url] for url in dial.urls if url in self._by_url), None)
        if target is None or target.id != dial.expected or not self._connected(peer, target):
            self._after(_CONNECT_TIMEOUT, lambda: self._dial_failed(peer, dial))
        else:
            self._after(self.latency * 3, lambda: self._accept(peer, target, dial))

    def _accept(self, peer: SimulatedPeer, target: SimulatedPeer, dial: Dial | None) -> None:
        """The dialler's proof arrives, after three of the four flights of a handshake."""
        if not self._connected(peer, target):
            self._after(_CONNECT_TIMEOUT, lambda: self._dial_failed(peer, dial))
            return
        probe = dial is not None and dial.probe
        verdict = target.router.admit(peer.id, probe, peer.router.record.relay, self.now)
        if verdict is not None:
            self.counts["refused"] += 1
            self._after(self.latency, lambda: self._dial_failed(peer, dial, verdict[1]))
        elif probe:
            self._after(self.latency, lambda: self._probed(peer, target))
            self._carry_out(target, target.router.reached(peer.id, target.url.removeprefix("ws://"), self.now))
        else:
            near, far = pair(peer, target)
            self._after(self.latency, lambda: self._up(near, dialled=True))
            self._up(far, dialled=False)

    def _probed(self, peer: SimulatedPeer, target: SimulatedPeer) -> None:
        if peer.alive:
            self._carry_out(peer, peer.router.probe_ended(target.id, True, self.now))

    def _dial_failed(self, peer: SimulatedPeer, dial: Dial | None, records: bytes = b"") -> None:
        router = peer.router
        if not peer.alive:
            return
        if dial is None:
            self._carry_out(peer, router.learn(records, 0, self.now))
        elif dial.probe:
            self._carry_out(peer, router.probe_ended(dial.expected, False, self.now))
        else:
            self._carry_out(peer, router.dial_failed(dial.expected, self.now, records=records))

    def _up(self, end: End, *, dialled: bool) -> None:
        peer, other = end.peer, end.other.peer
        if dialled and not (end.other.up and self._connected(peer, other)):
            self._end_other(end, "handshake failed", alive=False)
            return
        end.up = True
        peer.ends[end] = None
        url = other.url if dialled and not self._installing else ""
        authority = "" if dialled else peer.url.removeprefix("ws://")
        router, record = peer.router, other.router.record
        self._carry_out(
            peer,
            router.link_up(end, other.id, self.now, dialled=dialled, url=url, authority=authority, record=record),
        )

    def _agree(self, peer: SimulatedPeer, other: SimulatedPeer) -> None:
        """What the two ends of an installed link would have found out about each other, and said."""
        neighbour = peer.router.table.get(other.id)
        if neighbour is not None:
            neighbour.url = other.url if neighbour.dialled else ""
            neighbour.trusts_us = peer.router.record.relay
            neighbour.reachable = neighbour.trusted = other.router.record.relay
            if neighbour.trusted:
                peer.router.probe_ended(other.id, True, self.now)
            else:
                peer.router.table.update(neighbour)

    def _end_other(self, end: End, reason: str, *, alive: bool) -> None:
        """The other end of `end` sees the link end."""
        self._after(self.latency, lambda: self._see_down(end.other, reason, alive))

    def _see_down(self, end: End, reason: str, alive: bool) -> None:
        peer = end.peer
        if end.up:
            end.up = False
            peer.ends.pop(end, None)
            if peer.alive:
                self._carry_out(peer, peer.router.link_down(end, reason, self.now, alive=alive))

    # Applications

    def send(self, sender: SimulatedPeer, to: NodeId, data: Data) -> None:
        """A datagram."""
        self._carry_out(sender, sender.router.send(to, encode_content(data), self.now))

    def deliver(self, sender: SimulatedPeer, to: NodeId, data: Data, timeout: float = 30.0) -> bytes:
        """A confirmed message; see `SimulatedPeer.acknowledged` and `failed`."""
        message_id, actions = sender.router.deliver(to, encode_content(data), timeout, self.now)
        self._carry_out(sender, actions)
        return message_id

    def connect(self, peer: SimulatedPeer, to: NodeId) -> None:
        """Asks for a direct link; see `SimulatedPeer.events`."""
        self._carry_out(peer, peer.router.connect(to, self.now)[1])

    def lookup(self, peer: SimulatedPeer, target: NodeId) -> None:
        """Looks for a record; see `SimulatedPeer.found`."""
        self._carry_out(peer, peer.router.lookup(target, target, self.now)[1])

    # The event queue

    def run(self, seconds: float) -> None:
        """Lets so much simulated time pass."""
        end = self.now + seconds
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, call = heapq.heappop(queue)
            call()
        self.now = end

    def _after(self, delay: float, call: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + delay, self._sequence, call))

    def _carry_out(self, peer: SimulatedPeer, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Transmit(link=End() as end):
                    self._transmit(end, action)
                case Deliver():
                    peer.received.append((action.sender, action.data))
                    peer.router.taken(action.size)
                case Dial():
                    self._dial(peer, action)
                case CloseLink(link=End() as end):
                    end.up = False
                    peer.ends.pop(end, None)
                    self._end_other(end, "closed by the other side", alive=True)
                case Linked() | Unlinked():
                    peer.events.append(action)
                case Acknowledged():
                    peer.acknowledged[action.message_id] = action.hops
                case Failed():
                    peer.failed[action.message_id] = action.error
                case Found():
                    peer.found.append(action)
        self._set_timer(peer)

    def _transmit(self, end: End, action: Transmit) -> None:
        assert end.up, "the router used a link that is down"
        if self._installing:
            return
        message = b"".join(action.pieces)
        if action.via is not None and end.peer.drops:
            message = self._without(message, end.peer.drops)
        else:
            self.counts["control" if action.control else "data"] += action.frames
        if message:
            self._after(self.latency, lambda: self._arrive(end.other, message))

    def _without(self, message: bytes, kinds: Collection[int]) -> bytes:
        """The frames of a message that are not of these kinds."""
        frames = parse_frames_untrusted(message)
        kept = [frame for frame in frames if frame.kind not in kinds]
        self.counts["dropped"] += len(frames) - len(kept)
        for frame in kept:
            self.counts["data" if frame.kind == Kind.DATA else "control"] += 1
        return b"".join(frame.to_bytes() for frame in kept)

    def _arrive(self, end: End, message: bytes) -> None:
        peer = end.peer
        if end.up and peer.alive and self._together(end.other.peer, peer):
            self._carry_out(peer, peer.router.receive(end, [message], self.now))

    def _set_timer(self, peer: SimulatedPeer) -> None:
        if self._installing:
            return
        deadline = peer.router.next_deadline()
        if deadline < peer.timer:
            peer.timer = deadline
            self._after(max(0.0, deadline - self.now), lambda: self._fire(peer, deadline))

    def _fire(self, peer: SimulatedPeer, deadline: float) -> None:
        if peer.alive and peer.timer == deadline:
            peer.timer = float("inf")
            due = peer.router.next_deadline() <= self.now
            self._carry_out(peer, peer.router.handle_timeout(self.now) if due else ())
