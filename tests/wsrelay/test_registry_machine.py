"""Registry and announcements under everything that can happen, in any order, against a naive model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_relay.wsrelay.peer import LivePeer
from trio_relay.wsrelay.presence import Announcement, Announcements
from trio_relay.wsrelay.registry import ChannelStatistics, PeerRegistry, Registry

from .fakes import FakeConnection, make_peer, make_rules, never_started

ADDRESSES = ["pwa:a", "pwa:b", "pwa:c", "ext:b:c"]
MOST_WATCHES = 2

addresses = st.sampled_from(ADDRESSES)
numbers = st.integers(0, 20)


@dataclass
class Watched:
    """What a watcher was told of one address: the number of each announcement, and the state."""

    told: list[tuple[int, bool]] = field(default_factory=list)


class RegistryMachine(RuleBasedStateMachine):
    """The machine does what `Watching` does when it never tells anybody at once."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.registry = Registry()
        self.view = PeerRegistry(self.registry)
        self.announcements = Announcements(self.counts)
        self.telling: tuple[Announcement, list[LivePeer]] | None = None
        # The model
        self.there: dict[str, LivePeer] = {}
        self.gone: list[LivePeer] = []
        self.watches: dict[LivePeer, dict[str, Watched]] = {}
        self.replaced_at: dict[str, list[int]] = {address: [] for address in ADDRESSES}
        self.merged_at: dict[str, list[int]] = {address: [] for address in ADDRESSES}
        self.peaks: Counter[str] = Counter()
        self.total = 0

    def announce(self, address: str, online: bool) -> None:
        announcement = self.announcements.make(address, online)
        if self.registry.watchers(address):
            merged = self.counts["presence_merged"]
            self.announcements.add(announcement)
            if self.counts["presence_merged"] > merged:
                self.merged_at[address].append(announcement.number)

    def leave(self, peer: LivePeer) -> bool:
        self.watches.pop(peer, None)
        self.gone.append(peer)
        if self.there.get(peer.address) is peer:
            del self.there[peer.address]
        return self.registry.remove(peer)

    def a_peer(self, number: int) -> LivePeer:
        return list(self.there.values())[number % len(self.there)]

    # What happens

    @initialize()
    def it_begins(self) -> None:
        """Somebody who watches is there."""
        for address in ("pwa:c", "ext:b:c"):
            self.a_peer_connects(address, True)
        self.it_watches(0, "pwa:a")
        self.it_watches(1, "pwa:a")

    @rule(address=addresses, first=st.booleans())
    def a_peer_connects(self, address: str, first: bool) -> None:
        """In place of the one that has the address: that one leaves before or after, as the caller likes."""
        peer = make_peer(address, FakeConnection(), make_rules(never_started, self.counts))
        old = self.there.get(address)
        if old is not None and first:
            assert self.leave(old)
        expected = self.there.get(address)
        assert self.registry.add(peer) is expected
        self.there[address] = peer
        if old is not None and not first:
            assert not self.leave(old)
        self.total += 1
        self.announce(address, True)
        if old is not None:
            self.replaced_at[address].append(self.announcements.number)
        channel = peer.channel
        self.peaks[channel] = max(self.peaks[channel], sum(other.channel == channel for other in self.there.values()))

    @precondition(lambda self: self.there)
    @rule(number=numbers)
    def a_peer_disconnects(self, number: int) -> None:
        peer = self.a_peer(number)
        assert self.leave(peer)
        self.announce(peer.address, False)

    @rule(times=st.integers(1, 3))
    def a_peer_flaps(self, times: int) -> None:
        for _ in range(times):
            self.a_peer_connects("pwa:a", True)
            peer = self.there["pwa:a"]
            assert self.leave(peer)
            self.announce("pwa:a", False)

    @precondition(lambda self: self.gone)
    @rule(number=numbers)
    def one_that_was_replaced_ends(self, number: int) -> None:
        assert not self.registry.remove(self.gone[number % len(self.gone)])

    @precondition(lambda self: self.there)
    @rule(number=numbers, address=addresses)
    def it_watches(self, number: int, address: str) -> None:
        peer = self.a_peer(number)
        mine = self.watches.setdefault(peer, {})
        fits = address in mine or len(mine) < MOST_WATCHES
        assert self.registry.watch(peer, address, self.announcements.number, MOST_WATCHES) == fits
        if fits:
            mine[address] = Watched([(self.announcements.number, address in self.registry.peers)])

    @precondition(lambda self: self.there)
    @rule(number=numbers, address=addresses)
    def it_watches_no_more(self, number: int, address: str) -> None:
        peer = self.a_peer(number)
        self.registry.unwatch(peer, address)
        self.watches.get(peer, {}).pop(address, None)

    @precondition(lambda self: self.telling is not None or len(self.announcements) > 0)
    @rule(at_once=st.integers(1, 3))
    def some_watchers_are_told(self, at_once: int) -> None:
        if self.telling is None:
            announcement = self.announcements.take()
            if announcement is None:
                return
            self.telling = announcement, list(self.registry.watchers(announcement.address))
        announcement, watchers = self.telling
        current = self.registry.watchers(announcement.address)
        for watcher in watchers[:at_once]:
            if current.get(watcher, announcement.number) < announcement.number:
                self.watches[watcher][announcement.address].told.append((announcement.number, announcement.online))
        del watchers[:at_once]
        if not watchers:
            self.telling = None

    # What holds

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        assert self.registry.peers == self.there
        assert len(self.view) == len(self.there)
        assert set(self.view) == set(self.there.values())
        for address in ADDRESSES:
            channel, _, peer_id = address.partition(":")
            peer = self.there.get(address)
            assert self.view.get(channel, peer_id) is self.view.get_by_address(address) is peer
            assert self.view.has(channel, peer_id) == (peer is not None)
            watching = {other.address for other, mine in self.watches.items() if address in mine}
            assert self.view.get_watchers(address) == watching
            assert self.view.get_watched(address) == (list(self.watches.get(peer, {})) if peer is not None else [])

    @invariant()
    def nothing_is_left_of_those_who_went(self) -> None:
        assert self.registry.watches == sum(map(len, self.watches.values()))
        assert all(not list(self.registry.watched(peer)) for peer in self.gone)
        # No entry for an address without watchers, none for a peer without watches.
        assert all(self.registry._watchers.values())
        assert set(self.registry._watched) == {peer for peer, mine in self.watches.items() if mine}
        assert len(self.announcements) <= len(ADDRESSES)

    @invariant()
    def statistics_are_right(self) -> None:
        seen = self.view.get_stats()
        assert seen.total_connections == self.total
        active = Counter(peer.channel for peer in self.there.values())
        expected = {channel: ChannelStatistics(active[channel], peak) for channel, peak in self.peaks.items()}
        # A replacement is one peer, not two, whichever of the two goes first.
        assert dict(seen.channels) == expected

    @invariant()
    def what_watchers_are_told_makes_sense(self) -> None:
        for mine in self.watches.values():
            for address, watched in mine.items():
                for number, ((before, old), (after, new)) in enumerate(pairwise(watched.told)):
                    assert before < after, "told of something older than what was known"
                    if old == new:
                        # After the answer, what came about in between may have been merged.
                        reasons = self.merged_at[address] * (number == 0) + self.replaced_at[address] * new
                        assert any(before < reason <= after for reason in reasons)

    def teardown(self) -> None:
        while self.telling is not None or len(self.announcements):
            self.some_watchers_are_told(3)
        self.what_watchers_are_told_makes_sense()
        for mine in self.watches.values():
            for address, watched in mine.items():
                assert watched.told[-1][1] == (address in self.there), (address, watched.told)
        for peer in list(self.there.values()):
            assert self.leave(peer)
        self.it_is_what_the_model_says()
        self.nothing_is_left_of_those_who_went()
        assert not self.registry._watchers
        assert all(channel.active == 0 for channel in self.registry.statistics().channels.values())


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=70, stateful_step_count=30)
