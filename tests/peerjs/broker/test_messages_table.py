"""Section by section of the protocol: registration and forwarding, over real sockets."""

from __future__ import annotations

import json

import pytest
import trio

from .support import Brokering, brokering, heartbeat, message

NOTHING = "No id, token, or key supplied to websocket server"


def error(text: str) -> str:
    return json.dumps({"type": "ERROR", "payload": {"msg": text}}, separators=(",", ":"))


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", NOTHING),
        ("key=peerjs&id=a", NOTHING),
        ("key=peerjs&token=a", NOTHING),
        ("id=a&token=a", NOTHING),
        ("key=peerjs&id=&token=a", NOTHING),
        ("key=wrong&id=&token=a", NOTHING),
        ("key=wrong&id=a&token=a", "Invalid key provided"),
        ("key=peerjs&key=wrong&id=a&token=a", "Invalid key provided"),
        (f"key=peerjs&id={'a' * 257}&token=a", "The id or token is too long"),
    ],
)
async def test_a_client_that_says_too_little_is_told_so_and_closed(query: str, text: str) -> None:
    async with brokering() as running:
        head, client = await running.upgrade(f"/peerjs?{query}")
        assert head.startswith(b"HTTP/1.1 101 ")
        frames, _ = await client.close_frame()
        assert frames == [error(text)]
        assert list(running.broker.clients) == []


async def test_ids_and_tokens_may_be_as_long_as_they_may() -> None:
    async with brokering() as running:
        await running.join("a" * 256, "t" * 256)


async def test_an_id_is_taken_until_its_client_is_gone() -> None:
    async with brokering() as running:
        alice = await running.join("alice", "secret")
        other = await running.connect("alice", "guess")
        assert (await other.close_frame())[0] == ['{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}']
        assert await alice.settle() == []
        assert running.counts("refused_taken") == 1
        await alice.leave()
        await running.join_in_time("alice", "guess")


async def test_the_same_token_takes_the_place_of_the_old_socket() -> None:
    async with brokering() as running:
        old, bob = await running.join("alice", "secret"), await running.join("bob")
        new = await running.join("alice", "secret")
        assert (await old.close_frame())[0] == []
        await bob.send(message("OFFER", "alice", 1))
        assert await new.receive() == {"type": "OFFER", "src": "bob", "dst": "alice", "payload": 1}
        assert list(running.broker.clients) == ["alice", "bob"]


async def test_a_full_broker_refuses_newcomers_and_lets_clients_come_back() -> None:
    async with brokering(concurrent_limit=1) as running:
        await running.join("alice", "secret")
        frames, _ = await (await running.connect("bob")).close_frame()
        assert frames == [error("Server has reached its concurrent user limit")]
        assert (await (await running.connect("alice", "guess")).close_frame())[0][0].startswith('{"type":"ID-TAKEN"')
        await running.join("alice", "secret")


@pytest.mark.parametrize("type", ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"])
async def test_what_is_forwarded_is_built_anew(type: str) -> None:
    async with brokering() as running:
        alice, bob = await running.join("alice"), await running.join("bob")
        await alice.send(f'{{"src":"carol","payload":{{"a":[1.0,"é\\u00e9"]}},"dst":"bob","type":"{type}","more":1}}')
        await alice.send(message(type, "bob"))
        assert await bob.text() == f'{{"type":"{type}","src":"alice","dst":"bob","payload":{{"a":[1.0,"é\\u00e9"]}}}}'
        assert await bob.text() == f'{{"type":"{type}","src":"alice","dst":"bob"}}'
        assert await alice.settle() == []


async def test_ids_are_percent_decoded_and_written_as_json() -> None:
    async with brokering() as running:
        alice = await running.join('a"\\\n é/', quoted="a%22%5c%0a+%C3%A9%2F")
        await alice.send(message("OFFER", alice.id, None))
        assert await alice.text() == '{"type":"OFFER","src":"a\\"\\\\\\n é/","dst":"a\\"\\\\\\n é/"}'


async def test_what_waits_for_a_peer_comes_after_open_and_in_order() -> None:
    async with brokering() as running:
        alice = await running.join("alice")
        await alice.send(message("OFFER", "bob", 1), message("CANDIDATE", "bob", 2), message("EXPIRE", "bob", 3))
        assert await alice.settle() == []
        assert running.broker.statistics().waiting_messages == 2
        bob = await running.join("bob")
        assert [await bob.receive(), await bob.receive()] == [
            {"type": "OFFER", "src": "alice", "dst": "bob", "payload": 1},
            {"type": "CANDIDATE", "src": "alice", "dst": "bob", "payload": 2},
        ]
        assert await bob.settle() == []
        assert running.broker.statistics().waiting_messages == 0


async def test_leave_without_a_receiver_gives_the_id_back() -> None:
    async with brokering() as running:
        alice, bob = await running.join("alice"), await running.join("bob")
        await alice.send(message("LEAVE"), message("OFFER", "bob", "as nobody"))
        await running.join_in_time("alice", "another")
        assert await bob.settle() == []
        assert running.counts("not_registered") == 1
        await alice.leave()
        assert sorted(running.broker.clients) == ["alice", "bob"]


@pytest.mark.parametrize(
    ("frame", "counter"),
    [
        ("nonsense", "malformed"),
        ("null", "malformed"),
        ('"OFFER"', "malformed"),
        ('{"type":"OFFER","dst":"bob","payload":{"a":1,}}', "malformed"),
        ('{"type":"OFFER","dst":"bob","payload":' + "[" * 65 + "]" * 65 + "}", "malformed"),
        ('{"type":"OFFER","dst":["bob"]}', "malformed"),
        ("[]", "unknown_type"),
        ('{"type":5,"dst":"bob"}', "unknown_type"),
        ('{"type":"OPEN","dst":"bob"}', "unknown_type"),
        ('{"dst":"bob"}', "unknown_type"),
        ('{"type":"OFFER","dst":""}', "no_dst"),
        ('{"type":"OFFER","dst":null}', "no_dst"),
        ('{"type":"EXPIRE"}', "absent_dropped"),
        ('{"type":"LEAVE","dst":"nobody"}', "absent_dropped"),
    ],
)
async def test_other_frames_are_counted_and_change_nothing(frame: str, counter: str) -> None:
    async with brokering() as running:
        alice, bob = await running.join("alice"), await running.join("bob")
        await alice.send(frame)
        assert await alice.settle() == []
        assert await bob.settle() == []
        assert running.counts(counter) == 1


async def test_json_that_only_javascript_reads_quickly_goes_through() -> None:
    async with brokering() as running:
        alice = await running.join("alice")
        await alice.send('{"type":"OFFER","dst":"alice","payload":"\\ud800"}')
        await alice.send('{"type":"OFFER","dst":"\\u0061lice","payload":[1e400,-0,null]}')
        assert [await alice.text() for _ in range(2)] == [
            '{"type":"OFFER","src":"alice","dst":"alice","payload":"\\ud800"}',
            '{"type":"OFFER","src":"alice","dst":"alice","payload":[1e400,-0,null]}',
        ]


async def test_a_disconnected_client_is_announced_to_nobody() -> None:
    async with brokering() as running:
        alice, bob = await running.join("alice"), await running.join("bob")
        await alice.send(message("OFFER", "bob"))
        await bob.receive()
        await alice.leave()
        assert await bob.settle() == []


async def test_our_own_clients_are_told_of_meetings() -> None:
    async with brokering() as running:
        alice = await running.connect("alice", more="&relay=1")
        assert await alice.text() == '{"type":"OPEN","payload":{"relay":true}}'
        await running.join("bob", more="&relay=0")
    async with brokering(relayed=None) as running:
        await running.join("alice", more="&relay=1")


# Time


async def expired(running: Brokering) -> list[str]:
    alice = await running.join("alice")
    await alice.send(message("OFFER", "bob", 1), message("CANDIDATE", "bob", 2), message("OFFER", "carol"))
    assert await alice.settle() == []
    await trio.sleep(6.1)
    return await alice.settle()


async def test_each_sender_is_told_once_that_a_peer_did_not_come(autojump_clock: trio.testing.MockClock) -> None:
    async with brokering(memory=True) as running:
        assert await expired(running) == [
            '{"type":"EXPIRE","src":"bob","dst":"alice"}',
            '{"type":"EXPIRE","src":"carol","dst":"alice"}',
        ]
        bob = await running.join("bob")
        assert await bob.settle() == []
        assert running.broker.statistics().waiting_bytes == 0


async def test_a_client_that_sends_no_heartbeat_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    async with brokering(memory=True, alive_timeout=10) as running:
        alice, bob = await running.join("alice"), await running.join("bob")
        await trio.sleep(6)
        await alice.send(heartbeat())
        await bob.send(message("OFFER", "alice"))  # a sign of life that does not count
        await alice.receive()
        await trio.sleep(5)
        assert (await bob.close_frame())[0] == []
        assert list(running.broker.clients) == ["alice"]
        await (await running.join("carol")).leave()
        await trio.sleep(5.1)
        assert (await alice.close_frame())[0] == []
        await trio.sleep(20)
        assert running.counts("heartbeat_lost") == 2


async def test_a_client_without_an_id_has_a_time_too(autojump_clock: trio.testing.MockClock) -> None:
    async with brokering(memory=True, alive_timeout=5) as running:
        alice = await running.join("alice")
        await alice.send(message("LEAVE"))
        assert (await alice.close_frame())[0] == []
        assert trio.current_time() >= 5
