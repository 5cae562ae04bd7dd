"""Calls over connections that are none: who answers, who gives up, and what is told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.wire.media_descriptions import media_offer
from trio_relay.exceptions import NegotiationFailed, PeerError
from trio_relay.peerjs.connections.media_call import MediaCall
from trio_relay.peerjs.messages import NO_METADATA, Answer, CandidateMessage, Offer
from trio_relay.transports.webrtc import WebRTCConfig
from trio_relay.wire.description import Candidate

TRACK: Any = SimpleNamespace(kind="audio", id="t")
OTHER: Any = SimpleNamespace(kind="audio", id="o")
PICTURE: Any = SimpleNamespace(kind="video", id="v")
OFFER = Offer("media", "mc_1", "", {"a": 1})
INCOMING = Offer("media", "mc_2", media_offer(), NO_METADATA)


class FakePeer:
    """A `MediaPeer`; `fail_at` names the method that fails."""

    def __init__(self, fail_at: str = "") -> None:
        self.fail_at = fail_at
        self.done: list[Any] = []
        self.remote_tracks: tuple[Any, ...] = ()
        self.connected, self.gone = trio.Event(), trio.Event()
        self.opened = self.closed = False

    def _do(self, name: str, *arguments: Any) -> None:
        if name == self.fail_at:
            raise NegotiationFailed(f"{name} failed")
        self.done.append((name, *arguments))

    async def create_offer(self, tracks: Sequence[Any], *, label: str = "undefined") -> str:
        self._do("offer", *tracks)
        return "our offer"

    async def create_answer(self, offer: str, tracks: Sequence[Any] = ()) -> str:
        self._do("answer", *tracks)
        self.remote_tracks = (OTHER,)
        return "our answer"

    async def accept_answer(self, answer: str) -> None:
        self._do("accept", answer)
        self.remote_tracks = (OTHER,)

    async def add_candidate(self, candidate: Candidate | None) -> None:
        self._do("candidate", candidate)

    async def wait_connected(self) -> None:
        await self.connected.wait()
        self._do("connect")

    async def wait_closed(self) -> str:
        await self.gone.wait()
        return "the other side has hung up"

    def selected_pair(self) -> None:
        return None


class Bench:
    """One call of a peer, and what it sent."""

    def __init__(self, *, incoming: bool, offer: Offer | None = None, fail_at: str = "", **options: Any) -> None:
        self.fake = FakePeer(fail_at)
        self.sent: list[Offer | Answer] = []
        self.counts = Counter[str]()
        options.setdefault("send_offer", self.sent.append)
        self.call = MediaCall(
            self.factory,
            WebRTCConfig(),
            "bob",
            offer or (INCOMING if incoming else OFFER),
            send_answer=self.sent.append,
            counts=self.counts,
            incoming=incoming,
            tracks=() if incoming else (TRACK,),
            **options,
        )

    @asynccontextmanager
    async def factory(self, config: WebRTCConfig) -> AsyncIterator[Any]:
        assert not self.fake.opened
        self.fake.opened = True
        try:
            yield self.fake
        finally:
            self.fake.closed = True

    def candidate(self, text: str = "candidate:1") -> None:
        self.call.on_candidate(CandidateMessage("media", "mc", Candidate(text, "0", 0)))

    @property
    def steps(self) -> list[str]:
        return [step for step, *_ in self.fake.done]


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[list[PeerError]]:
    """Its task; errors are noted."""
    errors: list[PeerError] = []

    async def run() -> None:
        try:
            await bench.call.run()
        except PeerError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        yield errors
        bench.call.stop()
    assert bench.fake.closed == bench.fake.opened


async def test_a_call_is_answered_and_hung_up() -> None:
    bench = Bench(incoming=False)
    connection = bench.call.connection
    assert (connection.type, connection.peer, connection.connection_id) == ("media", "bob", "mc_1")
    assert (connection.metadata, connection.local_tracks, connection.open) == ({"a": 1}, (TRACK,), False)
    assert bench.call.key == ("bob", "mc_1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_answer_soon, bench)
        assert await nursery.start(bench.call.run) is connection
        assert connection.open
        assert bench.sent == [Offer("media", "mc_1", "our offer", {"a": 1})]
        assert bench.fake.done == [
            ("offer", TRACK),
            ("candidate", Candidate("early", "0", 0)),
            ("accept", "a"),
            ("connect",),
        ]
        assert await connection.receive_track() is connection.remote_tracks[0] is OTHER
        with pytest.raises(trio.EndOfChannel, match="1 tracks, and no more"):
            await connection.receive_track()
        bench.fake.gone.set()
        assert await connection.wait_closed() == "the other side has hung up"
    assert not connection.open
    assert [track async for track in connection] == []
    assert bench.fake.closed


async def _answer_soon(bench: Bench) -> None:
    await wait_all_tasks_blocked()
    bench.candidate("early")
    await wait_all_tasks_blocked()
    bench.call.on_answer(Answer("media", "mc_1", "a"))
    bench.call.on_answer(Answer("media", "mc_1", "another"))
    bench.fake.connected.set()


async def test_an_incoming_call_waits_to_be_answered_and_its_candidates_with_it() -> None:
    bench = Bench(incoming=True)
    connection = bench.call.connection
    async with running(bench) as errors:
        for _ in range(70):
            bench.candidate()
        assert not bench.fake.opened
        assert bench.counts["candidates_ignored"] == 6
        with pytest.raises(ValueError, match="expected at most 1 tracks of video"):
            await connection.answer([PICTURE, SimpleNamespace(kind="video", id="w")])
        bench.fake.connected.set()
        await connection.answer([TRACK])
        assert connection.open
        assert bench.sent == [Answer("media", "mc_2", "our answer")]
        assert bench.fake.done[0] == ("answer", TRACK)
        assert connection.local_tracks == (TRACK,)
        assert connection.metadata is None
        with pytest.raises(RuntimeError, match="only once"):
            await connection.answer()
        assert [track async for track in connection] == [OTHER]
        await connection.aclose()
        bench.fake.gone.set()
        assert await connection.wait_closed() == "the connection was closed here"
        with pytest.raises(trio.ClosedResourceError):
            await connection.receive_track()
    assert errors == []


async def test_a_call_without_tracks_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="expected 1 to 7 tracks, got 0"):
        MediaCall(
            Bench(incoming=True).factory,
            WebRTCConfig(),
            "bob",
            OFFER,
            send_offer=print,
            send_answer=print,
            counts=Counter(),
        )
    bench = Bench(incoming=False)
    with pytest.raises(RuntimeError, match="only an incoming call"):
        await bench.call.connection.answer()


async def test_nobody_answers(autojump_clock: MockClock) -> None:
    bench = Bench(incoming=False)
    async with running(bench) as errors:
        await bench.call.connection.wait_closed()
        assert trio.current_time() == 30
    assert [(error.type, str(error)) for error in errors] == [
        ("negotiation-failed", "call to bob: nobody answered within 30 s")
    ]


async def test_no_connection_comes_about(autojump_clock: MockClock) -> None:
    bench = Bench(incoming=True)
    async with running(bench) as errors:
        with pytest.raises(PeerError, match="call of bob: no connection after 10 s") as raised:
            await bench.call.connection.answer()
        assert raised.value.type == "negotiation-failed"
    assert [error.type for error in errors] == ["negotiation-failed"]


async def test_a_call_that_is_not_answered_here_ends(autojump_clock: MockClock) -> None:
    bench = Bench(incoming=True)
    async with running(bench) as errors:
        assert "not answered here within 120 s" in await bench.call.connection.wait_closed()
        assert trio.current_time() == 120
        with pytest.raises(PeerError, match="not answered here"):
            await bench.call.connection.answer()
        with pytest.raises(trio.EndOfChannel):
            await bench.call.connection.receive_track()
    assert len(errors) == 1
    assert not bench.fake.opened


@pytest.mark.parametrize(
    ("incoming", "fail_at"), [(False, "offer"), (False, "accept"), (True, "answer"), (True, "connect")]
)
async def test_what_fails_is_told(incoming: bool, fail_at: str) -> None:
    bench = Bench(incoming=incoming, fail_at=fail_at)
    bench.fake.connected.set()
    bench.call.on_answer(Answer("media", "mc_1", "a"))
    async with running(bench) as errors:
        if incoming:
            with pytest.raises(PeerError, match=f"{fail_at} failed"):
                await bench.call.connection.answer()
        await bench.call.connection.wait_closed()
    assert [str(error) for error in errors] == [f"call {'of' if incoming else 'to'} bob: {fail_at} failed"]


async def test_a_candidate_that_fails_ends_the_negotiation() -> None:
    bench = Bench(incoming=False, fail_at="candidate")
    async with running(bench) as errors:
        bench.candidate()
        await bench.call.connection.wait_closed()
    assert [str(error) for error in errors] == ["call to bob: candidate failed"]


async def test_what_the_broker_says_is_the_reason() -> None:
    refusal = PeerError("peer-unavailable", "could not connect to peer bob")
    bench = Bench(incoming=False)
    async with running(bench) as errors:
        bench.call.on_unavailable(refusal)
        await bench.call.connection.wait_closed()
    assert errors == [refusal]

    def fail(offer: Offer) -> None:
        raise PeerError("disconnected", "no broker")

    bench = Bench(incoming=False, send_offer=fail)
    async with running(bench) as errors:
        await bench.call.connection.wait_closed()
    assert [error.type for error in errors] == ["disconnected"]


async def test_an_open_call_does_not_need_the_broker() -> None:
    bench = Bench(incoming=True)
    bench.fake.connected.set()
    async with running(bench) as errors:
        await bench.call.connection.answer()
        bench.call.on_unavailable(PeerError("peer-unavailable", "gone"))
        await wait_all_tasks_blocked()
        assert bench.call.connection.open
    assert errors == []


async def test_refusing_giving_up_and_never_running() -> None:
    bench = Bench(incoming=True)
    async with running(bench) as errors, bench.call.connection:
        pass
    assert errors == []
    assert await bench.call.connection.wait_closed() == "the connection was closed here"
    with pytest.raises(trio.ClosedResourceError):
        await bench.call.connection.answer()

    bench = Bench(incoming=False)
    async with running(bench) as errors:
        bench.call.stop()
    assert [str(error) for error in errors] == ["call to bob: the call was given up"]

    bench = Bench(incoming=True)
    await bench.call.connection.aclose()
    assert not bench.fake.opened


async def test_a_cancelled_answer_ends_the_call() -> None:
    bench = Bench(incoming=True)
    async with running(bench):
        with trio.CancelScope() as scope:
            scope.cancel()
            await bench.call.connection.answer()
        await bench.call.connection.wait_closed()
    assert not bench.call.connection.open


async def test_a_ringing_call_takes_no_place_of_negotiations() -> None:
    places = trio.CapacityLimiter(1)
    bench, other = (Bench(incoming=False, negotiating=places) for _ in range(2))
    async with running(bench), running(other):
        assert bench.steps == other.steps == ["offer"]
        assert places.available_tokens == 1
