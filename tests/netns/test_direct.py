"""Peers that can reach each other get a direct link, and do without it when it dies."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import trio

from tests.netns.layouts import Layout, bridged, routed, translated
from tests.netns.nodes import KEEPALIVE, Peer, open_peers
from tests.netns.turn import open_turn, stun_url, turn_url

pytestmark = pytest.mark.netns

MESSAGES = 40


@pytest.mark.parametrize("make", [routed, bridged])
async def test_a_direct_link_and_its_end(make: Callable[[], AbstractContextManager[Layout]]) -> None:
    with make() as layout:
        async with open_peers(layout, "--webrtc") as (alice, bob):
            link = await alice.connect(bob)
            assert link["transport"] == "webrtc"
            assert link["candidates"] == {"local": "host", "remote": "host"}
            assert await alice.exchange(bob, "direct") == 1

            await deliver_many(alice, bob, lambda: layout.cut(True))
            with trio.fail_after(KEEPALIVE + 4):
                assert (await alice.event(event="link_down", id=bob.id))["reason"] == "silent"
                assert (await bob.event(event="link_down", id=alice.id))["reason"] == "silent"
            assert await alice.exchange(bob, "through the relay") == 2

            layout.cut(False)
            assert (await alice.connect(bob))["transport"] == "webrtc"
            assert await alice.exchange(bob, "direct again") == 1


async def deliver_many(sender: Peer, receiver: Peer, halfway: Callable[[], None]) -> None:
    """Many messages at once, something in the middle of them, and every one is confirmed and arrives once."""
    lines = [
        json.dumps({"deliver": {"to": receiver.id, "data": number}, "ref": number}).encode() + b"\n"
        for number in range(MESSAGES)
    ]
    await sender.write(b"".join(lines[: MESSAGES // 2]))
    assert (await sender.event(ref=0))["event"] == "delivered"
    halfway()
    await sender.write(b"".join(lines[MESSAGES // 2 :]))
    for number in range(1, MESSAGES):
        reply = await sender.event(ref=number)
        assert reply["event"] == "delivered", reply
    received = [(await receiver.event(event="message"))["data"] for _ in range(MESSAGES)]
    assert sorted(received) == list(range(MESSAGES))


@pytest.mark.turn
async def test_a_stun_server_leads_through_address_translation() -> None:
    with translated() as layout, open_turn(layout.relay, layout.address):
        async with open_peers(layout, "--webrtc", "--stun", stun_url(layout.address)) as (alice, bob):
            link = await alice.connect(bob)
            assert link["transport"] == "webrtc"
            assert link["candidates"]["remote"] in ("srflx", "prflx")
            assert await alice.exchange(bob, "hello") == 1


@pytest.mark.turn
async def test_a_turn_server_leads_through_translation_to_ports_that_nobody_foresees() -> None:
    with translated("fully-random") as layout, open_turn(layout.relay, layout.address):
        servers = ("--stun", stun_url(layout.address), "--turn", turn_url(layout.address))
        async with open_peers(layout, "--webrtc", *servers) as (alice, bob):
            link = await alice.connect(bob)
            assert link["transport"] == "webrtc"
            assert "relay" in link["candidates"].values()
            assert await alice.exchange(bob, "hello") == 1
