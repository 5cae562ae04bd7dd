"""A lasting pipe as its application sees it: what waits, what is refused, how it is closed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.transports.fake_channel import Behaviour
from trio_relay.exceptions import NegotiationFailed, PeerError
from trio_relay.peerjs.fallback.carrier import Carrier
from trio_relay.peerjs.fallback.frames import Ack, Fragment, Hello, Reset, encode_frame
from trio_relay.peerjs.fallback.lasting import LastingPipe
from trio_relay.peerjs.fallback.rounds import Timing
from trio_relay.peerjs.fallback.rules import SessionRules
from trio_relay.peerjs.pipe import Transport
from trio_relay.transports.webrtc import DataChannel

from .fake_carriers import NEVER, Kind, Link, opened, take

RULES = SessionRules()
BLOCKED = Link(opens=(NEVER, NEVER))


def good(_kind: Kind, _round: int) -> Link:
    return Link()


def slow(_kind: Kind, _round: int) -> Link:
    return Link(behaviours=(Behaviour(rate=100_000),) * 2)


def first_only(kind: Kind, round_: int) -> Link | None:
    return Link() if (kind, round_) == ("webrtc", 0) else None


def no_channel(_round: int) -> AbstractAsyncContextManager[DataChannel]:
    raise NegotiationFailed("no way")


class HalfGone:
    """A carrier that takes one message; what comes over it comes later."""

    transport: Final[Transport] = "relay"
    max_message = 65536
    buffered_amount = 0

    def __init__(self, *messages: bytes) -> None:
        self._messages: Final = list(messages)
        self._sent = 0

    async def receive(self) -> list[bytes]:
        await trio.sleep(0.1)
        return [self._messages.pop(0)] if self._messages else []

    async def send(self, message: bytes) -> None:
        self._sent += 1
        if self._sent > 1:
            raise trio.BrokenResourceError("the other side does not read any more")

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_what_is_sent_before_there_is_a_carrier_waits(autojump_clock: MockClock) -> None:
    async with opened(good, wait=False) as pair:
        one, other = pair.pipes
        await one.send("early")
        assert one.buffered_amount == 5
        assert await take(other, 1) == ["early"]
        assert one.buffered_amount == 0


async def test_a_receiver_that_does_not_read_stops_the_sender(autojump_clock: MockClock) -> None:
    async with opened(good) as pair:
        one, other = pair.pipes
        sent = 0
        with trio.move_on_after(57):  # not when a sign of life is due
            while True:
                await one.send(bytes(16_000))
                sent += 1
        assert RULES.window < sent * 16_064 < RULES.window + RULES.send_buffer + 20_000
        assert 0 < one.buffered_amount < RULES.send_buffer + 20_000
        with trio.fail_after(1):
            assert len(await take(other, sent)) == sent
            await one.send(b"more")
        assert await take(other, 1) == [b"more"]


async def test_the_size_of_a_message_is_bounded(autojump_clock: MockClock) -> None:
    async with opened(good) as pair:
        one, other = pair.pipes
        assert one.max_message == 1024 * 1024
        await one.send(bytes(one.max_message))
        assert await take(other, 1) == [bytes(one.max_message)]
        with pytest.raises(ValueError, match="at most 1048576 bytes"):
            await one.send(bytes(one.max_message + 1))
        await one.send("é" * (one.max_message // 2))
        with pytest.raises(ValueError, match="at most 1048576 bytes"):
            await one.send("é" * (one.max_message // 2) + "x")


async def test_drain_waits_until_the_network_has_everything(autojump_clock: MockClock) -> None:
    async with opened(slow) as pair:
        one, other = pair.pipes
        await one.send(bytes(1_000_000))
        before = trio.current_time()
        await one.drain()
        assert 9 < trio.current_time() - before < 11
        assert one.buffered_amount == 0
        await other.drain()


async def test_drain_waits_for_what_is_being_given_to_the_network(autojump_clock: MockClock) -> None:
    class Slow(HalfGone):
        async def send(self, message: bytes) -> None:
            await trio.sleep(3)

        async def receive(self) -> list[bytes]:
            return await super().receive() if self._messages else await trio.sleep_forever()

    @asynccontextmanager
    async def open_relay(_round: int) -> AsyncIterator[Carrier]:
        yield Slow(encode_frame(Hello(0, 0, 10**6)))

    pipe = LastingPipe("originator", no_channel, open_relay, counts=Counter())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pipe.run)
        await pipe.send("slowly")
        await pipe.drain()
        assert trio.current_time() == pytest.approx(6)  # our greeting, then this
        nursery.cancel_scope.cancel()


async def test_drain_fails_with_the_connection(autojump_clock: MockClock) -> None:
    async with opened(first_only, Timing(give_up=5)) as pair:
        one = pair.pipes[0]
        pair.cut("webrtc", 0)
        await one.send("never")
        with pytest.raises(trio.BrokenResourceError, match="no connection for 5 s"):
            await one.drain()


async def test_one_task_sends_and_one_receives(autojump_clock: MockClock) -> None:
    async with opened(good) as pair, trio.open_nursery() as nursery:
        one = pair.pipes[0]
        nursery.start_soon(one.receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="receiving"):
            await one.receive()
        nursery.cancel_scope.cancel()


# Closing


async def test_closing_waits_until_the_other_side_has_everything(autojump_clock: MockClock) -> None:
    async with opened(slow) as pair:
        one, other = pair.pipes
        for number in range(40):
            await one.send(bytes([number]) * 10_000)
        await one.aclose()
        assert trio.current_time() > 4
        assert await take(other, 40) == [bytes([number]) * 10_000 for number in range(40)]
        assert await other.receive() == []
        assert await other.receive() == []
        with pytest.raises(trio.BrokenResourceError, match="the other side closed the connection"):
            await other.send("too late")
        before = trio.current_time()
        await other.aclose()
        assert trio.current_time() - before < 0.5
        assert not pair.errors
        assert len(pair.tried[0]) == 1
        assert not pair.counts["lasting_broken"]


@pytest.mark.parametrize("side", [0, 1])
async def test_the_task_ends_when_the_other_side_has_closed(side: int, autojump_clock: MockClock) -> None:
    async with opened(good) as pair:
        await pair.pipes[side].aclose()
        await trio.sleep(0.1)
        assert set(pair.ended) == {0, 1}
        assert not pair.errors


async def test_both_may_close_at_once(autojump_clock: MockClock) -> None:
    async with opened(good) as pair:
        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            for pipe in pair.pipes:
                await pipe.send("last")
                nursery.start_soon(pipe.aclose)
        assert trio.current_time() - before < 0.5
        for pipe in pair.pipes:
            await pipe.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await pipe.send("x")
            with pytest.raises(trio.ClosedResourceError):
                await pipe.drain()
        await trio.sleep(1)
        assert set(pair.ended) == {0, 1}
        assert not pair.errors


async def test_closing_wakes_the_tasks_that_wait(autojump_clock: MockClock) -> None:
    async with opened(good) as pair:
        closed: list[str] = []

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pair.pipes[0].receive()
            closed.append("receive")

        async def send() -> None:
            try:
                while True:
                    await pair.pipes[0].send(bytes(100_000))
            except trio.ClosedResourceError:
                closed.append("send")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(send)
            await trio.sleep(1)
            nursery.start_soon(pair.pipes[0].aclose)
        assert sorted(closed) == ["receive", "send"]


async def test_closing_does_not_wait_for_ever_for_who_does_not_read(autojump_clock: MockClock) -> None:
    async with opened(good) as pair:
        one, other = pair.pipes
        with trio.move_on_after(1):
            while True:
                await one.send(bytes(100_000))
        before = trio.current_time()
        await one.aclose()
        assert trio.current_time() - before < 6.5
        await trio.sleep(1)
        assert str(pair.errors[1]) == "the other side gave the connection up"
        assert pair.errors[1].type == "connection-closed"
        assert await other.receive()
        with pytest.raises(trio.BrokenResourceError, match="gave the connection up"):
            await other.receive()


async def test_closing_between_two_carriers_is_bounded(autojump_clock: MockClock) -> None:
    async with opened(first_only) as pair:
        pair.cut("webrtc", 0)
        before = trio.current_time()
        await pair.pipes[0].aclose()
        assert trio.current_time() - before == pytest.approx(6)


async def test_what_waits_when_closing_still_goes_over_the_next_carrier(autojump_clock: MockClock) -> None:
    async with opened(good) as pair:
        await pair.pipes[0].send("last")
        pair.cut("webrtc", 0)
        await pair.pipes[0].aclose()
        assert await take(pair.pipes[1], 1) == ["last"]
        assert await pair.pipes[1].receive() == []


async def test_closing_before_there_is_a_task_takes_no_time(autojump_clock: MockClock) -> None:
    async with opened(good, wait=False) as pair:
        await pair.pipes[0].aclose()
        assert trio.current_time() == pytest.approx(pair.ended.get(0, trio.current_time()))
        with pytest.raises(trio.ClosedResourceError):
            await pair.pipes[0].wait_open()


# The other side is not to be trusted


@pytest.mark.parametrize("message", [b"\xff", "text", encode_frame(Hello(0, 0, 10**9)), encode_frame(Ack(7, 10**9))])
async def test_a_side_that_breaks_the_rules_is_told_apart(message: bytes | str, autojump_clock: MockClock) -> None:
    async with opened(first_only, Timing(give_up=5)) as pair:
        await pair.channels["webrtc", 0][0].send(message)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await pair.pipes[1].receive()
        await trio.sleep(1)
        if isinstance(message, bytes):
            assert "broke the protocol" in str(caught.value)
            assert pair.counts["lasting_violations"] == 1
            assert pair.errors[1].type == "connection-closed"


async def test_what_came_before_the_end_counts_although_nothing_can_be_sent(autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def open_relay(_round: int) -> AsyncIterator[Carrier]:
        hello = encode_frame(Hello(0, 0, 10**6))
        yield HalfGone(hello, encode_frame(Fragment(0, 0, b"last words")), encode_frame(Reset()))

    pipe = LastingPipe("originator", no_channel, open_relay, counts=Counter())
    await pipe.send("never arrives")
    with pytest.raises(PeerError, match="the other side gave the connection up"):
        await pipe.run()
    assert await pipe.receive() == [b"last words"]


async def test_a_channel_that_takes_only_short_messages_is_not_used(autojump_clock: MockClock) -> None:
    def script(kind: Kind, _round: int) -> Link:
        short = Behaviour(max_message=16_384)
        return Link(behaviours=(short, short)) if kind == "webrtc" else Link()

    async with opened(script) as pair:
        assert pair.pipes[0].transport == "relay"


async def test_it_shows_its_state(autojump_clock: MockClock) -> None:
    async with opened(first_only) as pair:
        pipe = pair.pipes[0]
        assert repr(pipe) == "<LastingPipe over webrtc, round 0, open>"
        pair.cut("webrtc", 0)
        await trio.sleep(0.1)
        assert repr(pipe) == "<LastingPipe over webrtc, round 0, between carriers>"
        await pipe.aclose()
        await trio.sleep(0.1)
        assert repr(pipe) == "<LastingPipe over webrtc, round 0, over>"
