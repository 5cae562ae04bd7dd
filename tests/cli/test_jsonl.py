"""``node --jsonl``: every command and its reply, bad lines, and the end, as processes with real sockets."""

from __future__ import annotations

import json

import trio

import trio_relay

from .support import DEADLINE, NOBODY, JsonRunning, open_json


async def test_two_processes_converse() -> None:
    async with (
        open_json() as (a, listening),
        open_json("--listen", "none", "--bootstrap", *listening["urls"]) as (b, b1),
    ):
        a_id, b_id = listening["id"], b1["id"]
        assert listening == {"event": "listening", "id": a_id, "urls": listening["urls"]}
        assert b1 == {"event": "listening", "id": b_id, "urls": []}
        for end, other in ((a, b_id), (b, a_id)):
            up = await end.event(event="link_up")
            assert up.pop("rtt_ms") > 0
            assert up == {"event": "link_up", "id": other, "transport": "websocket"}
        await exchange(a, a_id, b, b_id)
        await disconnect_and_fail(a, a_id, b, b_id)
        await b.process.stdin.aclose()  # type: ignore[union-attr]
        assert await b.wait() == 0
        assert await a.stop() == 0
        assert await a.rest() + await b.rest() == []
        assert await a.errors() + await b.errors() == ""


async def exchange(a: JsonRunning, a_id: str, b: JsonRunning, b_id: str) -> None:
    """Messages of both kinds in both directions, and the counters."""
    assert await a.ask("r1", send={"to": b_id, "data": {"x": [1, None]}}) == {"event": "sent", "ref": "r1"}
    assert await b.event() == {"event": "message", "from": a_id, "proven": True, "data": {"x": [1, None]}}
    delivered = await b.ask({"any": ["JSON"]}, deliver={"to": a_id, "bytes": "AP8="})
    assert delivered.pop("rtt_ms") > 0
    assert delivered == {"event": "delivered", "hops": 1, "ref": {"any": ["JSON"]}}
    assert await a.event() == {"event": "message", "from": b_id, "proven": True, "bytes": "AP8="}
    assert await a.ask(0, connect=b_id) == {"event": "connected", "ref": 0}
    answer = await a.ask(False, statistics=True)
    assert set(answer) == {"event", "statistics", "ref"}
    statistics = answer["statistics"]
    assert statistics["links"] == 1
    assert {type(value) for value in [*statistics["counts"].values(), *statistics["sizes"].values()]} == {int}


async def disconnect_and_fail(a: JsonRunning, a_id: str, b: JsonRunning, b_id: str) -> None:
    """After `disconnect` there is no way between the two."""
    assert await a.ask(1, disconnect=b_id) == {"event": "disconnected", "ref": 1}
    for running, other in ((a, b_id), (b, a_id)):
        down = await running.event(event="link_down")
        assert set(down) == {"event", "id", "reason"}
        assert down["id"] == other
    failed = await a.ask(2, connect=a_id)
    assert failed == {"event": "error", "ref": 2, "error": "ValueError", "message": failed["message"]}
    failed = await a.ask(3, send={"to": b_id, "data": "x" * 70_000})
    assert failed["error"] == "PayloadTooLarge"


async def test_delivery_over_a_relay() -> None:
    async with (
        trio_relay.open_node() as relay,
        trio_relay.open_node(None, relay.urls) as receiver,
        open_json("--listen", "none", "--bootstrap", *relay.urls) as (running, _),
    ):
        with trio.fail_after(DEADLINE):
            await receiver.wait_linked()
        await running.event(event="link_up")
        delivered = await running.ask(1, deliver={"to": receiver.id.hex(), "data": None})
        assert delivered["event"] == "delivered"
        assert delivered["hops"] == 2


async def test_what_a_peer_sends_does_not_stop_the_output() -> None:
    async with open_json() as (running, listening), trio_relay.open_node(None, listening["urls"]) as peer:
        to = trio_relay.parse_node_id(listening["id"])
        deepest: list[object] = []
        for _ in range(63):
            deepest = [deepest]
        sent: list[object] = [deepest, "\ud800", "\n", 10**4000, 1.5e300]
        with trio.fail_after(DEADLINE):
            await peer.wait_linked()
            for data in sent:
                await peer.deliver(to, data)  # type: ignore[arg-type]
        assert [(await running.event(event="message"))["data"] for _ in sent] == sent
        assert await running.stop() == 0


LONG = 1024 * 1024 + 1


async def test_every_line_gets_one_reply() -> None:
    """Over-long lines too: what is left of them are no lines of their own."""
    lines: list[tuple[bytes, object, str]] = [
        (b"", None, "BadInput"),
        (b"hello", None, "BadInput"),
        (b"[]", None, "BadInput"),
        (b'{"send"', None, "BadInput"),
        (b'{"ref":"\xff"}', None, "BadInput"),
        (b'{"ref":1e400,"statistics":1}', None, "BadInput"),
        (b'{"ref":"a"}', "a", "BadInput"),
        (b'{"ref":"b","stop":true}', "b", "BadInput"),
        (b'{"ref":"c","connect":"me"}', "c", "BadInput"),
        (b"x" * LONG, None, "BadInput"),
        (b'{"ref":"' + b'{"statistics":true}' * 60_000 + b'"}', None, "BadInput"),
        (f'{{"ref":"d","send":{{"to":"{NOBODY}","data":1e400}}}}'.encode(), "d", "LocalProtocolError"),
        (f'{{"ref":"e","disconnect":"{NOBODY}"}}\r'.encode(), "e", ""),
        (f'{{"ref":"f","send":{{"to":"{NOBODY}","data":{"[" * 64}{"]" * 64}}}}}'.encode(), "f", ""),
        (b'{"ref":"\\ud800","statistics":true}', "\ud800", ""),
        (b'{"statistics":true}', None, ""),  # and no end of the line
    ]
    async with open_json("--listen", "none") as (running, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_and_close, running, b"\n".join(line for line, _, _ in lines))
            replies = [json.loads(line) for line in await running.rest()]
        assert await running.wait() == 0
        assert await running.errors() == ""
    assert [(reply["ref"], reply.get("error", "")) for reply in replies] == [(ref, error) for _, ref, error in lines]


async def write_and_close(running: JsonRunning, data: bytes) -> None:
    await running.write(data)
    await running.stdin.aclose()


async def test_the_end_of_input_waits_for_commands_under_way() -> None:
    """A thousand messages, more than are under way at once, to a peer that takes its time."""
    count = 1000
    async with trio_relay.open_node() as receiver, open_json("--bootstrap", *receiver.urls) as (running, _):
        await running.event(event="link_up")
        lines = [{"deliver": {"to": receiver.id.hex(), "data": number}, "ref": number} for number in range(count)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_and_close, running, "\n".join(map(json.dumps, lines)).encode())
            replies = [json.loads(line) for line in await running.rest()]
        assert await running.wait() == 0
        delivered = {reply["ref"] for reply in replies if reply["event"] == "delivered"}
        assert delivered == set(range(count))
        with trio.fail_after(DEADLINE):
            assert {(await receiver.receive()).data for _ in range(count)} == delivered


async def test_commands_that_a_signal_cuts_short_are_answered() -> None:
    """While its input is still open and a thread waits for a line. Ctrl-C: tests/cli/test_node.py."""
    async with open_json("--listen", "none") as (running, _):
        await running.write(json.dumps({"deliver": {"to": NOBODY, "data": 1}, "ref": 1}).encode() + b"\n")
        await running.ask(2, statistics=True)
        assert await running.stop() == 0
        (reply,) = map(json.loads, await running.rest())
        assert reply.pop("message")
        assert reply == {"event": "error", "ref": 1, "error": "ClosedResourceError"}
        assert await running.errors() == ""
