"""WebRTC links between nodes, over an in-memory network and a fake WebRTC; tests/transports/aio has the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from tests.transports.fake_webrtc import Behaviour, FakeWebRTC
from trio_relay import (
    Limits,
    LinkChanged,
    LinkDown,
    LinkUp,
    NegotiationFailed,
    Node,
    WebRTCConfig,
    open_node,
)
from trio_relay.node import negotiator, proving
from trio_relay.node.negotiation import Negotiation, WebRTC
from trio_relay.overlay.attempts import Attempt
from trio_relay.overlay.connecting import Connecting
from trio_relay.overlay.negotiations import Negotiations
from trio_relay.testing import MemoryNetwork
from trio_relay.transports.webrtc import PeerConnection
from trio_relay.wire.description import Candidate

from .support import identity, until, url

GOOD = Behaviour()


@dataclass
class Pair:
    """Two leaves behind one relay."""

    world: FakeWebRTC
    network: MemoryNetwork
    relay: Node
    alice: Node
    bob: Node

    @property
    def at_rest(self) -> bool:
        """Whether no WebRTC connection is open, and none is being made."""
        sizes = [node.statistics().sizes for node in (self.alice, self.bob)]
        busy = any(size["negotiations"] or size["connecting"] for size in sizes)
        return not busy and self.world.open_connections == 0


@asynccontextmanager
async def open_pair(
    alice: Behaviour | None = GOOD,
    bob: Behaviour | None = GOOD,
    *,
    bob_listens: bool = False,
    limits: Limits | None = None,
    sealed: bool = True,
    **config: object,
) -> AsyncIterator[Pair]:
    """`alice`, `bob`: how their WebRTC behaves; None: they have none."""
    world, network = FakeWebRTC(), MemoryNetwork()

    def webrtc(behaviour: Behaviour | None) -> bool | WebRTCConfig:
        if behaviour is None:
            return False
        return WebRTCConfig(factory=world.behaving(behaviour), **config)  # type: ignore[arg-type]

    names = [identity(name) for name in ("relay", "alice", "bob")]
    listen = "bob" if bob_listens else None
    more = {"network": network, "limits": limits, "sealed": sealed}
    async with (
        open_node("relay", identity=names[0], **more) as relay,  # type: ignore[arg-type]
        open_node(None, [url("relay")], identity=names[1], webrtc=webrtc(alice), **more) as a,  # type: ignore[arg-type]
        open_node(listen, [url("relay")], identity=names[2], webrtc=webrtc(bob), **more) as b,  # type: ignore[arg-type]
    ):
        await until(lambda: a.links and b.links and relay.statistics().relaying, seconds=100)
        yield Pair(world, network, relay, a, b)
    assert world.open_connections == 0


async def test_two_leaves_get_a_direct_link(autojump_clock: MockClock) -> None:
    async with open_pair(Behaviour(delay=0.01), Behaviour(delay=0.01)) as pair, pair.bob.events() as events:
        assert (await pair.alice.deliver(pair.bob.id, "over the relay")).hops == 2
        await pair.alice.connect(pair.bob.id)
        assert (await pair.alice.deliver(pair.bob.id, "directly")).hops == 1
        assert (await pair.bob.deliver(pair.alice.id, b"back")).hops == 1
        mine, theirs = pair.alice.links[pair.bob.id], pair.bob.links[pair.alice.id]
        assert (mine.transport, mine.candidates, mine.dialled) == ("webrtc", ("host", "host"), True)
        assert (theirs.transport, theirs.candidates, theirs.dialled) == ("webrtc", ("host", "host"), False)
        assert (mine.remote, theirs.remote) == ("192.0.2.1:10001", "192.0.2.1:10000")
        up = await anext(events)
        assert up == LinkUp(pair.alice.id, "webrtc", theirs.rtt, ("host", "host"))
        assert theirs.rtt is not None
        assert 0 < theirs.rtt < 1
        assert {info.transport for info in pair.alice.statistics().neighbours} == {"webrtc", "memory"}


async def test_a_direct_link_makes_nobody_a_relay(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        await pair.alice.connect(pair.bob.id)
        await trio.sleep(120)
        assert pair.alice.links[pair.bob.id].role == pair.bob.links[pair.alice.id].role == "leaf"
        assert not any(node.statistics().relaying for node in (pair.alice, pair.bob))


async def test_a_websocket_is_preferred(autojump_clock: MockClock) -> None:
    async with open_pair(bob_listens=True) as pair:
        await until(lambda: pair.bob.statistics().relaying, seconds=100)
        await pair.alice.connect(pair.bob.id)
        assert pair.alice.links[pair.bob.id].transport == "memory"
        await trio.sleep(30)
        assert not pair.world.connections


async def test_webrtc_takes_the_place_of_a_websocket(autojump_clock: MockClock) -> None:
    async with open_pair(bob_listens=True) as pair:
        await pair.alice.connect(pair.bob.id)
        assert pair.alice.links[pair.bob.id].transport == "memory"
        async with pair.alice.events() as mine, pair.bob.events() as theirs:
            await pair.alice.connect(pair.bob.id, prefer="webrtc")
            for events, peer in ((mine, pair.bob.id), (theirs, pair.alice.id)):
                changed = await anext(events)
                assert isinstance(changed, LinkChanged)
                assert (changed.id, changed.transport, changed.candidates) == (peer, "webrtc", ("host", "host"))
        await trio.sleep(60)
        assert pair.alice.links[pair.bob.id].transport == pair.bob.links[pair.alice.id].transport == "webrtc"
        assert (await pair.alice.deliver(pair.bob.id, 1)).hops == 1
        # The WebSocket is closed by whoever dialled it.
        assert pair.alice.statistics().sizes["links"] == pair.bob.statistics().sizes["links"] == 2
        pair.world.break_channels()
        assert (await pair.alice.deliver(pair.bob.id, 2)).hops in (1, 2)


async def test_a_peer_without_webrtc_says_so(autojump_clock: MockClock) -> None:
    async with open_pair(GOOD, None) as pair:
        began = trio.current_time()
        with pytest.raises(NegotiationFailed, match="makes no WebRTC links"):
            await pair.alice.connect(pair.bob.id)
        assert trio.current_time() - began < 1
        await _rests(pair)


async def test_without_webrtc_here_the_error_says_so(autojump_clock: MockClock) -> None:
    async with open_pair(None, GOOD) as pair:
        with pytest.raises(NegotiationFailed, match="webrtc"):
            await pair.alice.connect(pair.bob.id)
        assert not pair.world.connections


@pytest.mark.parametrize("who", ["alice", "bob"])
@pytest.mark.parametrize("step", ["offer", "answer", "accept", "channel"])
@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_whatever_fails_leaves_nothing_behind(who: str, step: str, how: str, autojump_clock: MockClock) -> None:
    bad = Behaviour(fail_at=step) if how == "fails" else Behaviour(hang_at=step)  # type: ignore[arg-type]
    faults = {"alice": bad if who == "alice" else GOOD, "bob": bad if who == "bob" else GOOD}
    harmless = (who, step) in (("alice", "answer"), ("bob", "offer"), ("bob", "accept"))
    async with open_pair(faults["alice"], faults["bob"]) as pair:
        if harmless:
            await pair.alice.connect(pair.bob.id)
            return
        with pytest.raises(NegotiationFailed) as raised:
            await pair.alice.connect(pair.bob.id)
        assert (how == "hangs") or "told to fail" in str(raised.value) or "failed" in str(raised.value)
        assert (await pair.alice.deliver(pair.bob.id, "as before")).hops == 2
        await _rests(pair)
        assert pair.bob.id not in pair.alice.links
        assert pair.alice.id not in pair.bob.links


async def test_when_the_channel_breaks_messages_go_through_the_relay(autojump_clock: MockClock) -> None:
    async with open_pair() as pair, pair.alice.events() as events:
        await pair.alice.connect(pair.bob.id)
        assert isinstance(await anext(events), LinkUp)
        pair.world.break_channels()
        assert (await pair.alice.deliver(pair.bob.id, 1)).hops == 2
        down = await anext(events)
        assert down == LinkDown(pair.bob.id, "connection lost")
        await _rests(pair)
        await pair.alice.connect(pair.bob.id)
        assert (await pair.alice.deliver(pair.bob.id, 2)).hops == 1


@pytest.mark.parametrize("fault", ["breaks", "loses"])
async def test_nothing_that_was_confirmed_is_lost_when_a_link_dies(fault: str, autojump_clock: MockClock) -> None:
    """Messages are under way all the time; each that `deliver` confirmed was received, once."""
    bad = Behaviour(breaks_after=50, delay=0.002) if fault == "breaks" else Behaviour(loses_after=50, delay=0.002)
    async with open_pair(bad, Behaviour(delay=0.002)) as pair:
        received, confirmed = list[object](), list[int]()

        async def take() -> None:
            async for message in pair.bob:
                received.append(message.data)

        async def give(number: int) -> None:
            await pair.alice.deliver(pair.bob.id, number)
            confirmed.append(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await pair.alice.connect(pair.bob.id)
            async with trio.open_nursery() as senders:
                for number in range(200):
                    senders.start_soon(give, number)
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert sorted(confirmed) == list(range(200))
        assert sorted(received) == list(range(200))  # type: ignore[type-var]
        # One of the two hears nothing any more.
        await until(lambda: pair.bob.id not in pair.alice.links, seconds=60)


async def test_a_bug_in_a_callback_ends_the_node(autojump_clock: MockClock) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug"):
        async with open_pair(Behaviour(channel_error=ZeroDivisionError("a bug"))) as pair:
            await pair.alice.connect(pair.bob.id)


async def test_a_channel_that_leads_to_somebody_else_is_refused(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sits in between has another certificate towards each side, so the two sign different things."""
    seen: list[str] = []

    def binding(offer: str, answer: str) -> str:
        seen.append(offer)
        return f"webrtc:{len(seen)}"

    monkeypatch.setattr(negotiator, "binding", binding)
    async with open_pair() as pair:
        with pytest.raises(NegotiationFailed, match="wrong authority"):
            await pair.alice.connect(pair.bob.id)
        assert len(seen) == 2
        await _rests(pair)
        assert pair.bob.id not in pair.alice.links


async def test_attempts_are_bounded(autojump_clock: MockClock) -> None:
    async with open_pair(negotiations=1) as pair, trio.open_nursery() as nursery:
        slow = WebRTCConfig(factory=pair.world.behaving(Behaviour(hang_at="channel")), negotiations=1)
        async with open_node(None, [url("relay")], network=pair.network, webrtc=slow) as carol:
            await carol.wait_linked()
            failed = trio.Event()

            @nursery.start_soon
            async def hang() -> None:
                with pytest.raises(NegotiationFailed):
                    await carol.connect(pair.bob.id)
                failed.set()

            await until(lambda: pair.bob.statistics().sizes["negotiations"] == 1, seconds=10)
            with pytest.raises(NegotiationFailed, match="full"):
                await pair.alice.connect(pair.bob.id)
            await failed.wait()
        await _rests(pair)
        await pair.alice.connect(pair.bob.id)


async def test_a_node_that_closes_gives_attempts_up(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, open_pair(GOOD, Behaviour(hang_at="channel")) as pair:

        @nursery.start_soon
        async def connect() -> None:
            with pytest.raises((trio.ClosedResourceError, NegotiationFailed)):
                await pair.alice.connect(pair.bob.id)

        await until(lambda: pair.world.open_connections == 2, seconds=10)
    assert pair.world.open_connections == 0


async def test_disconnect_is_remembered(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        await pair.alice.connect(pair.bob.id)
        await pair.alice.disconnect(pair.bob.id)
        await _rests(pair)
        with pytest.raises(NegotiationFailed, match="disconnected"):
            await pair.bob.connect(pair.alice.id)
        await pair.alice.connect(pair.bob.id)
        assert pair.alice.links[pair.bob.id].transport == "webrtc"


@pytest.mark.parametrize("sealed", [True, False])
async def test_both_connect_at_once(sealed: bool, autojump_clock: MockClock) -> None:
    slow = Behaviour(delay=0.01)
    async with open_pair(slow, slow, sealed=sealed) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.alice.connect, pair.bob.id)
            nursery.start_soon(pair.bob.connect, pair.alice.id)
        assert (await pair.alice.deliver(pair.bob.id, 1)).hops == 1
        await trio.sleep(30)
        assert pair.world.open_connections == 2
        assert (await pair.bob.deliver(pair.alice.id, 1)).hops == 1


async def test_large_messages_cross_a_slow_channel(autojump_clock: MockClock) -> None:
    """More than fits what waits inside WebRTC: the sender waits, and nothing is dropped."""
    slow = Behaviour(rate=1_000_000, delay=0.01)
    async with open_pair(slow, slow, limits=Limits(dead_after=60)) as pair:
        await pair.alice.connect(pair.bob.id)
        payload = bytes(60_000)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                for number in range(100):
                    await pair.alice.send(pair.bob.id, number.to_bytes(2, "big") + payload)

            got = [await pair.bob.receive() for _ in range(100)]
        assert [int.from_bytes(message.data[:2], "big") for message in got] == list(range(100))  # type: ignore[index,arg-type]
        assert all(message.data[2:] == payload for message in got)  # type: ignore[index]


async def test_a_cancelled_connect_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """Cancelled at each step that any task takes, from the first to where the link is up."""
    behaviour = Behaviour(delay=0.01)
    async with open_pair(behaviour, behaviour) as pair:
        # With a session: the round trip that opens one would only be more of the same.
        await pair.alice.deliver(pair.bob.id, "hello")
        steps, connected = 0, False
        while not connected:
            steps += 1
            connected = await _cancelled_after(steps, lambda: pair.alice.connect(pair.bob.id))
            if not connected and pair.bob.id not in pair.alice.links:  # it may have come up in the very moment
                await _rests(pair)
            await pair.alice.disconnect(pair.bob.id)
            await trio.sleep(2)  # bob takes offers at a bounded rate
        assert steps > 30
        await _rests(pair)
        assert (await pair.alice.deliver(pair.bob.id, "as before")).hops == 2


async def _cancelled_after(steps: int, action: Callable[[], Awaitable[None]]) -> bool:
    """Runs it, and cancels it when Trio has run so many steps of tasks; whether it ended before."""
    scope = trio.CancelScope()

    class Count(trio.abc.Instrument):
        left = steps

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.left -= 1
            if self.left == 0:
                trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)

    count = Count()
    trio.lowlevel.add_instrument(count)
    try:
        with scope:
            await action()
            return True
    finally:
        trio.lowlevel.remove_instrument(count)
    return False


async def _rests(pair: Pair) -> None:
    await until(lambda: pair.at_rest, seconds=60)


async def test_an_id_that_is_used_twice_harms_nobody(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever offers chooses the id; here while our side of the first attempt is still closing its sockets."""
    begin = Negotiations._begin

    def begin_alike(self: Negotiations, attempt: Attempt, offer: str | None) -> None:
        if attempt.ours:
            attempt.id = b"the same"
        begin(self, attempt, offer)

    monkeypatch.setattr(Negotiations, "_begin", begin_alike)
    async with open_pair(Behaviour(closing=1.0), Behaviour(delay=0.4)) as pair:
        with trio.move_on_after(1.0):
            await pair.bob.connect(pair.alice.id)
        await trio.sleep(0.1)
        with pytest.raises(NegotiationFailed, match="failed on the other side"):
            await pair.bob.connect(pair.alice.id)
        await _rests(pair)
        await pair.bob.connect(pair.alice.id)
        assert (await pair.alice.deliver(pair.bob.id, 1)).hops == 1


async def test_an_attempt_that_ends_before_its_task_runs_opens_nothing(autojump_clock: MockClock) -> None:
    async with open_pair(GOOD, GOOD) as pair:
        await pair.alice.deliver(pair.bob.id, "a session and a record")
        runtime = pair.alice._runtime
        started, actions = runtime.router.connect(pair.bob.id, trio.current_time(), "webrtc")
        assert started
        runtime.act(actions)
        runtime.act(runtime.router.cancel_connect(pair.bob.id))
        await trio.sleep(1)
        assert pair.alice.statistics().counts["negotiations_failed"] == 1
        assert not pair.world.connections


async def test_when_both_tasks_of_an_attempt_see_it_fail_it_fails_once(autojump_clock: MockClock) -> None:
    class Broken:
        """Dies while a candidate is being taken."""

        def __init__(self) -> None:
            self.dead = trio.Event()

        async def create_answer(self, offer: str) -> str:
            await trio.sleep(1)
            self.dead.set()
            raise NegotiationFailed("it is dead")

        async def add_candidate(self, candidate: Candidate | None) -> None:
            await self.dead.wait()
            raise NegotiationFailed("it is dead")

    @asynccontextmanager
    async def factory(config: WebRTCConfig) -> AsyncIterator[PeerConnection]:
        yield Broken()  # type: ignore[misc]

    attempt = Negotiation(WebRTC(factory, WebRTCConfig()), "offer", lambda _: None)
    attempt.candidate(None)
    with pytest.raises(NegotiationFailed, match="it is dead"):
        async with attempt.run():
            raise AssertionError("it was made")


async def test_who_does_not_answer_is_named(autojump_clock: MockClock) -> None:
    """For example an older version of this package, which does not know signals."""
    async with open_pair(GOOD, Behaviour(hang_at="answer")) as pair:
        with pytest.raises(NegotiationFailed, match="did not answer within 10 s"):
            await pair.alice.connect(pair.bob.id)


async def test_a_better_link_that_is_waited_for_is_made(autojump_clock: MockClock) -> None:
    """Also when another caller is content with the one that is there, or when that comes up first."""
    async with open_pair(Behaviour(delay=0.1), Behaviour(delay=0.1), bob_listens=True) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(pair.alice.connect, pair.bob.id, prefer="webrtc"))
            await trio.sleep(0.05)
            await pair.alice.connect(pair.bob.id)
            assert pair.alice.links[pair.bob.id].transport == "memory"
            await pair.alice.connect(pair.bob.id)
            assert pair.alice.links[pair.bob.id].transport == "memory"
        assert pair.alice.links[pair.bob.id].transport == "webrtc"


async def test_a_link_that_takes_too_long_says_what_was_tried(autojump_clock: MockClock) -> None:
    async with open_pair(Behaviour(hang_at="offer"), limits=Limits(connect_timeout=5.0)) as pair:
        with pytest.raises(NegotiationFailed, match="neither side has an address; no link after 5 s"):
            await pair.alice.connect(pair.bob.id)
        await _rests(pair)


async def test_a_probe_over_a_channel_makes_no_link(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes pass where a link would be refused."""
    prove = proving.prove_as_dialler
    monkeypatch.setattr(negotiator, "prove_as_dialler", partial(prove, probe=True))
    async with open_pair() as pair:
        with trio.move_on_after(5):
            await pair.alice.connect(pair.bob.id)
        await _rests(pair)
        assert pair.alice.id not in pair.bob.links
        assert pair.bob.statistics().counts["negotiations_failed"] == 1


async def test_nothing_is_lost_when_a_slow_link_gives_way(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A WebSocket takes the place of a WebRTC link, while both ends have more waiting than that takes in its time."""
    slow = Behaviour(rate=50_000)
    async with open_pair(slow, slow, bob_listens=True, limits=Limits(dead_after=1000.0)) as pair:
        ends = pair.alice, pair.bob
        with monkeypatch.context() as patch:
            patch.setattr(Connecting, "_try", lambda self, _, wish: self._give_up_socket(wish, "not yet"))
            await pair.alice.connect(pair.bob.id)
        for number in range(50):
            for node, other in (ends, ends[::-1]):
                node.send_nowait(other.id, number.to_bytes(2, "big") + bytes(10_000))
        assert min(node.statistics().backlog for node in ends) > 200_000
        record, runtime = await pair.alice.lookup(pair.bob.id), pair.alice._runtime
        runtime.router._parts.membership.dial(record, 3)
        runtime.act(runtime.router.flush())
        with trio.fail_after(100):
            for node in ends:
                numbers = [int.from_bytes((await node.receive()).data[:2], "big") for _ in range(50)]  # type: ignore[index,arg-type]
                assert sorted(numbers) == list(range(50))
        await trio.sleep(30)
        assert {link.transport for node in ends for link in node.links.values()} == {"memory"}
        assert pair.world.open_connections == 0


async def test_a_slow_line_that_is_full_does_not_pass_for_dead(autojump_clock: MockClock) -> None:
    """All that waits there takes longer than `dead_after`; a ping overtakes most of it."""
    slow = Behaviour(rate=60_000, delay=0.01)
    async with open_pair(slow, slow) as pair:
        await pair.alice.connect(pair.bob.id)
        since = pair.alice.links[pair.bob.id].since
        for _ in range(40):
            await pair.alice.send(pair.bob.id, bytes(60_000))
        assert trio.current_time() - since > 2 * Limits().dead_after
        link = pair.alice.links[pair.bob.id]
        assert (link.transport, link.since) == ("webrtc", since)
