"""A random walk over a running relay server: clients of every kind, keys that end, rules that change.

It never raises, and after every step its books agree. Runs a few walks; with HYPOTHESIS_PROFILE=fuzz, and
TRIO_RELAY_FUZZ_WALKS to set how many, long.
"""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from contextlib import suppress
from typing import Any, Final

import pytest
import trio

from tests.wsrelay.raw_client import BINARY, CLOSE, PING, PONG, TEXT, RawClient, client_frame, compact, upgrade_request
from tests.wsrelay.support import Relaying, eventually, make_config, relaying, routed, unwatch, watch
from trio_relay.limits import Limits
from trio_relay.wsrelay import Channel, Hooks, RelayConfig

LONG: Final = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
WALKS: Final = int(os.environ.get("TRIO_RELAY_FUZZ_WALKS", 500 if LONG else 3))
STEPS: Final = 250
IDS: Final = [f"{letter * 8}" for letter in "abc"]
CHANNELS: Final = ["pwa", "deep/er"]
KEYS: Final = ["key-number-1", "key-number-2", "key-number-3"]
QUEUE_BYTES: Final = 128 * 1024


class Keys:
    """A key store in which keys come and go, and which fails now and then."""

    def __init__(self, rng: random.Random) -> None:
        self.rng: Final = rng
        self.good: Final = set(KEYS)

    async def validate(self, key: str) -> bool:
        if self.rng.random() < 0.02:
            raise OSError("the disk is gone")
        if self.rng.random() < 0.3:
            await trio.lowlevel.checkpoint()
        return key in self.good


class Walk:
    """One relay and what is done to it."""

    def __init__(self, running: Relaying, rng: random.Random, keys: Keys, nursery: trio.Nursery) -> None:
        self.running: Final = running
        self.core: Final = running.relay._core
        self.rng: Final = rng
        self.keys: Final = keys
        self.nursery: Final = nursery
        self.clients: Final[list[RawClient]] = []
        self.address_of: Final[dict[RawClient, str]] = {}
        self.done: Final[Counter[str]] = Counter()

    async def step(self) -> None:
        name = self.rng.choices(
            ["connect", "send", "read", "close", "configure", "tell", "key", "wait"], [5, 16, 5, 2, 1, 1, 1, 8]
        )[0]
        self.done[name] += 1
        with trio.move_on_after(0.05), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await getattr(self, name)()

    def some_client(self) -> RawClient | None:
        return self.rng.choice(self.clients) if self.clients else None

    # Clients

    async def connect(self) -> None:
        rng = self.rng
        channel, peer_id = rng.choice(CHANNELS), rng.choice(IDS)
        target = f"/{channel}/{peer_id}"
        target = rng.choice([target] * 16 + ["/nowhere/aaaaaaaa", "/pwa/short", "//", "/pwa/%41aaaaaaa"])
        target += "?key=" + rng.choice([*KEYS, *KEYS, "key-number-9"]) + rng.choice(["", "&reports"])
        head = upgrade_request(target, f"X-Forwarded-For: 203.0.113.{rng.randrange(4)}\r\n")
        if rng.random() < 0.1:
            head = self.mutate(head)
        stream = await self.running._dial()
        client = RawClient(stream)
        self.clients.append(client)
        self.address_of[client] = f"{channel}:{peer_id}"
        await stream.send_all(head + (self.frames(client) if rng.random() < 0.5 else b""))

    async def send(self) -> None:
        client = self.some_client()
        if client is not None:
            await client.stream.send_all(self.frames(client))

    async def read(self) -> None:
        client = self.some_client()
        if client is not None:
            await client.stream.receive_some(self.rng.choice([1, 1000, 100_000]))

    async def close(self) -> None:
        client = self.some_client()
        if client is None:
            return
        how = self.rng.choice(["politely", "at once", "half"])
        if how == "politely":
            await client.stream.send_all(client_frame(self.rng.choice([b"", b"\x03\xe8bye", b"\x03"]), CLOSE))
        elif how == "half" and isinstance(client.stream, trio.abc.HalfCloseableStream):
            await client.stream.send_eof()
        else:
            self.clients.remove(client)
            await trio.aclose_forcefully(client.stream)

    def address(self) -> str:
        live = [peer.address for peer in self.running.relay.registry]
        return self.rng.choice([f"{self.rng.choice(CHANNELS)}:{self.rng.choice(IDS)}", *live])

    def message(self, client: RawClient) -> bytes:
        rng = self.rng
        sender = self.address_of[client] if rng.random() < 0.9 else self.address()
        values: list[Any] = [
            routed(sender, self.address(), "x" * rng.choice([0, 10, 5000, 60_000])),
            routed(sender, self.address(), type=rng.choice(["error", "peer-status", "watch", "x"])),
            watch(self.address()),
            unwatch(self.address()),
            {"hello": [1.5, None, "\ud800"], "from": rng.choice([None, 1, self.address()])},
            [1, 2],
        ]
        text = compact(rng.choices(values, [12, 1, 4, 2, 1, 1])[0]).encode("utf-8", "surrogatepass")
        return self.mutate(text) if rng.random() < 0.05 else text

    def frames(self, client: RawClient) -> bytes:
        rng = self.rng
        data = b""
        for _ in range(rng.choice([1, 1, 3, 30])):
            kind = rng.random()
            if kind < 0.85:
                data += client_frame(self.message(client), rng.choice([TEXT, TEXT, BINARY]))
            elif kind < 0.9:
                data += client_frame(rng.randbytes(5), rng.choice([PING, PONG]))
            elif kind < 0.95:
                data += client_frame(b"[", TEXT, fin=False) + client_frame(b"]", 0)
            else:
                data += client_frame(b"{}")
        return self.mutate(data) if rng.random() < 0.03 else data

    def mutate(self, data: bytes) -> bytes:
        damaged = bytearray(data)
        for _ in range(self.rng.randrange(1, 4)):
            damaged[self.rng.randrange(len(damaged))] = self.rng.randrange(256)
        if self.rng.random() < 0.3:
            del damaged[self.rng.randrange(1, len(damaged) + 1) :]
        return bytes(damaged)

    # The operator and the application

    async def configure(self) -> None:
        self.running.relay.configure(make_random_config(self.rng, self.keys, self.core.config.listen))

    async def tell(self) -> None:
        self.nursery.start_soon(self.running.relay.send, self.address(), "x" * self.rng.choice([1, 30_000]))

    async def key(self) -> None:
        key = self.rng.choice(KEYS)
        (self.keys.good.discard if self.rng.random() < 0.3 else self.keys.good.add)(key)
        await self.running.relay.check_keys()

    async def wait(self) -> None:
        for _ in range(self.rng.choice([1, 5, 20])):
            await trio.lowlevel.checkpoint()

    # What holds

    def check(self) -> None:
        core, registry = self.core, self.core._registry
        live = set(registry.peers.values())
        assert all(peer.outbox.owner is peer for peer in live)
        assert all(address == peer.address and peer.registered for address, peer in registry.peers.items())
        assert set(core.heartbeat._due) <= live
        assert set(registry._watched) <= live
        assert all(set(watchers) <= live and watchers for watchers in registry._watchers.values())
        assert core._present == sum(core.entrance.connections._counts.values())
        assert len(live) <= core._present
        by_key = Counter(peer.key for peer in live)
        assert {key: len(peers) for key, peers in core._by_key.items()} == by_key
        meter = core.entrance.meter.statistics(trio.current_time())
        assert Counter({key: each.connections for key, each in meter.items() if each.connections}) == by_key
        active = Counter(peer.channel for peer in live)
        seen = registry.statistics().channels
        assert all(seen[channel].active == active[channel] <= seen[channel].peak for channel in seen)
        for outbox in [peer.outbox for peer in core._registry.peers.values()]:
            assert outbox.size <= 3 * QUEUE_BYTES
            assert len(outbox._control or ()) < 1024 + 64 * 1024 // 6  # one read of empty frames above

    async def end(self) -> None:
        for client in self.clients:
            await trio.aclose_forcefully(client.stream)
        await eventually(lambda: self.core._present == 0, "all are gone")
        self.check()
        await eventually(lambda: not len(self.core.watching._announcements), "nothing waits")
        statistics = self.running.relay.statistics()
        assert (statistics.connections, statistics.watches, statistics.backlog) == (0, 0, 0)


def make_random_config(rng: random.Random, keys: Keys, listen: Any) -> RelayConfig:
    async def sometimes_slow(*arguments: object) -> None:
        if rng.random() < 0.2:
            await trio.sleep(rng.choice([0, 0.001, 0.01]))
        if rng.random() < 0.05:
            raise ValueError("a fault of the application")

    names = ["verify_peer", "on_peer_connect", "on_peer_disconnect", "on_message", "on_routed_message"]
    hooks: dict[str, Any] = {name: sometimes_slow for name in names if rng.random() < 0.2}
    return make_config(
        channels=[Channel(name=name, on_duplicate=rng.choice(["replace", "replace", "reject"])) for name in CHANNELS],
        key_store=keys,
        listen=listen,
        trusted_proxies=rng.choice([(), ["127.0.0.1"]]),
        heartbeat_interval=rng.choice([0.02, 30.0, 30.0]),
        rate_limit_max_connections=rng.choice([3, 100, 100]),
        rate_limit_max_messages=rng.choice([5, 100_000, 100_000]),
        max_bytes_per_second_per_ip=rng.choice([None, 100_000.0]),
        max_bytes_per_second_per_key=rng.choice([None, 100_000.0]),
        slow_consumer=rng.choice(["pause", "drop-newest", "drop-oldest", "disconnect"]),
        slow_consumer_timeout=rng.choice([0.001, 0.02]),
        queue_bytes=QUEUE_BYTES,
        queue_messages=rng.choice([2, 8192]),
        max_message=64 * 1024,
        max_watches=rng.choice([1, 1024]),
        hooks=Hooks(**hooks),
        hook_timeout=0.005,
        verify_timeout=0.05,
        key_check_interval=None,
        blob_store=False,
        limits=Limits(close_timeout=0.05, http_timeout=0.1),
    )


@pytest.mark.parametrize("memory", [False, True])
async def test_the_books_agree_whatever_happens(memory: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="trio_relay")
    done: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for seed in range(WALKS):
        rng = random.Random(seed)
        keys = Keys(rng)
        config = make_random_config(rng, keys, None if memory else "127.0.0.1:0")
        options = {name: getattr(config, name) for name in config.__slots__ if not (memory and name == "listen")}
        async with relaying(memory=memory, **options) as running, trio.open_nursery() as nursery:
            walk = Walk(running, rng, keys, nursery)
            for _ in range(STEPS):
                await walk.step()
                walk.check()
            await walk.end()
            done.update(walk.done)
            counts.update(running.relay.statistics().counts)
            done["relayed"] += running.relay.statistics().messages_relayed
    assert done["relayed"] > 0
    assert {"protocol_error", "refused_key", "rate_limited_messages", "target_offline"} <= set(counts)
    if LONG:
        assert {"malformed", "hook_failed", "key_revoked", "replaced", "refused_in_use"} <= set(counts)
