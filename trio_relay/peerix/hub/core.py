"""The state of one hub that both doors share: topics, clients, limits, counts."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final, Protocol

import trio

from ...serving.rates import ByteRates, ConnectionCounter
from .access import Access
from .config import REQUEST_COST, HubConfig
from .grants import Authority, Grant
from .outlet import OutletRules
from .statistics import HubStatistics
from .topics import EVERY, Full, TopicBounds, Topics
from .updates import Update

__all__ = ["FIXED", "Client", "HubCore", "NoRoom"]

_log: Final = logging.getLogger("trio_relay.peerix.hub")

FIXED: Final = frozenset(
    {"listen", "tls", "mercure_path", "socketio_path", "prefixes", "trusted_proxies", "max_packet", "limits"}
)
"""The options that a hub keeps while it runs."""

_CROWDS: Final = 65536
"""IP addresses whose publishing is remembered."""


class Client(Protocol):
    """Somebody who listens; equal to itself alone."""

    @property
    def waiting(self) -> int:
        """Bytes that wait for it."""

    def deliver(self, update: Update, topic: str) -> None:
        """Takes what was said under a topic that it listens to; never waits."""

    def end(self) -> None:
        """Lets it go: what waits for it is still written."""


class NoRoom(Exception):
    """There are too many clients; `crowded`: of this IP address."""

    def __init__(self, crowded: bool) -> None:
        super().__init__("too many clients of this address" if crowded else "too many clients")
        self.crowded: Final = crowded


class HubCore:
    """Everything but HTTP.

    Attributes:
        config: the options that it goes by now.
        access: who asks.
        authority: what they may do.
        topics: who listens to what.
        outlets: bounds on what waits for slow clients.
        counts: refusals, drops and failures by name.
        draining: whether nobody is let in any more.
    """

    def __init__(self, config: HubConfig) -> None:
        self.config = config
        self.start_time: Final = time.time()
        self._began: Final = trio.current_time()
        self.counts: Final[Counter[str]] = Counter()
        self.access = Access(config.origins, config.trusted_proxies)
        self.authority = Authority(config)
        self.topics: Final[Topics[Client]] = Topics(_bounds(config))
        self.outlets: Final = OutletRules(config.slow_messages, config.slow_bytes, self.counts)
        self.draining = False
        self._crowds: Final = ConnectionCounter(config.max_clients_per_ip)
        self._rates = _rates(config)
        self._clients: Final[dict[Client, None]] = {}
        self._all_gone: trio.Event | None = None
        self._total = self._published = self._delivered = 0

    def configure(self, config: HubConfig) -> None:
        """Goes by other options from now on; see `Hub.configure`."""
        old = self.config
        if (config.access_keys, config.jwt) != (old.access_keys, old.jwt):
            self.authority = Authority(config)
            for client in list(self._clients):
                client.end()
        self.access = Access(config.origins, config.trusted_proxies)
        if (config.bytes_per_second, config.burst_bytes) != (old.bytes_per_second, old.burst_bytes):
            self._rates = _rates(config)
        self.config = config
        bounds, new = self.topics.bounds, _bounds(config)
        bounds.topics, bounds.subscribers, bounds.each = new.topics, new.subscribers, new.each
        self.outlets.messages, self.outlets.bytes = config.slow_messages, config.slow_bytes
        self._crowds.most = config.max_clients_per_ip

    # Clients

    def require_room(self, crowd: str) -> None:
        """Raises `NoRoom` if nobody more can be taken in, or nobody of this IP address."""
        if self.draining or len(self._clients) >= self.config.max_clients:
            self.counts["refused_full"] += 1
            raise NoRoom(crowded=False)
        if not self._crowds.take(crowd):
            self.counts["refused_connections_per_ip"] += 1
            raise NoRoom(crowded=True)
        self._crowds.release(crowd)

    def enter(self, client: Client, crowd: str) -> None:
        """Takes a client in, until `leave`; raises `NoRoom`."""
        self.require_room(crowd)
        self._crowds.take(crowd)
        self._clients[client] = None
        self._total += 1

    def leave(self, client: Client, crowd: str) -> None:
        """The client is gone; nothing if it was not there."""
        self.topics.leave(client)
        if client in self._clients:
            del self._clients[client]
            self._crowds.release(crowd)
            if self._all_gone is not None and not self._clients:
                self._all_gone.set()

    def subscribe(self, client: Client, topics: Sequence[str], grant: Grant) -> str | None:
        """Lets a client listen to topics; returns why it can not, in words, or None."""
        if (forbidden := self.forbids(topics, grant)) is not None:
            return forbidden
        full = self.topics.subscribe(client, topics)
        return None if full is None else self.refuse_full(full)

    def forbids(self, topics: Sequence[str], grant: Grant) -> str | None:
        """Why topics may not be listened to, in words, or None."""
        wildcard = EVERY in topics and (self.authority.open or not self.config.allow_wildcard)
        if wildcard or not grant.may_subscribe(topics):
            self.counts["refused_subscribe"] += 1
            return "not allowed to subscribe to this topic"
        return None

    def refuse_full(self, full: Full) -> str:
        """Counts a subscription that there is no room for; says so in words."""
        match full:
            case Full.TOPICS:
                self.counts["topics_full"] += 1
                return "too many topics"
            case Full.SUBSCRIBERS:
                self.counts["subscribers_full"] += 1
                return "too many subscribers of this topic"
            case Full.EACH:
                self.counts["subscriptions_full"] += 1
                return f"too many topics of one client: at most {self.config.max_subscriptions}"

    # Publishing

    def pays(self, crowd: str, size: int) -> bool:
        """Whether a client may publish so many bytes now; counted if not."""
        if self._rates is None or self._rates.take(crowd, size + REQUEST_COST, trio.current_time()):
            return True
        self.counts["rate_limited"] += 1
        return False

    def publish(self, update: Update, but: Client | None = None) -> int:
        """Gives an update to all who listen to one of its topics; returns how many they are."""
        receivers = self.topics.receivers(update.topics, but)
        for client, topic in receivers.items():
            client.deliver(update, topic)
        self._published += 1
        self._delivered += len(receivers)
        return len(receivers)

    def new_id(self) -> str:
        """For an update that has none."""
        return f"urn:uuid:{uuid.uuid4()}"

    # The end, and what is told

    async def drain(self) -> None:
        """Lets nobody in any more, and all go; what waits for them is written first."""
        self.abort()
        with trio.move_on_after(self.config.drain_timeout):
            while self._clients:
                self._all_gone = trio.Event()
                await self._all_gone.wait()

    def abort(self) -> None:
        """The hub is over: lets all go, without waiting for them."""
        self.draining = True
        for client in list(self._clients):
            client.end()

    def statistics(self, sessions: int) -> HubStatistics:
        """A snapshot; `sessions` are those at the Socket.IO door."""
        return HubStatistics(
            start_time=self.start_time,
            uptime=trio.current_time() - self._began,
            clients=len(self._clients),
            sessions=sessions,
            total_clients=self._total,
            topics=self.topics.topics,
            subscriptions=self.topics.subscriptions,
            published=self._published,
            delivered=self._delivered,
            backlog=sum(client.waiting for client in self._clients),
            counts=MappingProxyType({name: count for name, count in self.counts.items() if count}),
        )


def _bounds(config: HubConfig) -> TopicBounds:
    return TopicBounds(config.max_topics, config.max_subscribers, config.max_subscriptions)


def _rates(config: HubConfig) -> ByteRates | None:
    if config.bytes_per_second is None:
        return None
    return ByteRates(config.bytes_per_second, config.burst_bytes, _CROWDS)
