"""What the parts of the router share: the tables, the time of the current input, and the actions it led to; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..limits import Limits
from ..wire.frame import MAX_MESSAGE, Kind, build_frame
from ..wire.ids import NodeId, distance
from ..wire.record import PeerRecord, Role, Sign, Verify, build_record
from .actions import URGENT, Action, LinkHandle, Transmit, Tunnel
from .directory import Directory
from .table import Neighbour, RoutingTable

if TYPE_CHECKING:
    import random

__all__ = ["State"]

_SIGNS_OF_LIFE: Final = (Kind.PING, Kind.PONG)
_RETRY_PATHS: Final = 8
"""A retry picks among so many of the closest relays, so that a dead path is left at once."""
_RETRY_COPIES: Final = 2
"""Ways that a retry takes at once: where a fifth of the relays drop what they should pass on, one way there and back
fails every other time."""


class State:
    """The router's tables and clock.

    Attributes:
        now: monotonic seconds of the input that is being handled.
        wall_offset: what to add to `now` for Unix time.
        advertised: URLs that we tell other peers, at most four.
        relaying: whether we relay: an address of ours was proven to be reachable.
        tunnels: whether what has no way in the overlay may be given to original nodes.
        counts: drops, expiries and refusals by reason, and traffic totals.
    """

    def __init__(
        self,
        own: NodeId,
        public_key: bytes,
        *,
        sign: Sign,
        verify: Verify,
        limits: Limits,
        rng: random.Random,
        token: Callable[[], bytes],
        now: float,
        wall_offset: float,
        legacy: bool = False,
    ) -> None:
        self.own = own
        self.public_key = public_key
        self.sign = sign
        self.verify = verify
        self.limits = limits
        self.rng = rng
        self.token = token
        self.now = now
        self.wall_offset = wall_offset
        self.legacy = legacy
        self.relaying = False
        self.tunnels = False
        self.advertised: tuple[str, ...] = ()
        self.counts: Counter[str] = Counter()
        self.table = RoutingTable(own)
        self.directory = Directory(
            own,
            capacity=limits.records,
            lifetime=limits.record_lifetime,
            verify=verify,
            neighbours=self.table.ids,
        )
        self.record = self._build_record()
        self._joining: dict[tuple[LinkHandle, LinkHandle | None, int], Transmit] = {}
        self._sends: list[Action] = []
        self._actions: list[Action] = []

    @property
    def wall(self) -> float:
        """Unix time of the current input."""
        return self.now + self.wall_offset

    def _build_record(self, after: int = -1) -> PeerRecord:
        return build_record(
            self.public_key,
            self.sign,
            sequence=max(int(self.wall * 1_000_000), after + 1),
            expiry=int(self.wall + self.limits.record_lifetime),
            urls=self.advertised,
            roles=(Role.RELAY | Role.RENDEZVOUS) * self.relaying | Role.LEGACY * self.legacy,
        )

    def renew_record(self) -> PeerRecord:
        """Signs a new record of ourselves, later than every one before."""
        self.record = self._build_record(self.record.sequence)
        return self.record

    # Actions

    def do(self, action: Action) -> None:
        """Adds an action to the result of the current input."""
        self._actions.append(action)

    def transmit(
        self,
        to: Neighbour,
        piece: bytes | bytearray | memoryview,
        *,
        frames: int = 1,
        via: LinkHandle | None = None,
        control: int,
    ) -> None:
        """Adds whole frames to what goes to a neighbour; joined by link, up to the size of a WebSocket message."""
        key = (to.link, via, control)
        send = self._joining.get(key)
        if send is None or send.size + len(piece) > MAX_MESSAGE:
            self._joining[key] = send = Transmit(to.link, via, control, [piece], frames, len(piece))
            self._sends.append(send)
        else:
            send.pieces.append(piece)
            send.frames += frames
            send.size += len(piece)

    def drain(self) -> list[Action]:
        """Everything the current input led to; frames first, so that a link that closes gets its last ones."""
        sends, actions = self._sends, self._actions
        if sends:
            self._sends = []
            self._joining.clear()
        if actions:
            self._actions = []
        return sends + actions

    # Frames of our own

    def tell(self, neighbour: Neighbour, kind: Kind, payload: bytes = b"", message_id: bytes = bytes(8)) -> None:
        """Sends a frame to a neighbour over its own link."""
        frame = build_frame(kind, neighbour.id, self.own, message_id, payload, hop_limit=0, detours=0)
        self.transmit(neighbour, frame, control=URGENT if kind in _SIGNS_OF_LIFE else True)

    def send(
        self,
        kind: Kind,
        to: NodeId,
        message_id: bytes,
        payload: bytes,
        *,
        flags: int = 0,
        attempt: int = 0,
        back: Neighbour | None = None,
    ) -> bool:
        """Sends a frame of ours towards an id; False when there is no way at all.

        Args:
            back: the neighbour over which came what this answers. The answer to a retry goes there too: that way is
                open, and ours may be the one that lost the answer before.
        """
        hops, detours = self.first_hops(to, attempt)
        if attempt and back is not None and hops and back not in hops and (back.relay or back.id == to):
            hops.append(back)
        limits = self.limits
        if not hops and self.tunnels:
            frame = build_frame(kind, to, self.own, message_id, payload, flags=flags, attempt=attempt, detours=0)
            self.do(Tunnel(frame, to))
            return True
        for hop in hops:
            frame = build_frame(
                kind,
                to,
                self.own,
                message_id,
                payload,
                flags=flags,
                hop_limit=limits.hops,
                attempt=attempt,
                detours=detours,
            )
            self.transmit(hop, frame, control=kind is not Kind.DATA)
        return bool(hops)

    def first_hops(self, to: bytes, attempt: int) -> tuple[list[Neighbour], int]:
        """The neighbours that get a frame of ours, and the detours it is allowed from there.

        The first attempt goes to the target itself or to the relay closest to it; a retry takes two others of the
        closest. A relay that is itself the closest does what it does for others: one copy to each of the next two.
        """
        table, limits = self.table, self.limits
        first = table.first_hop(to)
        if first is None:
            return [], 0
        stuck = self.relaying and first.id != to and distance(first.id, to) > distance(self.own, to)
        if attempt == 0 and not stuck:
            return [first], limits.detours
        choices = table.closest_relays(to, _RETRY_PATHS)
        if first.id == to and first not in choices:
            choices.insert(0, first)
        if attempt == 0:
            return choices[: limits.detours], 0
        ways = range(_RETRY_COPIES * attempt, _RETRY_COPIES * attempt + min(_RETRY_COPIES, len(choices)))
        return [choices[way % len(choices)] for way in ways], limits.detours
