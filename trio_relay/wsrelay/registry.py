"""Who is connected, and who watches whom. Pure.

Rules of this file:

1. An address has one peer; only that very peer's end frees it, not the end of one that it replaced.
2. A peer's watches live as long as the peer, not as long as its address: who takes an address over starts without.
3. A watch remembers how many announcements there were when it began: older ones are not for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from .peer import LivePeer

__all__ = ["ChannelStatistics", "PeerRegistry", "Registry", "RegistryStatistics"]


class ChannelStatistics(NamedTuple):
    """Peers of one channel, now and at most."""

    active: int
    peak: int


@dataclass(frozen=True, slots=True)
class RegistryStatistics:
    """What the registry has seen.

    Attributes:
        total_connections: peers registered since the start.
        messages_relayed: messages handed to connected peers.
        channels: those that have had a peer.
    """

    total_connections: int
    messages_relayed: int
    channels: Mapping[str, ChannelStatistics]


class Registry:
    """The peers by address, and their watches.

    Attributes:
        peers: address -> peer.
        messages_relayed: counted by the router.
    """

    def __init__(self) -> None:
        self.peers: Final[dict[str, LivePeer]] = {}
        self.messages_relayed = 0
        self._total = 0
        self._channels: Final[dict[str, ChannelStatistics]] = {}
        self._watchers: Final[dict[str, dict[LivePeer, int]]] = {}
        self._watched: Final[dict[LivePeer, dict[str, None]]] = {}

    def add(self, peer: LivePeer) -> LivePeer | None:
        """Registers a peer; returns the one that had the address."""
        replaced = self.peers.get(peer.address)
        self.peers[peer.address] = peer
        self._total += 1
        active, peak = self._channels.get(peer.channel, (0, 0))
        active += replaced is None
        self._channels[peer.channel] = ChannelStatistics(active, max(active, peak))
        return replaced

    def remove(self, peer: LivePeer) -> bool:
        """Forgets a peer and its watches; returns whether its address is free now."""
        for address in self._watched.pop(peer, ()):
            self._drop_watcher(address, peer)
        if self.peers.get(peer.address) is not peer:
            return False
        del self.peers[peer.address]
        active, peak = self._channels[peer.channel]
        self._channels[peer.channel] = ChannelStatistics(active - 1, peak)
        return True

    def watch(self, watcher: LivePeer, address: str, number: int, most: int) -> bool:
        """Adds a watch, or renews it; False: the watcher has `most` others already.

        Args:
            number: of the newest announcement; only later ones are for this watch.
        """
        mine = self._watched.get(watcher)
        if mine is None:
            mine = self._watched[watcher] = {}
        if address not in mine and len(mine) >= most:
            return False
        mine[address] = None
        self._watchers.setdefault(address, {})[watcher] = number
        return True

    def unwatch(self, watcher: LivePeer, address: str) -> None:
        """Ends a watch; nothing if there is none."""
        mine = self._watched.get(watcher)
        if mine is not None and mine.pop(address, self) is None:
            self._drop_watcher(address, watcher)
            if not mine:
                del self._watched[watcher]

    def _drop_watcher(self, address: str, watcher: LivePeer) -> None:
        watchers = self._watchers[address]
        del watchers[watcher]
        if not watchers:
            del self._watchers[address]

    def watchers(self, address: str) -> Mapping[LivePeer, int]:
        """Who watches an address -> the number of the newest announcement that is not for them."""
        return self._watchers.get(address, _NOBODY)

    def watched(self, watcher: LivePeer) -> Iterator[str]:
        """What a peer watches, oldest watch first."""
        return iter(self._watched.get(watcher, ()))

    @property
    def watches(self) -> int:
        """Watches of all peers."""
        return sum(map(len, self._watched.values()))

    def statistics(self) -> RegistryStatistics:
        """A snapshot."""
        return RegistryStatistics(self._total, self.messages_relayed, MappingProxyType(dict(self._channels)))


_NOBODY: Final[Mapping[LivePeer, int]] = MappingProxyType({})


class PeerRegistry:
    """What hooks may ask about the peers: the read methods of the original's registry."""

    __slots__ = ("_registry",)

    def __init__(self, registry: Registry) -> None:
        self._registry: Final = registry

    def get(self, channel: str, id: str) -> LivePeer | None:
        """The peer of that id on a channel."""
        return self._registry.peers.get(f"{channel}:{id}")

    def get_by_address(self, address: str) -> LivePeer | None:
        """The peer at ``channel:id``."""
        return self._registry.peers.get(address)

    def has(self, channel: str, id: str) -> bool:
        """Whether a peer of that id is connected."""
        return self.get(channel, id) is not None

    def get_watchers(self, watched: str) -> set[str]:
        """The addresses of those who watch an address."""
        return {watcher.address for watcher in self._registry.watchers(watched)}

    def get_watched(self, watcher: str) -> list[str]:
        """What the peer at an address watches."""
        peer = self._registry.peers.get(watcher)
        return [] if peer is None else list(self._registry.watched(peer))

    def get_stats(self) -> RegistryStatistics:
        """Connections since the start, messages relayed, active and peak peers by channel."""
        return self._registry.statistics()

    def __len__(self) -> int:
        return len(self._registry.peers)

    def __iter__(self) -> Iterator[LivePeer]:
        return iter(list(self._registry.peers.values()))
