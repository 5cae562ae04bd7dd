"""A member that sends whatever it likes: nothing breaks, nothing grows, nobody else notices."""

from __future__ import annotations

import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.peerix.transfers.support import open_room, packets
from trio_relay.peerix.packets.transfer import (
    PayloadType,
    encode_ack,
    encode_piece,
    encode_receiver_abort,
    encode_sender_abort,
)
from trio_relay.peerix.transfers.limits import TransferLimits

IDS = st.integers(1, 3)
TYPES = st.sampled_from([None, *PayloadType])
PIECES = st.builds(
    lambda id, index, chunk, done, type, info: encode_piece(id, index, chunk, done=done, type=type, info=info),
    IDS,
    st.integers(0, 2),
    st.binary(max_size=20),
    st.booleans(),
    TYPES,
    st.none() | st.binary(max_size=5),
)
ANSWERS = st.builds(
    lambda encode, id: encode(id), st.sampled_from([encode_ack, encode_receiver_abort, encode_sender_abort]), IDS
)
LIMITS = TransferLimits(incoming=2, message_bytes=2000, member_messages=5, member_bytes=5000, stall_timeout=1.0)


@settings(max_examples=25)
@given(st.lists(PIECES | ANSWERS | st.binary(max_size=30) | st.text(max_size=5), max_size=30))
async def test_whatever_comes(messages: list[bytes | str]) -> None:
    async with open_room("a", "b", mute=("a",), limits=LIMITS) as room:
        for text in "xyz":
            room.send(text, "a")
        for message in messages:
            await room.channels["a"].send(message)
            while len(room.me.inbox) > 3:
                await room.me.inbox.receive()
            await trio.testing.wait_all_tasks_blocked()
        link = room.me.links["a"]
        assert len(link._messages) == len(link._keys) == len(link._assembly) <= LIMITS.incoming
        assert room.me.inbox.bytes <= LIMITS.member_bytes + 1000
        for one in room.me.messages:
            one.cancel()
        assert (room.me.inbox.bytes, link._messages) == (0, {})
        await room.send("still", "b")
        assert await (await room.members["b"].inbox.receive()).read() == "still"


async def test_pieces_of_one_byte_cost_what_they_cost() -> None:
    limits = TransferLimits(message_bytes=6500)
    async with open_room("a", mute=("a",), limits=limits) as room:
        channel = room.channels["a"]
        await channel.send(encode_piece(1, 0, b"x", done=False, type=PayloadType.TEXT))
        for index in range(1, 300):
            await channel.send(encode_piece(1, index, b"x", done=False))
        await trio.testing.wait_all_tasks_blocked()
        assert room.me.messages[0].received < 110
        assert room.me.inbox.bytes <= 6600
        room.me.messages[0].cancel()
        assert len(await packets(channel, 1)) == 1
