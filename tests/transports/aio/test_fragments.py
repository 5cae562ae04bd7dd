"""Pieces of messages that never become whole end the connection before they cost much."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import trio
from aiortc.rtcsctptransport import DataChunk

from trio_relay.transports.aio import fragments

from .support import Pair, aiortc_of, connected, receive_count

UNORDERED = 4


async def send_pieces(pair: Pair, count: int, *, flags: int, stream: int | None = None) -> None:
    """The left sends pieces of one byte, none of which is the first of a message."""
    sctp: Any = aiortc_of(pair.left).sctp

    async def send() -> None:
        for number in range(count):
            chunk = DataChunk(flags=flags)
            chunk.tsn, sctp._local_tsn = sctp._local_tsn, sctp._local_tsn + 1
            chunk.stream_id = 1 if stream is None else stream + number
            chunk.stream_seq, chunk.protocol, chunk.user_data = 9, 53, b"x"
            await sctp._send_chunk(chunk)
            if number % 20 == 0:
                await asyncio.sleep(0.001)  # so that no socket's buffer overflows

    await pair.left._loop.run(pair.left._owner, send)


@pytest.mark.parametrize(("flags", "bound"), [(UNORDERED, 100), (0, 300)])
async def test_pieces_are_bounded(flags: int, bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "_MIN_FRAGMENTS", 100)
    monkeypatch.setattr(fragments, "_MIN_SIZE", 1 << 20)
    monkeypatch.setattr(fragments, "_ORDERED", 3)
    monkeypatch.setattr(fragments, "_FEW", 10)
    async with connected() as pair:
        await send_pieces(pair, bound, flags=flags)
        await pair.from_left.send("still there")
        if flags == UNORDERED:
            assert await receive_count(pair.from_right, 1) == ["still there"]
        await send_pieces(pair, 2, flags=flags)
        with trio.fail_after(2), pytest.raises(trio.BrokenResourceError, match="OverflowError: too many pieces"):
            await pair.from_right.receive()
        assert pair.counters["webrtc_faults"] == 1


async def test_streams_are_bounded() -> None:
    async with connected() as pair:
        await send_pieces(pair, 64, flags=UNORDERED, stream=100)
        with trio.fail_after(2), pytest.raises(trio.BrokenResourceError, match="OverflowError: more than 64 streams"):
            await pair.from_right.receive()
