"""The negotiation of one connection: both offer at once, nobody answers, bad descriptions, early candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from tests.transports.fake_bundle import BundleBehaviour, FakeBundle, FakeBundles
from trio_relay.exceptions import RoomError
from trio_relay.peerix.members.negotiator import (
    MAX_SIGNALS,
    MemberAnswer,
    MemberCandidate,
    MemberOffer,
    Negotiator,
)
from trio_relay.peerix.packets.candidates import IceCandidate
from trio_relay.transports.webrtc import WebRTCConfig


class End:
    """A negotiator over a fake bundle; what it sends is given to `carry`."""

    def __init__(self, bundle: FakeBundle, *, polite: bool) -> None:
        self.bundle: Final = bundle
        self.counts: Final[Counter[str]] = Counter()
        self.errors: Final[list[RoomError]] = []
        self.labels: Final[list[Mapping[str, str]]] = []
        self.descriptions = 0
        self.offers: Final[list[str]] = []
        self.answers: Final[list[str]] = []
        self.carry_offer: Callable[[str], None] = self.offers.append
        self.carry_answer: Callable[[str], None] = self.answers.append
        self.negotiator: Final = Negotiator(
            bundle,
            polite=polite,
            send_offer=lambda sdp: self.carry_offer(sdp),
            send_answer=lambda sdp: self.carry_answer(sdp),
            on_labels=self.labels.append,
            on_described=self._on_described,
            on_error=self.errors.append,
            counts=self.counts,
        )

    def _on_described(self) -> None:
        self.descriptions += 1

    def connect(self, other: End, nursery: trio.Nursery) -> None:
        async def carry(signal: MemberOffer | MemberAnswer) -> None:
            await trio.sleep(0.1)
            other.negotiator.take(signal)

        self.carry_offer = lambda sdp: nursery.start_soon(carry, MemberOffer(sdp))
        self.carry_answer = lambda sdp: nursery.start_soon(carry, MemberAnswer(sdp))


async def open_bundle(
    world: FakeBundles, nursery: trio.Nursery, behaviour: BundleBehaviour | None = None
) -> FakeBundle:
    async def keep(*, task_status: trio.TaskStatus[FakeBundle]) -> None:
        async with world.behaving(behaviour or BundleBehaviour())(WebRTCConfig()) as bundle:
            task_status.started(bundle)  # type: ignore[arg-type]
            await trio.sleep_forever()

    bundle: FakeBundle = await nursery.start(keep)
    return bundle


async def test_both_offer_at_once_and_one_connection_comes_of_it(autojump_clock: MockClock) -> None:
    world = FakeBundles()
    async with trio.open_nursery() as nursery:
        ends = [End(await open_bundle(world, nursery), polite=polite) for polite in (True, False)]
        ends[0].connect(ends[1], nursery)
        ends[1].connect(ends[0], nursery)
        controls = [end.bundle.open_channel("", id=0) for end in ends]
        for end in ends:
            nursery.start_soon(end.negotiator.run)
        for control in controls:
            await control.wait_open()
        assert [end.counts["offers_ignored"] for end in ends] == [0, 1]
        assert [len(end.errors) for end in ends] == [0, 0]
        nursery.cancel_scope.cancel()


async def test_what_is_wanted_while_an_offer_is_void_is_told_after_the_answer(autojump_clock: MockClock) -> None:
    world = FakeBundles()
    async with trio.open_nursery() as nursery:
        polite = End(await open_bundle(world, nursery), polite=True)
        other = await open_bundle(world, nursery)
        nursery.start_soon(polite.negotiator.run)
        polite.bundle.open_channel("chat")
        other.open_channel("", id=0)
        await trio.sleep(1)
        assert len(polite.offers) == 1
        polite.negotiator.take(MemberOffer(await other.create_offer(), {"id": "camera"}))
        await trio.sleep(1)
        assert polite.labels == [{"id": "camera"}]
        await other.accept_answer(polite.answers[0])
        polite.negotiator.take(MemberAnswer("stale"))
        await trio.sleep(1)
        assert polite.counts["answers_ignored"] == 1
        assert polite.errors == []
        assert polite.bundle.state == "connected"
        nursery.cancel_scope.cancel()


async def test_a_member_that_answers_no_offer_is_given_up(autojump_clock: MockClock) -> None:
    world = FakeBundles()
    async with trio.open_nursery() as nursery:
        end = End(await open_bundle(world, nursery), polite=False)
        end.bundle.open_channel("chat")
        assert "3 offers" in await end.negotiator.run()
        assert len(end.offers) == 3
        assert end.counts == {"offers_unanswered": 3}
        assert trio.current_time() == pytest.approx(45, abs=1)
        nursery.cancel_scope.cancel()


async def test_an_offer_that_can_not_be_made_is_told_and_given_up(autojump_clock: MockClock) -> None:
    world = FakeBundles()
    async with trio.open_nursery() as nursery:
        broken = BundleBehaviour(fail_at="create_offer", reason="no address of ours")
        end = End(await open_bundle(world, nursery, broken), polite=False)
        end.bundle.open_channel("chat")
        with trio.fail_after(10):
            await end.negotiator.run()
        assert [str(error) for error in end.errors] == ["no address of ours"] * 3
        nursery.cancel_scope.cancel()


async def test_a_bad_description_is_told_and_the_next_one_is_taken(autojump_clock: MockClock) -> None:
    world = FakeBundles()
    async with trio.open_nursery() as nursery:
        end = End(await open_bundle(world, nursery), polite=False)
        other = await open_bundle(world, nursery)
        other.open_channel("", id=0)
        end.bundle.open_channel("", id=0)
        end.negotiator.take(MemberOffer("nonsense"))
        end.negotiator.take(MemberOffer(await other.create_offer()))
        nursery.start_soon(end.negotiator.run)
        await trio.sleep(1)
        assert [error.code for error in end.errors] == ["NEGOTIATION_ERROR"]
        assert end.counts["descriptions_refused"] == 1
        await other.accept_answer(end.answers[0])
        await trio.sleep(1)
        assert end.bundle.state == "connected"
        nursery.cancel_scope.cancel()


async def test_an_offer_that_gave_way_to_a_bad_one_is_made_again(autojump_clock: MockClock) -> None:
    world = FakeBundles()
    async with trio.open_nursery() as nursery:
        end = End(await open_bundle(world, nursery), polite=True)
        other = await open_bundle(world, nursery)
        for bundle in (end.bundle, other):
            bundle.open_channel("", id=0)
        nursery.start_soon(end.negotiator.run)
        await trio.sleep(1)
        assert len(end.offers) == 1
        end.negotiator.take(MemberOffer("nonsense"))
        await trio.sleep(1)
        assert end.counts["descriptions_refused"] == 1
        assert len(end.offers) == 2
        end.negotiator.take(MemberAnswer(await other.accept_offer(end.offers[1])))
        await trio.sleep(1)
        assert end.bundle.state == "connected"
        nursery.cancel_scope.cancel()


async def test_candidates_wait_for_the_description_that_they_belong_to(autojump_clock: MockClock) -> None:
    world = FakeBundles()
    async with trio.open_nursery() as nursery:
        end = End(await open_bundle(world, nursery), polite=False)
        other = await open_bundle(world, nursery)
        other.open_channel("", id=0)
        offer = await other.create_offer()
        fragment = f"fake{other.number:06}"
        early = IceCandidate("candidate:1", "0", 0, fragment)
        strange = IceCandidate("candidate:2", "0", 0, "another")
        bare = IceCandidate("candidate:3", "0", 0, None)
        for candidate in (early, strange, bare, IceCandidate("", None, None, fragment)):
            end.negotiator.take(MemberCandidate(candidate, True))
        nursery.start_soon(end.negotiator.run)
        await trio.sleep(1)
        assert end.bundle.candidates == []
        end.negotiator.take(MemberOffer(offer))
        await trio.sleep(1)
        assert end.bundle.candidates == [early.address, bare.address]
        assert end.negotiator.unclaimed() == [strange]
        nursery.cancel_scope.cancel()


async def test_a_flood_of_signals_is_bounded_and_of_offers_slow(autojump_clock: MockClock) -> None:
    world = FakeBundles()
    async with trio.open_nursery() as nursery:
        end = End(await open_bundle(world, nursery), polite=False)
        for _ in range(MAX_SIGNALS + 10):
            end.negotiator.take(MemberOffer("nonsense"))
        assert end.counts["member_signals_overflowed"] == 10
        nursery.start_soon(end.negotiator.run)
        began = trio.current_time()
        await end.negotiator.wait_room()
        assert trio.current_time() - began > MAX_SIGNALS / 2 * 0.09
        nursery.cancel_scope.cancel()
