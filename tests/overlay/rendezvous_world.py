"""A simulated network whose peers subscribe and publish; and messages about topics, for routers on the bench."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from trio_relay.overlay.actions import Action, Published, Subscribed
from trio_relay.testing.simulator import SimulatedPeer, Simulator
from trio_relay.wire.frame import Flag, Frame
from trio_relay.wire.ids import NodeId, distance
from trio_relay.wire.rendezvous import Publication, build_publication, topic_key

from .support import WALL, Bench, BenchLink, key, signature

KEY = topic_key("a topic")
RENDEZVOUS = int(Flag.RENDEZVOUS)
CONFIRM = int(Flag.CONFIRM)
NOW = int(WALL * 1_000_000)


class TopicSimulator(Simulator):
    """A simulator that also tells what came under keys.

    Attributes:
        published: by peer, what came: (key, data, publisher).
        kept: by peer and key, the last `Subscribed`.
    """

    def __init__(self, seed: int = 0, **options: Any) -> None:
        super().__init__(seed, **options)
        self.published: dict[str, list[tuple[NodeId, bytes, NodeId]]] = defaultdict(list)
        self.kept: dict[tuple[str, NodeId], Subscribed] = {}

    def _carry_out(self, peer: SimulatedPeer, actions: Iterable[Action]) -> None:
        actions = list(actions)
        for action in actions:
            match action:
                case Published():
                    self.published[peer.name].append((action.key, action.data, action.publisher))
                case Subscribed():
                    self.kept[peer.name, action.key] = action
        super()._carry_out(peer, actions)

    def subscribe(self, peer: SimulatedPeer, key: NodeId = KEY) -> None:
        self._carry_out(peer, peer.router.subscribe(key, self.now))

    def unsubscribe(self, peer: SimulatedPeer, key: NodeId = KEY) -> None:
        self._carry_out(peer, peer.router.unsubscribe(key, self.now))
        self.kept.pop((peer.name, key), None)

    def publish(self, peer: SimulatedPeer, data: bytes, key: NodeId = KEY, timeout: float = 10.0) -> bytes:
        """Returns the token; see `SimulatedPeer.acknowledged` and `failed`."""
        token, actions = peer.router.publish_under(key, data, timeout, self.now)
        self._carry_out(peer, actions)
        return token

    def closest(self, key: NodeId = KEY) -> list[SimulatedPeer]:
        """Relays that are alive, the closest to the key first."""
        relays = [peer for peer in self.alive if peer.router.relaying]
        return sorted(relays, key=lambda peer: distance(peer.id, key))

    def got(self, peer: SimulatedPeer, key: NodeId = KEY) -> list[bytes]:
        """The data that came under a key."""
        return [data for under, data, _ in self.published[peer.name] if under == key]


def publication(publisher: int, number: int = NOW, data: bytes = b"hello", under: NodeId = KEY) -> Publication:
    """Signed by the peer with that number."""
    own = key(publisher)
    return build_publication(own, lambda signed: signature(own, signed), key=under, number=number, data=data)


def say(
    bench: Bench, link: BenchLink, payload: bytes, message_id: bytes = b"message.", *, confirm: bool = True
) -> Frame:
    return bench.frame(link, payload=payload, message_id=message_id, flags=RENDEZVOUS | CONFIRM * confirm)


def about_topics(frames: list[Frame]) -> list[bytes]:
    return [frame.payload for frame in frames if frame.flags & RENDEZVOUS]
