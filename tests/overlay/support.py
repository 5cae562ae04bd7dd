"""A router on the bench: fake keys whose signatures can be told from forgeries, links as plain objects, no clock."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, TypeVar

from trio_relay.limits import Limits
from trio_relay.overlay.actions import Action, LinkHandle, Transmit
from trio_relay.overlay.admission import Admission
from trio_relay.overlay.router import Router
from trio_relay.overlay.state import State
from trio_relay.overlay.table import Neighbour
from trio_relay.wire.frame import Frame, Kind, parse_frames_untrusted
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import PeerRecord, build_record, id_of_key

WALL: Final = 1_700_000_000.0
A = TypeVar("A")


def key(number: int) -> bytes:
    """The public key of the peer with that number."""
    return hashlib.sha256(b"key %d" % number).digest()


def node_id(number: int) -> NodeId:
    return id_of_key(key(number))


def url(number: int) -> str:
    return f"ws://peer{number}.example:80"


def signature(public_key: bytes, data: bytes) -> bytes:
    return hashlib.sha256(public_key + data).digest() * 2


def verify(public_key: bytes, claimed: bytes, data: bytes) -> bool:
    return claimed == signature(public_key, data)


def record(
    number: int,
    urls: Sequence[str] | None = None,
    *,
    relay: bool = True,
    sequence: int = 1,
    expiry: float = WALL + 3000,
    legacy_id: NodeId | None = None,
) -> PeerRecord:
    """A signed record of the peer with that number; by default it relays, at `url(number)`."""
    own = key(number)
    return build_record(
        own,
        lambda data: signature(own, data),
        sequence=sequence,
        expiry=int(expiry),
        urls=[url(number)] if urls is None else urls,
        roles=int(relay),
        legacy_id=legacy_id,
    )


def make_state(number: int = 0, *, limits: Limits | None = None, relaying: bool = True) -> State:
    """What the parts of peer `number`'s router share."""
    own = key(number)
    tokens = count(1)
    state = State(
        id_of_key(own),
        own,
        sign=lambda data: signature(own, data),
        verify=verify,
        limits=limits or Limits(),
        rng=random.Random(number),
        token=lambda: next(tokens).to_bytes(8, "big"),
        now=0.0,
        wall_offset=WALL,
    )
    state.relaying = relaying
    return state


def make_neighbour(number: int, *, relay: bool = True, group: str = "", dialled: bool = False) -> Neighbour:
    """A neighbour with a link of its own; as a relay it trusts and is trusted."""
    return Neighbour(
        node_id(number),
        f"link {number}",
        0.0,
        dialled=dialled,
        record=record(number) if relay else None,
        reachable=relay,
        trusted=relay,
        trusts_us=True,
        group=group,
    )


@dataclass(eq=False)
class BenchLink:
    """The far end of a link with the router on the bench."""

    number: int
    id: NodeId
    record: PeerRecord
    up: bool = True


class Bench:
    """The router of peer 0, and its inputs with the current time filled in."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        relaying: bool = True,
        legacy: bool = False,
        admits: Callable[[NodeId], bool] = lambda _: True,
        webrtc: int = 0,
        negotiation_timeout: float = 10.0,
    ) -> None:
        own = key(0)
        self.limits = limits or Limits()
        self.now = 0.0
        tokens = count(1)
        self.router = Router(
            id_of_key(own),
            own,
            sign=lambda data: signature(own, data),
            verify=verify,
            rng=random.Random(0),
            token=lambda: next(tokens).to_bytes(8, "big"),
            now=0.0,
            wall_offset=WALL,
            limits=self.limits,
            admission=Admission(admits, admits),
            legacy=legacy,
            webrtc=webrtc,
            negotiation_timeout=negotiation_timeout,
        )
        self.id = self.router.record.id
        if relaying:
            self.router.advertise([url(0)], 0.0)
            self.router.reached(node_id(999_999), "peer0.example:80", 0.0)
            assert self.router.relaying

    def link(
        self, number: int, *, relay: bool = True, dialled: bool | None = None, trusts: bool = True, group: str = ""
    ) -> BenchLink:
        """A new link with the peer; a relay is dialled at its address, and says that it trusts us."""
        link, _ = self.link_with_actions(number, relay=relay, dialled=dialled, trusts=trusts, group=group)
        return link

    def link_with_actions(
        self, number: int, *, relay: bool = True, dialled: bool | None = None, trusts: bool = True, group: str = ""
    ) -> tuple[BenchLink, list[Action]]:
        """The same, with what the router wants done when the link comes up."""
        dialled = relay if dialled is None else dialled
        own = record(number, None if relay else (), relay=relay)
        link = BenchLink(number, own.id, own)
        actions = self.router.link_up(
            link,
            own.id,
            self.now,
            dialled=dialled,
            url=url(number) if dialled else "",
            authority="" if dialled else "peer0.example:80",
            record=own,
            group=group,
        )
        if trusts:
            actions += self.receive(link, self.status(link, trusts=True))
        return link, actions

    def status(self, link: BenchLink, *, trusts: bool) -> Frame:
        return self.frame(link, Kind.STATUS, payload=bytes([trusts]) + link.record.raw)

    def frame(
        self,
        link: BenchLink,
        kind: int = Kind.DATA,
        *,
        to: NodeId | None = None,
        source: NodeId | None = None,
        message_id: bytes = b"message.",
        payload: bytes = b"\x00payload",
        flags: int = 0,
        hop_limit: int = 16,
        attempt: int = 0,
        detours: int = 2,
    ) -> Frame:
        """A frame as the far end of `link` would send it; by default of its own, to us."""
        return Frame(
            kind=kind,
            to=self.id if to is None else to,
            source=link.id if source is None else source,
            message_id=message_id,
            payload=payload,
            flags=flags,
            hop_limit=hop_limit,
            attempt=attempt,
            detours=detours,
        )

    def receive(self, link: LinkHandle, *frames: Frame | bytes) -> list[Action]:
        """Frames arrive together over one link."""
        message = b"".join(frame if isinstance(frame, bytes) else frame.to_bytes() for frame in frames)
        return self.router.receive(link, [message], self.now)

    def advance(self, seconds: float) -> list[Action]:
        """Time passes, and the timer fires whenever it wants to."""
        end = self.now + seconds
        actions: list[Action] = []
        while (deadline := self.router.next_deadline()) <= end:
            self.now = max(self.now, deadline)
            actions += self.router.handle_timeout(self.now)
        self.now = end
        return actions

    def count(self, reason: str) -> int:
        return self.router.counts().get(reason, 0)


def sent(actions: Iterable[Action], link: LinkHandle | None = None, kind: int | None = None) -> list[Frame]:
    """The frames that leave, over one link or any, of one kind or any."""
    found: list[Frame] = []
    for action in actions:
        if isinstance(action, Transmit) and (link is None or action.link is link):
            frames = parse_frames_untrusted(b"".join(action.pieces))
            assert action.frames == len(frames)
            assert action.size == sum(map(len, action.pieces))
            found += [frame for frame in frames if kind is None or frame.kind == kind]
    return found


def of(actions: Iterable[Action], wanted: type[A]) -> list[A]:
    """The actions of one class."""
    return [action for action in actions if isinstance(action, wanted)]


def first_deadline(router: Router) -> float:
    """When the first part of a router has something to do: every part is asked."""
    parts = router._parts
    timed: list[Any] = [parts.links, parts.endpoint, parts.discovery, parts.membership, parts.reachability]
    timed += [parts.negotiations, parts.connecting, parts.rendezvous, parts.sessions]
    return min(float(part.next_deadline()) for part in timed if part is not None)


def by_distance(numbers: Iterable[int], target: bytes) -> list[int]:
    """Peers, the closest to the target first."""
    own = int.from_bytes(target, "big")
    return sorted(numbers, key=lambda number: int.from_bytes(node_id(number), "big") ^ own)
