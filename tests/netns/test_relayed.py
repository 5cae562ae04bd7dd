"""Peers that can't reach each other: messages go through a relay of the overlay, or through a TURN server."""

from __future__ import annotations

import pytest

from tests.netns.layouts import separate
from tests.netns.nodes import open_peers
from tests.netns.turn import open_turn, turn_url

pytestmark = pytest.mark.netns


async def test_messages_go_through_the_relay_and_connect_says_why_not() -> None:
    with separate() as layout:
        async with open_peers(layout) as (alice, bob):
            assert await alice.exchange(bob, "before") == 2
            reason = await alice.fail_to_connect(bob)
            assert reason.startswith(f"no direct link with {bob.id[:8]}: neither side has an address")
            assert await alice.exchange(bob, "after") == 2


async def test_messages_go_through_the_relay_while_webrtc_tries_in_vain() -> None:
    with separate() as layout:
        async with open_peers(layout, "--webrtc", "--limit", "connect_timeout=2") as (alice, bob):
            await alice.write(b'{"connect": "%s", "ref": "connect"}\n' % bob.id.encode())
            for number in range(20):
                assert await alice.exchange(bob, number) == 2
            failure = await alice.event(ref="connect")
            assert (failure["event"], failure["error"]) == ("error", "NegotiationFailed")
            assert await alice.exchange(bob, "after") == 2


@pytest.mark.turn
async def test_a_turn_server_gives_them_a_direct_link() -> None:
    with separate() as layout, open_turn(layout.relay, layout.address):
        async with open_peers(layout, "--webrtc", "--turn", turn_url(layout.address)) as (alice, bob):
            link = await alice.connect(bob)
            assert link["transport"] == "webrtc"
            assert "relay" in link["candidates"].values()
            assert await alice.exchange(bob, "hello") == 1
