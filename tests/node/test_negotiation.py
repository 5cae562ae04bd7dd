"""What kind of data channel an attempt makes, and which it takes."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.transports.fake_webrtc import Behaviour, FakeWebRTC
from trio_relay import NegotiationFailed, WebRTCConfig
from trio_relay.node.negotiation import Negotiation, Opened, WebRTC

REFUSED = "the other side's data channel is not ordered and reliable"
UNRELIABLE = Behaviour(reliable=False)


async def open_at_both_ends(behaviour: Behaviour, ordered: bool, **answerer: Any) -> list[Opened]:
    """Runs both attempts until both channels are open; what the answerer's raises is raised alone."""
    world, opened = FakeWebRTC(), list[Opened]()
    offering, answering = (WebRTC(world.behaving(behaviour), WebRTCConfig()) for _ in range(2))
    answer: list[Negotiation] = []

    async def take(attempt: Negotiation) -> None:
        async with attempt.run() as one:
            opened.append(one)
            if len(opened) < 2:
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()

    def described(offer: str) -> None:
        answer.append(Negotiation(answering, offer, offerer.answer, **answerer))
        nursery.start_soon(take, answer[0])

    offerer = Negotiation(offering, None, described, label="name", ordered=ordered)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, offerer)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    assert world.open_connections == 0
    return opened


async def test_the_offerer_chooses_the_order_and_who_is_not_strict_takes_it(autojump_clock: MockClock) -> None:
    for ordered in (True, False):
        ends = await open_at_both_ends(Behaviour(), ordered, strict=False)
        assert [end.channel.ordered for end in ends] == [ordered, ordered]


@pytest.mark.parametrize(("behaviour", "ordered"), [(Behaviour(), False), (UNRELIABLE, True), (UNRELIABLE, False)])
async def test_without_other_wishes_only_an_ordered_and_reliable_channel_is_taken(
    behaviour: Behaviour, ordered: bool, autojump_clock: MockClock
) -> None:
    with pytest.raises(NegotiationFailed, match=REFUSED):
        await open_at_both_ends(behaviour, ordered)
