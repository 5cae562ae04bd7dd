"""A fuzzer on the listening port: whatever comes, the node lives on, its tables stay bounded, others are served.

Runs two hundred connections; with HYPOTHESIS_PROFILE=fuzz, and TRIO_RELAY_FUZZ_CONNECTIONS to set how many, long.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

import trio_relay
from trio_relay.exceptions import RelayError
from trio_relay.identity import Identity, verify
from trio_relay.overlay.handshake import Dialler
from trio_relay.wire.frame import Kind, build_frame
from trio_relay.wire.hello import SUBPROTOCOL
from trio_relay.wire.record import build_record
from trio_relay.wire.websocket import Role, WebSocketCodec

LONG: Final = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
CONNECTIONS: Final = int(os.environ.get("TRIO_RELAY_FUZZ_CONNECTIONS", 20_000 if LONG else 200))
AT_ONCE: Final = 100

HEAD: Final = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


class Attacker:
    """One connection that says random things, the more likely the further they get."""

    def __init__(self, rng: random.Random, node: trio_relay.Node) -> None:
        self.rng = rng
        self.node = node
        self.identity = Identity.from_seed(rng.randbytes(32))
        self.out, self.codec = (
            WebSocketCodec(Role.CLIENT, max_message=1 << 20, max_fragments=64, new_mask=lambda: rng.randbytes(4))
            for _ in range(2)
        )

    def mutate(self, data: bytes) -> bytes:
        """The same, a little damaged, cut or lengthened."""
        damaged = bytearray(data)
        for _ in range(self.rng.randrange(4)):
            if damaged:
                damaged[self.rng.randrange(len(damaged))] = self.rng.randrange(256)
        if self.rng.random() < 0.2:
            del damaged[self.rng.randrange(len(damaged) + 1) :]
        return bytes(damaged) + self.rng.randbytes(self.rng.choice([0, 0, 0, 1, 50]))

    def maybe(self, data: bytes) -> bytes:
        return self.mutate(data) if self.rng.random() < 0.3 else data

    def garbage(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([1, 10, 1000, 70_000]))

    def head(self) -> bytes:
        path = self.rng.choice(["/", "/", "/", "/health", "/metrics", "/x/y", "*", "//", "/%00"])
        more = self.rng.choice(
            [f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n", "", "Content-Length: 5\r\n", "X: \x01\r\n"]
        )
        return HEAD.format(path=path, more=more).encode()

    def websocket(self, payload: bytes) -> bytes:
        text = self.rng.random() < 0.1
        buffers = self.out.send_text([payload]) if text else self.out.send_binary([payload])
        return b"".join(bytes(b) for b in buffers)

    def frame(self) -> bytes:
        rng = self.rng
        others = [self.node.id, self.identity.id, rng.randbytes(20), *self.node.links]
        return self.maybe(
            build_frame(
                rng.choice([*Kind, 0, 10, 63, 99, 255]),
                rng.choice(others),
                rng.choice([self.identity.id, self.identity.id, *others]),
                rng.randbytes(8),
                rng.randbytes(rng.choice([0, 1, 20, 21, 300, 60_000])),
                flags=rng.choice([0, 0, 1, 2, 4, 5, 255]),
                hop_limit=rng.choice([0, 1, 16, 255]),
                attempt=rng.choice([0, 0, 1, 255]),
                detours=rng.choice([0, 2, 255]),
            )
        )

    async def attack(self, stream: trio.abc.Stream) -> None:
        rng = self.rng
        if rng.random() < 0.2:
            await stream.send_all(self.garbage())
            return
        await stream.send_all(self.maybe(self.head()))
        if rng.random() < 0.1:
            return
        with suppress(RelayError):
            await self.shake_hands(stream)
        kinds: list[Callable[[], bytes]] = [
            lambda: self.maybe(self.websocket(self.frame())),
            lambda: self.websocket(b"".join(self.frame() for _ in range(20))),
            lambda: self.maybe(self.websocket(rng.randbytes(200))),
            lambda: self.out.send_ping(rng.randbytes(10)),
            self.garbage,
        ]
        for _ in range(rng.randrange(12)):
            await stream.send_all(rng.choices(kinds, [10, 5, 2, 2, 1])[0]())

    async def shake_hands(self, stream: trio.abc.Stream) -> None:
        """As far as the node goes along; each of our messages may be damaged."""
        dialler = Dialler(
            self.identity.public_key, self.identity.sign, verify, self.rng.randbytes(32), self.record(), "x:1"
        )
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = await stream.receive_some(65536)
            if not chunk:
                return
            received += bytes(chunk)
        messages = self.codec.receive_data(received.split(b"\r\n\r\n", 1)[1])
        while not messages:
            chunk = await stream.receive_some(65536)
            if not chunk:
                return
            messages = self.codec.receive_data(chunk)
        if isinstance(messages[0], bytes):
            await stream.send_all(self.websocket(self.maybe(dialler.receive_hello(bytes(messages[0])))))

    def record(self) -> bytes:
        record = build_record(
            self.identity.public_key,
            self.identity.sign,
            sequence=1,
            expiry=self.rng.choice([0, 2**40, 4_000_000_000]),
            urls=self.rng.choice([[], ["ws://127.0.0.1:1"], ["ws://203.0.113.1:1", "nonsense"]]),
        )
        return self.maybe(record.raw)


async def one(node: trio_relay.Node, seed: int, limiter: trio.CapacityLimiter) -> None:
    host, _, port = node.urls[0].removeprefix("ws://").rpartition(":")
    async with limiter:
        with trio.move_on_after(1):
            stream = await trio.open_tcp_stream(host, int(port))
            async with stream:
                try:
                    await Attacker(random.Random(seed), node).attack(stream)
                    if seed % 3:
                        while await stream.receive_some(65536):
                            pass
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass


async def test_fuzzed_port_serves_others() -> None:
    limiter = trio.CapacityLimiter(AT_ONCE)
    delivered = 0
    async with (
        trio_relay.open_node(
            bootstrap=["ws://127.0.0.1:9"],  # nobody there: asked for again and again
            limits=trio_relay.Limits(handshake_timeout=0.5, http_timeout=0.5),
            legacy=True,
        ) as relay,
        trio_relay.open_node(None, relay.urls) as alice,
        trio_relay.open_node(None, relay.urls) as bob,
    ):
        await alice.wait_linked()
        await bob.wait_linked()
        async with trio.open_nursery() as nursery:
            for seed in range(CONNECTIONS):
                async with limiter:
                    nursery.start_soon(one, relay, seed, limiter)
                if seed % 20 == 0:
                    receipt = await alice.deliver(bob.id, seed, timeout=5)
                    assert receipt.hops == 2
                    assert (await bob.receive()).data == seed
                    delivered += 1
        statistics = relay.statistics()
        assert delivered == (CONNECTIONS + 19) // 20
        assert statistics.counts["handshakes_failed"] > 0
        assert statistics.counts["protocol_errors"] > 0
        assert statistics.sizes["records"] <= trio_relay.Limits().records
        assert {alice.id, bob.id} <= set(relay.links)
