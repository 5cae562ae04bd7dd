"""Messages: what is forwarded, refused, answered and dropped, on sockets and over streams that are none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.wsrelay import Hooks

from .support import (
    ALICE,
    BINARY,
    BOB,
    Client,
    Relaying,
    client_frame,
    error,
    relaying,
    routed,
    status,
    target_of,
    unwatch,
    watch,
)

INVALID_FROM = error("INVALID_FROM", "From field does not match sender identity")
SPOOFED = error("INVALID_MESSAGE", "A routed message must not have the type error or peer-status")


@pytest.fixture(params=["socket", "memory"])
async def relay(request: pytest.FixtureRequest) -> AsyncIterator[Relaying]:
    async with relaying(memory=request.param == "memory") as relay:
        yield relay


async def check_nothing_arrives(sender: Client, receiver: Client, *frames: object) -> list[Any]:
    """Sends what must not be forwarded; returns what its sender is told."""
    await sender.send(*frames)
    told = await sender.settle()
    assert await receiver.settle() == []
    return told


# Vectors


async def test_a_routed_message_leaves_as_text_with_its_own_bytes(relay: Relaying) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    text = '{"from":"pwa:alice123","to":"pwa:bobbobbob","payload":{"x":1},"extra":true}'
    await alice.send(text)
    assert await bob.frame() == text
    await alice.send(text.encode())
    assert await bob.frame() == text
    assert bob.binary == 0
    assert relay.relay.statistics().messages_relayed == 2


async def test_server_frames_are_spelled_as_the_originals(relay: Relaying) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    await bob.send(watch(ALICE))
    assert await bob.frame() == '{"type":"peer-status","payload":{"address":"pwa:alice123","online":true}}'
    await relay.join(ALICE)
    told = '{"type":"error","payload":{"code":"REPLACED","message":"Replaced by new connection"}}'
    assert await alice.frame() == told
    nowhere = await relay.connect("/nowhere/x")
    told = '{"type":"error","payload":{"code":"INVALID_URL","message":"Invalid connection URL"}}'
    assert await nowhere.frame() == told
    assert (alice.binary, bob.binary, nowhere.binary) == (0, 0, 0)


# Forwarding


async def test_a_message_to_oneself(relay: Relaying) -> None:
    alice = await relay.join(ALICE)
    await alice.send(routed(ALICE, ALICE, "me"))
    assert await alice.receive() == routed(ALICE, ALICE, "me")


async def test_messages_to_several_receivers_keep_their_order(relay: Relaying) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    sent = [routed(ALICE, (BOB, ALICE)[number % 3 == 0], number) for number in range(100)]
    await alice.send(*sent)
    for client, address in ((alice, ALICE), (bob, BOB)):
        expected = [message for message in sent if message["to"] == address]
        assert [await client.receive() for _ in expected] == expected


EXTRA: list[dict[str, Any]] = [
    *[{"type": type} for type in ("chat", "Error", "errors", ["error"], None, 1, {"error": 1}, "watch")],
    {"type": "watch", "address": 1},
    {"type": "unwatch", "address": None},
    {"type": "chat", "address": "pwa:alice123"},
    {"address": "pwa:alice123"},
    {"Type": "error"},
]


async def test_extra_members_pass_through(relay: Relaying) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    sent = [routed(ALICE, BOB, **more) for more in EXTRA]
    await alice.send(*sent)
    assert [await bob.receive() for _ in sent] == sent


def escaped(text: str) -> st.SearchStrategy[str]:
    """Spellings of a string, quotes included."""
    spellings = [st.sampled_from([letter, f"\\u{ord(letter):04x}", f"\\u{ord(letter):04X}"]) for letter in text]
    return st.tuples(*spellings).map(lambda characters: '"' + "".join(characters) + '"')


SPACE = st.text(" \t\r\n", max_size=2)
STRINGS = st.one_of(
    st.text("aé😀 {}[]:,/", max_size=6).map(lambda text: f'"{text}"'),
    st.sampled_from([r'"\""', r'"\\"', r'"\ud800"', r'"\u0000"', r'"\/\b\f"', '"\u2028"', '"\ufeff"', '"\x7f"']),
)
SCALARS = st.one_of(STRINGS, st.sampled_from(["0", "-0", "1e400", "1E-7", "0.10", "9" * 40, "true", "false", "null"]))


def join(items: Sequence[tuple[str, ...]], brackets: str) -> str:
    return brackets[0] + ",".join("".join(item) for item in items) + brackets[1]


def values(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arrays = st.lists(st.tuples(SPACE, inner, SPACE), max_size=4).map(lambda items: join(items, "[]"))
    members = st.tuples(SPACE, STRINGS, SPACE, st.just(":"), SPACE, inner, SPACE)
    return st.one_of(arrays, st.lists(members, max_size=4).map(lambda items: join(items, "{}")))


JSON = st.recursive(SCALARS, values, max_leaves=12)


def member(name: str, value: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.tuples(SPACE, escaped(name), SPACE, st.just(":"), SPACE, value, SPACE)


@st.composite
def messages(draw: st.DrawFn) -> str:
    """Texts of messages from Alice to Bob: of a member that is there twice, the last counts."""
    others = st.one_of(
        member("payload", JSON),
        member("x", JSON),
        member("from", JSON),
        member("to", JSON),
        st.tuples(SPACE, STRINGS, SPACE, st.just(":"), SPACE, JSON, SPACE),
    )
    members = draw(st.lists(others, max_size=4))
    ends = [draw(member("from", escaped(ALICE))), draw(member("to", escaped(BOB)))]
    members += draw(st.permutations([*ends, *draw(st.lists(member("payload", JSON), max_size=1))]))
    return draw(SPACE) + join(members, "{}") + draw(SPACE)


@settings(max_examples=10)
@given(st.lists(messages(), min_size=1, max_size=12), st.booleans())
async def test_payloads_are_forwarded_byte_for_byte(texts: list[str], memory: bool) -> None:
    async with relaying(memory=memory) as relay:
        alice, bob = await relay.join(ALICE), await relay.join(BOB)
        await alice.send(*texts)
        assert [await bob.frame() for _ in texts] == texts


# Refused


async def test_another_sender_is_refused(relay: Relaying) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    senders = [BOB, "pwa:alice12", "PWA:alice123", "", "pwa:alice123 ", "x"]
    frames = [routed(sender, to) for sender in senders for to in (BOB, "pwa:offline1", ALICE)]
    assert await check_nothing_arrives(alice, bob, *frames) == [INVALID_FROM] * len(frames)
    assert await relay.counts("invalid_from") == len(frames)


@pytest.mark.parametrize("type", ["error", "peer-status"])
@pytest.mark.parametrize("to", [BOB, "pwa:offline1"])
async def test_frames_of_the_server_can_not_be_forged(relay: Relaying, type: str, to: str) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    forged = {"type": type, "from": ALICE, "to": to, "payload": {"code": "REPLACED", "address": ALICE, "online": True}}
    assert await check_nothing_arrives(alice, bob, forged) == [SPOOFED]
    first = f"\\u{ord(type[0]):04x}"
    disguised = f'{{"from":"{ALICE}","to":"{to}","type":"chat","t\\u0079pe":"{first}{type[1:]}"}}'
    assert await check_nothing_arrives(alice, bob, disguised) == [SPOOFED]
    assert await relay.counts("spoofed_type") == 2


async def test_a_forged_sender_is_told_first(relay: Relaying) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    assert await check_nothing_arrives(alice, bob, routed(BOB, BOB, type="error")) == [INVALID_FROM]


# Nobody there


async def test_to_nobody_is_silence(relay: Relaying) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    nobody = ["pwa:offline1", "nowhere:alice123", "", "x", "pwa:alice1234", "PWA:alice123", "pwa:", ":alice123"]
    assert await check_nothing_arrives(alice, bob, *[routed(ALICE, to) for to in nobody]) == []
    assert await relay.counts("target_offline") == len(nobody)
    assert relay.relay.statistics().messages_relayed == 0


@pytest.mark.parametrize("query", ["?reports=1", "?reports", "?reports=true", "?x=1&reports=1"])
async def test_to_nobody_is_reported_to_who_asked_for_it(relay: Relaying, query: str) -> None:
    alice, bob = await relay.join(target_of(ALICE) + query), await relay.join(BOB)
    await alice.send(routed(ALICE, "pwa:offline1"), routed(ALICE, BOB, 1), routed(ALICE, "y" * 10_000))
    assert await alice.settle() == [
        error("UNDELIVERED", "The receiver is not connected", to=to, reason="offline")
        for to in ("pwa:offline1", "y" * 512)
    ]
    assert await bob.receive() == routed(ALICE, BOB, 1)


@pytest.mark.parametrize("query", ["?reports=0", "?reports=false", "?report=1", "?reports=no&reports=1"])
async def test_reports_have_to_be_asked_for(relay: Relaying, query: str) -> None:
    alice = await relay.join(target_of(ALICE) + query)
    await alice.send(routed(ALICE, "pwa:offline1"), "no json")
    assert await alice.settle() == []


# Everything else


OTHERS = [{}, [], [1], {"from": ALICE}, {"to": BOB}, {"from": ALICE, "to": 1}, {"from": 1, "to": BOB}]
OTHERS += [{"from": None, "to": None}, {"type": "watch"}, {"type": "watch", "address": 5}, {"type": "unwatch"}]
OTHERS += [{"type": "error", "payload": {}}, {"type": "peer-status"}, {"type": "hello"}, ["from", "to"]]
MALFORMED = ["", " ", "{", "}", "hello", "{'a':1}", '{"a":1,}', "[1,]", "NaN", "\ufeff{}", '{"a":"\t"}', "{}{}", "01"]
SCALAR = ["null", "true", "0", "-1.5e3", '"text"', "1e400", r'"\ud800"']


async def test_what_is_not_for_the_relay_is_dropped_and_counted(relay: Relaying) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    for number, frame in enumerate(OTHERS, 1):
        assert await check_nothing_arrives(alice, bob, frame) == [], frame
        assert await relay.counts("unknown_message") == number, frame


async def test_what_is_not_for_the_relay_goes_to_the_hook() -> None:
    heard: list[Any] = []
    hooks = Hooks(on_message=lambda peer, value, raw, registry: heard.append((peer.address, value, raw, len(registry))))
    async with relaying(hooks=hooks) as relay:
        alice = await relay.join(ALICE)
        await alice.send(*OTHERS, *MALFORMED, *SCALAR, watch(BOB), unwatch(BOB), routed(ALICE, BOB), routed(BOB, ALICE))
        assert await alice.settle() == [status(BOB, False), INVALID_FROM]
        assert [value for _, value, _, _ in heard] == OTHERS
        assert {(who, number) for who, _, _, number in heard} == {(ALICE, 1)}
        assert heard[-1][2] == b'["from","to"]'


async def test_what_is_no_object_is_dropped_and_counted(relay: Relaying) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    reporting = await relay.join("/pwa/reporter?reports=1")
    for number, frame in enumerate([*MALFORMED, *SCALAR], 1):
        assert await check_nothing_arrives(alice, bob, frame) == [], frame
        told = await check_nothing_arrives(reporting, bob, frame.encode())
        assert [each["payload"]["code"] for each in told] == ["INVALID_MESSAGE"], frame
        assert await relay.counts("malformed") == 2 * number, frame


@pytest.mark.parametrize("opening", ["[", '{"a":'])
async def test_depth(relay: Relaying, opening: str) -> None:
    closing = {"[": "]"}.get(opening, "}")
    alice, bob = await relay.join(ALICE), await relay.join(BOB)

    def nested(depth: int) -> str:
        inner = opening * depth + '"[[[{{{"' + closing * depth
        return f'{{"from":"{ALICE}","to":"{BOB}","payload":{inner}}}'

    await alice.send(nested(64), nested(63), nested(10_000))
    assert await alice.settle() == []
    assert await bob.frame() == nested(63)
    assert await bob.settle() == []
    assert await relay.counts("malformed") == 2


async def test_many_messages_of_all_kinds_in_one_read() -> None:
    async with relaying() as relay:
        bob = await relay.join(BOB)
        alice = await relay.raw(target_of(ALICE))
        binary = client_frame(b'{"from":"pwa:alice123","to":"pwa:bobbobbob","payload":3}', BINARY)
        batch = [routed(ALICE, BOB, 1), "no json", routed(BOB, BOB), watch(BOB), routed(ALICE, BOB, 2), [], binary]
        await alice.send(*batch, routed(ALICE, ALICE, 4), routed(ALICE, "pwa:offline1"), unwatch(BOB))
        assert [await bob.receive() for _ in range(3)] == [routed(ALICE, BOB, number) for number in (1, 2, 3)]
        own = [(await alice.frame())[1].decode() for _ in range(3)]
        assert ["INVALID_FROM" in own[0], '"online":true' in own[1], '"payload":4' in own[2]] == [True, True, True]
