"""`DataChannelConnection`, and the checks of descriptions, over real connections."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.transports.aio.support import CONFIG, connected, two_connections
from trio_relay.limits import Limits
from trio_relay.testing.checking import take
from trio_relay.transports.aio import open_factory
from trio_relay.transports.data_channel import DataChannelConnection
from trio_relay.wire.chunks import FIRST_CREDIT
from trio_relay.wire.description import Candidate, binding, check_description_untrusted, parse_candidate_untrusted
from trio_relay.wire.frame import MAX_MESSAGE

LIMITS = Limits(close_timeout=5.0)


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[DataChannelConnection, DataChannelConnection]]:
    async with connected() as pair:
        yield (
            DataChannelConnection(pair.from_left, pair.left.selected_pair(), LIMITS, CONFIG),
            DataChannelConnection(pair.from_right, pair.right.selected_pair(), LIMITS, CONFIG),
        )


async def test_both_ends_send_more_than_their_first_credit_and_close() -> None:
    messages = [bytes([number]) * size for number, size in enumerate([0, 1, 65535, MAX_MESSAGE] * 2)]
    assert sum(map(len, messages)) > FIRST_CREDIT
    async with linked() as ends:
        assert ends[0].remote == ends[1].local != "webrtc:0"

        async def send(connection: DataChannelConnection) -> None:
            for message in messages:
                await connection.send([message])

        async def read(connection: DataChannelConnection) -> None:
            assert await take(connection, len(messages)) == messages

        async with trio.open_nursery() as nursery:
            for end in ends:
                nursery.start_soon(send, end)
                nursery.start_soon(read, end)
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends[0].aclose)
            assert await ends[1].receive() == []
        assert trio.current_time() - started < LIMITS.close_timeout
        with pytest.raises(trio.BrokenResourceError, match="the peer closed"):
            await ends[1].send([b"late"])
        ends[1].abort()


async def test_who_answers_a_goodbye_sees_the_other_end_its_connection() -> None:
    async with open_factory(close_timeout=1) as factory, factory(CONFIG) as left:
        async with factory(CONFIG) as right:
            await left.accept_answer(await right.create_answer(await left.create_offer("name")))
            first = DataChannelConnection(await right.channel(), None, LIMITS, CONFIG)
            second = DataChannelConnection(await left.channel(), None, LIMITS, CONFIG)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first.aclose)
                assert await second.receive() == []
        started = trio.current_time()
        await second.aclose()
        assert trio.current_time() - started < LIMITS.close_timeout / 2


async def test_descriptions_of_aiortc_are_good() -> None:
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, right):
        offer = await left.create_offer("name")
        answer = await right.create_answer(offer)
        check_description_untrusted(offer)
        check_description_untrusted(answer)
        assert "sha-512" in offer
        assert binding(offer, answer) != binding(answer, offer)
        candidates = re.findall(r"a=(candidate:.*)\r\n", offer)
        assert candidates
        for candidate in candidates:
            assert parse_candidate_untrusted({"candidate": candidate}) == Candidate(candidate, None, None)
