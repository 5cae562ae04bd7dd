"""Meetings, over real sockets: who gets in, what is carried, how they end, what is bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pytest
import trio

from tests.node.support import until
from tests.transports.support import Served, serving
from trio_relay.limits import Limits
from trio_relay.peerjs.broker.config import BrokerConfig, RelayedConfig
from trio_relay.peerjs.broker.relayed import MAX_RELAYED, Meetings
from trio_relay.transports.dial import dial_websocket
from trio_relay.transports.routes import Route
from trio_relay.transports.websocket import WebSocketConnection

LIMITS: Final = Limits(close_timeout=0.5)
NAME: Final = "0123456789abcdef" * 2
TOKENS: Final = {"alice": "a", "bob": "b", "carol": "c", "älice &": "ä"}
PATIENCE: Final = 5.0


@dataclass
class Room:
    """A server that has nothing but meetings."""

    served: Served
    meetings: Meetings
    counts: Counter[str]
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def come(self, query: str) -> WebSocketConnection:
        url = f"{self.served.url}/peerjs/relay?{query}"
        with trio.fail_after(PATIENCE):
            connection = await dial_websocket(url, limits=LIMITS, subprotocol=False)
        self._stack.callback(connection.abort)
        return connection

    async def enter(self, id_: str, peer: str, name: str = NAME) -> WebSocketConnection:
        return await self.come(f"key=peerjs&id={id_}&token={TOKENS[id_]}&peer={peer}&meeting={name}")

    async def pair(self, name: str = NAME) -> tuple[WebSocketConnection, WebSocketConnection]:
        begun = self.counts["meetings_begun"]
        ends = await self.enter("alice", "bob", name), await self.enter("bob", "alice", name)
        await until(lambda: self.counts["meetings_begun"] > begun)
        return ends


@asynccontextmanager
async def opened(options: dict[str, object] | None = None, **relayed: object) -> AsyncIterator[Room]:
    counts: Counter[str] = Counter()
    rules: dict[str, Any] = {"limits": LIMITS, **(options or {})}
    config = BrokerConfig(relayed=RelayedConfig(**relayed), **rules)  # type: ignore[arg-type]
    meetings = Meetings(config, lambda id_, token: TOKENS.get(id_) == token, counts)
    route = Route("/peerjs/relay", upgrade=meetings.accept, max_message=MAX_RELAYED)
    async with serving([route], limits=LIMITS) as served:
        room = Room(served, meetings, counts)
        async with room._stack:
            yield room
        meetings.abort()


async def received(connection: WebSocketConnection, size: int) -> list[bytes]:
    """Messages until they have so many bytes."""
    messages: list[bytes] = []
    with trio.fail_after(PATIENCE):
        while sum(map(len, messages)) < size:
            batch = await connection.receive()
            assert batch, "the end"
            messages += [message for message in batch if isinstance(message, bytes)]
    return messages


async def fill(connection: WebSocketConnection) -> int:
    """Sends until nobody takes anything any more; returns how many bytes were taken whole."""
    sent = 0
    while sent < 100_000_000:
        with trio.move_on_after(0.2) as patience:
            await connection.send([bytes(64 * 1024)])
            sent += 64 * 1024
        if patience.cancelled_caught:
            break
    return sent


async def ending(connection: WebSocketConnection) -> tuple[int | None, str]:
    """How the other side closes it."""
    with trio.fail_after(PATIENCE):
        while await connection.receive():
            pass
    await connection.aclose()
    return connection.close_code, connection.close_reason


async def test_two_meet_and_everything_is_carried_both_ways() -> None:
    async with opened() as room:
        alice = await room.enter("alice", "bob")
        await alice.send([b"before bob came"])
        bob = await room.enter("bob", "alice")
        assert await received(bob, 15) == [b"before bob came"]
        messages = [bytes([n]) * 10_000 for n in range(100)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(alice.send, messages, each=True))
            nursery.start_soon(partial(bob.send, messages, each=True))
            assert await received(alice, 1_000_000) == messages
            assert await received(bob, 1_000_000) == messages
        await alice.send([b""])
        await alice.send([bytes(MAX_RELAYED)])
        assert await received(bob, MAX_RELAYED) == [b"", bytes(MAX_RELAYED)]
        assert room.meetings.meetings == 1
        assert room.counts == {"meetings_begun": 1, "meetings_bytes": 2_000_015 + MAX_RELAYED}


async def test_the_end_of_one_is_the_end_of_the_other_after_what_it_sent() -> None:
    async with opened() as room:
        alice, bob = await room.pair()
        await alice.send([b"last words"])
        await alice.aclose()
        assert await received(bob, 10) == [b"last words"]
        assert await ending(bob) == (1000, "the other peer has left")
        await until(lambda: room.meetings.meetings == 0)
        alice, bob = await room.pair()
        bob.abort()
        assert (await ending(alice))[0] == 1000
        await until(lambda: room.meetings.meetings == 0)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "key=other&id=alice&token=a&peer=bob&meeting=" + NAME,
        "key=peerjs&id=alice&token=a&peer=bob",
        "key=peerjs&id=alice&token=a&peer=bob&meeting=" + NAME.upper(),
        "key=peerjs&id=alice&token=a&peer=bob&meeting=" + NAME + "0",
        "key=peerjs&id=alice&token=a&peer=&meeting=" + NAME,
        "key=peerjs&id=alice&token=a&peer=alice&meeting=" + NAME,
        "key=peerjs&id=alice&token=a&peer=" + "b" * 257 + "&meeting=" + NAME,
        "&".join(f"{n}=" for n in range(17)),
    ],
)
async def test_a_request_of_another_form_is_refused(query: str) -> None:
    async with opened() as room:
        assert await ending(await room.come(query)) == (4400, "expected key, id, token, peer and meeting")
        assert room.counts == {"meetings_refused_request": 1}


async def test_a_stranger_is_refused() -> None:
    async with opened() as room:
        for id_, token in (("alice", "b"), ("dave", "a")):
            client = await room.come(f"key=peerjs&id={id_}&token={token}&peer=bob&meeting={NAME}")
            assert (await ending(client))[0] == 4401
        assert room.counts == {"meetings_refused_stranger": 2}


async def test_ids_are_percent_encoded() -> None:
    async with opened() as room:
        one = await room.come(f"key=peerjs&id=%C3%A4lice+%26&token=%C3%A4&peer=bob&meeting={NAME}")
        other = await room.come(f"key=peerjs&id=bob&token=b&peer=%C3%A4lice%20%26&meeting={NAME}")
        await one.send([b"hello"])
        assert await received(other, 5) == [b"hello"]


async def test_a_meeting_is_of_two_who_name_each_other() -> None:
    async with opened() as room:
        alice, bob = await room.pair()
        third = await room.enter("alice", "bob")
        assert (await ending(third))[0] == 4409
        carol = await room.enter("carol", "bob")
        dave = await room.enter("alice", "carol", NAME[::-1])
        await until(lambda: room.meetings.meetings == 3)
        await carol.send([b"to nobody"])
        await dave.send([b"to nobody"])
        await alice.send([b"to bob"])
        assert await received(bob, 1) == [b"to bob"]
        assert room.counts["meetings_begun"] == 1
        assert room.counts["meetings_refused_taken"] == 1


async def test_who_comes_again_while_waiting_replaces_itself() -> None:
    async with opened() as room:
        old = await room.enter("alice", "bob")
        await old.send([b"old"])
        new = await room.enter("alice", "bob")
        assert (await ending(old))[0] == 4410
        bob = await room.enter("bob", "alice")
        await new.send([b"new"])
        assert await received(bob, 1) == [b"new"]
        assert room.counts["meetings_replaced"] == 1
        assert room.meetings.meetings == 1


async def test_who_waits_in_vain_is_told() -> None:
    async with opened(wait=0.05) as room:
        assert await ending(await room.enter("alice", "bob")) == (4408, "the other peer did not come")
        assert (room.counts, room.meetings.meetings) == ({"meetings_waited": 1}, 0)


async def test_who_leaves_while_waiting_leaves_nothing_behind() -> None:
    async with opened() as room:
        alice = await room.enter("alice", "bob")
        await until(lambda: room.meetings.meetings == 1)
        await alice.aclose()
        await until(lambda: room.meetings.meetings == 0)


async def test_an_idle_meeting_ends() -> None:
    async with opened(idle=0.5) as room:
        alice, bob = await room.pair()
        for _ in range(4):  # one direction is enough
            await trio.sleep(0.15)
            await alice.send([b"x"])
        assert await received(bob, 4) == [b"x"] * 4
        assert room.counts["meetings_idle"] == 0
        for client in (alice, bob):
            assert await ending(client) == (4408, "nothing was sent for too long")
        assert room.counts["meetings_idle"] == 1


async def test_a_client_that_does_not_read_stops_the_other_one() -> None:
    async with opened(queue_bytes=64 * 1024) as room:
        alice, bob = await room.pair()
        sent = await fill(alice)
        assert sent < 50_000_000  # what the sockets of the system hold
        assert room.counts["meetings_bytes"] < sent
        await received(bob, sent)


async def test_who_does_not_read_does_not_stay_for_ever_when_the_other_one_leaves() -> None:
    async with opened(queue_bytes=32_000_000) as room:
        alice, _bob = await room.pair()
        for _ in range(250):  # more than sockets hold
            await alice.send([bytes(64_000)])
        await alice.aclose()
        await until(lambda: room.meetings.meetings == 0)
        await until(lambda: room.meetings.connections == 0)
        assert room.counts["meetings_bytes"] < 16_000_000


async def test_a_full_queue_does_not_hold_a_dead_meeting() -> None:
    async with opened(idle=0.3) as room:
        alice, _bob = await room.pair()
        await fill(alice)
        alice.abort()
        await until(lambda: room.meetings.connections == 0)
        assert room.counts["meetings_idle"] == 1


async def test_a_rate_is_kept() -> None:
    async with opened(bytes_per_second=200_000, queue_bytes=10_000) as room:
        alice, bob = await room.pair()
        start = trio.current_time()
        for _ in range(10):
            await alice.send([bytes(8000)])
        await received(bob, 80_000)
        # The last batch is not waited for, and may be as large as what is read at once.
        assert trio.current_time() - start > 0.04


async def test_what_waits_is_still_sent_when_the_other_one_leaves() -> None:
    async with opened(bytes_per_second=1_000_000) as room:
        alice, bob = await room.pair()
        for _ in range(4):
            await alice.send([bytes(50_000)])
            await trio.sleep(0.01)  # so that it is not one batch
        await alice.aclose()
        assert await received(bob, 200_000) == [bytes(50_000)] * 4
        assert await ending(bob) == (1000, "the other peer has left")


async def test_text_and_messages_that_are_too_long_end_the_meeting() -> None:
    async with opened() as room:
        alice, bob = await room.pair()
        await alice.send([b"text"], text=True)
        assert await ending(alice) == (1003, "expected binary messages")
        assert (await ending(bob))[0] == 1000
        alice, bob = await room.pair()
        await alice.send([bytes(MAX_RELAYED + 1)])
        assert (await ending(alice))[0] == 1009
        assert (await ending(bob))[0] == 1000
        assert room.counts["meetings_not_binary"] == 1
        assert room.counts["meetings_protocol_error"] == 1


async def test_there_are_so_many_meetings_and_so_many_of_one_address() -> None:
    async with opened(meetings=2) as room:
        for name in ("0" * 32, "1" * 32):
            await room.enter("alice", "bob", name)
        await until(lambda: room.meetings.meetings == 2)
        assert (await ending(await room.enter("alice", "bob", "2" * 32)))[0] == 4429
        await room.enter("bob", "alice", "0" * 32)
        await until(lambda: room.counts["meetings_begun"] == 1)
        assert room.counts["meetings_refused_full"] == 1
    async with opened(meetings_per_ip=1) as room:
        first, _ = await room.pair()
        assert (await ending(await room.enter("alice", "carol")))[0] == 4429
        assert room.counts["meetings_refused_ip"] == 1
        await first.aclose()
        await until(lambda: room.meetings.meetings == 0)
        await room.pair()


async def test_abort_closes_all() -> None:
    async with opened() as room:
        alice, bob = await room.pair()
        waiting = await room.enter("alice", "carol")
        await until(lambda: room.meetings.meetings == 2)
        room.meetings.abort()
        for client in (alice, bob, waiting):
            with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
                assert await client.receive() == []
            assert client.close_code in (None, 1006)
        await until(lambda: room.meetings.meetings == 0)


def test_there_are_none_without_a_configuration() -> None:
    with pytest.raises(ValueError, match=r"expected BrokerConfig\.relayed"):
        Meetings(BrokerConfig(relayed=None), lambda _id, _token: True, Counter())
