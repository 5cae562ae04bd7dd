"""WebRTC links of a node with an original, which a test plays: envelopes by a relay, and the far end of a channel."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.fake_webrtc import Behaviour, FakeChannel, FakeConnection, FakeWebRTC, Step
from trio_relay import Limits, LinkDown, LinkUp, NegotiationFailed, Node, open_node
from trio_relay.overlay.actions import Preference
from trio_relay.testing import MemoryNetwork
from trio_relay.transports.connection import Buffer
from trio_relay.transports.dial import dial_websocket
from trio_relay.transports.memory_connection import MemoryConnection
from trio_relay.transports.webrtc import WebRTCConfig
from trio_relay.wire.body import Body, FindPeers, HandshakeAnswer, HandshakeOffer, Signal, Tunnel, User
from trio_relay.wire.envelope import (
    build_envelope,
    build_id_frame,
    make_envelope,
    parse_body_untrusted,
    parse_envelope_untrusted,
)
from trio_relay.wire.ids import NodeId
from trio_relay.wire.json import JSONValue

from .legacy_world import node_id
from .support import count, identity, until, url

RELAY, PEER = node_id(600), node_id(700)
"""Originals: the first is linked with the node by a WebSocket, the other only with the first."""
CANDIDATE: JSONValue = {
    "candidate": {"candidate": "candidate:1 1 udp 1 192.0.2.7 7 typ host", "sdpMid": "0", "sdpMLineIndex": 0}
}
BOTH_ROLES = pytest.mark.parametrize("we_offer", [True, False], ids=["we offer", "we answer"])


class Page:
    """An original in a browser, told by the test what to do.

    Attributes:
        far: its end of the WebRTC connection.
    """

    def __init__(
        self,
        node: Node,
        network: MemoryNetwork,
        connection: MemoryConnection,
        world: FakeWebRTC,
        far: FakeConnection,
    ) -> None:
        self.node = node
        self.network = network
        self.world = world
        self.far = far
        self._connection = connection
        self._heard = deque[Body]()
        self._nonces = 0
        self.id = PEER
        self.path: tuple[NodeId, ...] = (RELAY,)

    async def say(self, body: Body) -> None:
        self._nonces += 1
        path = (self.id, *self.path)
        envelope = make_envelope(body, to=self.node.id, source=self.id, nonce=str(self._nonces), path=path)
        await self._connection.send([build_envelope(envelope)], text=True)

    async def hear(self) -> Body:
        """The next word to it, without those of the overlay, which asks originals to pass on its own."""
        with trio.fail_after(30):
            while not self._heard:
                texts = [
                    text for text in await self._connection.receive() if text != build_id_frame(self.node.id).decode()
                ]
                for envelope in map(parse_envelope_untrusted, texts):
                    body = parse_body_untrusted(envelope)
                    if envelope.to == self.id and not isinstance(body, Tunnel):
                        self._heard.append(body)
        return self._heard.popleft()

    async def hear_description(self, role: str) -> str:
        signal = await self.hear()
        assert isinstance(signal, Signal)
        assert isinstance(signal.value, dict)
        assert signal.value["type"] == role
        assert isinstance(signal.value["sdp"], str)
        return signal.value["sdp"]

    async def offer(self) -> None:
        """It asks for a link, and offers."""
        await self.say(HandshakeOffer())
        assert await self.hear() == HandshakeAnswer(None, wrtc=True)
        await self.say(Signal({"type": "offer", "sdp": await self.far.create_offer("0123")}))

    async def answer_handshake(self, ws: str | None = None) -> None:
        assert await self.hear() == HandshakeOffer()
        await self.say(HandshakeAnswer(ws, wrtc=True))

    async def answer(self) -> None:
        """It is asked for a link, and answers the offer."""
        await self.answer_handshake()
        offer = await self.hear_description("offer")
        await self.say(Signal({"type": "answer", "sdp": await self.far.create_answer(offer)}))

    async def open_channel(self) -> FakeChannel:
        with trio.fail_after(30):
            return await self.far.channel()

    async def link(self, *, we_offer: bool) -> FakeChannel:
        """All that leads to a link; `we_offer`: our node does."""
        if not we_offer:
            await self.offer()
            await self.far.accept_answer(await self.hear_description("answer"))
            channel = await self.open_channel()
            await until(lambda: PEER in self.node.links)
            return channel
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.node.connect, PEER)
            await self.answer()
            return await self.open_channel()

    @property
    def own_connections(self) -> list[FakeConnection]:
        """Of the node, that are not closed."""
        return [c for c in self.world.connections if c is not self.far and not c.closed]

    async def nothing_left(self) -> None:
        """The node has forgotten the attempt."""
        await until(lambda: not self.own_connections)
        sizes = self.node.statistics().sizes
        assert sizes["legacy_handshakes"] == sizes["legacy_wishes"] == sizes["legacy_attempts"] == 0


@asynccontextmanager
async def open_page(
    behaviour: Behaviour | None = None, *, limits: Limits | None = None, negotiations: int = 16
) -> AsyncIterator[Page]:
    """`behaviour` is that of the node's end."""
    network, world = MemoryNetwork(), FakeWebRTC()
    config = WebRTCConfig(factory=world.behaving(behaviour or Behaviour()), negotiations=negotiations)
    async with (
        open_node(
            "a", identity=identity("a"), network=network, advertise=(), legacy=True, webrtc=config, limits=limits
        ) as node,
        world.factory(WebRTCConfig()) as far,
    ):
        assert isinstance(far, FakeConnection)
        connection = await network.host("relay").dial(url("a"), subprotocol=False)
        await connection.send([build_id_frame(RELAY)], text=True)
        await until(lambda: RELAY in node.links)
        yield Page(node, network, connection, world, far)
    assert world.open_connections == 0


def bodies(messages: list[bytes | str]) -> list[tuple[NodeId, Body]]:
    """What came over a channel, with the sender."""
    found = [(envelope.source, parse_body_untrusted(envelope)) for envelope in map(parse_envelope_untrusted, messages)]
    return [(source, body) for source, body in found if not isinstance(body, Tunnel)]


def text(body: Body, to: NodeId) -> str:
    return build_envelope(make_envelope(body, to=to, source=PEER, nonce=f"to {to.hex()}")).decode()


@BOTH_ROLES
async def test_messages_travel_over_the_channel(autojump_clock: MockClock, we_offer: bool) -> None:
    async with open_page() as page:
        node = page.node
        channel = await page.link(we_offer=we_offer)
        info = node.links[PEER]
        assert (info.transport, info.role, info.dialled) == ("webrtc", "legacy", we_offer)
        assert info.candidates == ("host", "host")
        assert info.remote.startswith("192.0.2.1:")
        assert (len(channel.label), channel.protocol) == (40 if we_offer else 4, "")
        assert bodies(await channel.receive()) == [(node.id, FindPeers(node.id))]
        await node.send(PEER, {"to": "the page"})
        messages = await channel.receive()
        assert [type(message) for message in messages] == [str]
        assert bodies(messages) == [(node.id, User({"to": "the page"}))]
        await channel.send(text(User("to us"), node.id))
        message = await node.receive()
        assert (message.data, message.sender, message.proven) == ("to us", PEER, False)
        await channel.send(text(User("by us"), RELAY).encode())
        page.id = RELAY
        while (body := await page.hear()) == FindPeers(node.id):
            pass
        assert body == User("by us")
        assert node.statistics().sizes["legacy_handshakes"] == 0


@BOTH_ROLES
async def test_events_and_the_end_of_a_link(autojump_clock: MockClock, we_offer: bool) -> None:
    """The other side's end is noticed, whether it says so or breaks."""
    for broken in (True, False):
        async with open_page() as page:
            async with page.node.events() as events:
                channel = await page.link(we_offer=we_offer)
                up = await anext(events)
                assert up == LinkUp(PEER, "webrtc", None, ("host", "host"))
                (channel.cut if broken else channel.close)()
                down = await anext(events)
                assert isinstance(down, LinkDown)
                assert (down.id, down.reason) == (PEER, "connection lost" if broken else "closed by the other side")
            assert PEER not in page.node.links
            await page.nothing_left()


async def test_disconnect_closes_the_channel(autojump_clock: MockClock) -> None:
    async with open_page() as page:
        channel = await page.link(we_offer=True)
        await channel.receive()
        await page.node.disconnect(PEER)
        assert await channel.receive() == []
        await page.nothing_left()


async def test_the_end_of_the_node_closes_the_channel(autojump_clock: MockClock) -> None:
    async with open_page() as page:
        await page.link(we_offer=False)
    assert not page.world.channels


async def test_the_end_of_the_node_ends_attempts(autojump_clock: MockClock) -> None:
    async with open_page(Behaviour(unreachable=True)) as page:
        await page.offer()
        await page.hear_description("answer")
        assert len(page.own_connections) == page.node.statistics().sizes["legacy_attempts"] == 1
    assert page.own_connections == []
    assert trio.current_time() < 5


@BOTH_ROLES
async def test_candidates_that_come_one_by_one_before_and_after_the_description(
    autojump_clock: MockClock, we_offer: bool
) -> None:
    async with open_page(Behaviour(candidates=3)) as page, trio.open_nursery() as nursery:
        if we_offer:
            nursery.start_soon(page.node.connect, PEER)
            await page.answer_handshake()
            offer = await page.hear_description("offer")
            await page.say(Signal(CANDIDATE))
            description: JSONValue = {"type": "answer", "sdp": await page.far.create_answer(offer)}
        else:
            await page.say(HandshakeOffer())
            assert await page.hear() == HandshakeAnswer(None, wrtc=True)
            await page.say(Signal(CANDIDATE))
            description = {"type": "offer", "sdp": await page.far.create_offer("0123")}
        await page.say(Signal(description))
        if not we_offer:
            await page.far.accept_answer(await page.hear_description("answer"))
        await page.say(Signal(CANDIDATE))
        await wait_all_tasks_blocked()
        assert page.far.data_channel is None
        await page.say(Signal(CANDIDATE))
        await page.open_channel()
        await until(lambda: PEER in page.node.links)
        await page.say(Signal(CANDIDATE))
        await until(lambda: count(page.node, "legacy_signals_late") == 1)
        assert len(page.own_connections) == 1


@BOTH_ROLES
async def test_garbage_and_copies_change_nothing(autojump_clock: MockClock, we_offer: bool) -> None:
    """They may come from anybody, in the name of the other side."""
    async with open_page(Behaviour(delay=0.1)) as page, trio.open_nursery() as nursery:
        garbage: list[Body] = [Signal({"type": "offer", "sdp": "v=0"}), Signal({"candidate": {"candidate": "x"}})]
        if we_offer:
            nursery.start_soon(page.node.connect, PEER)
            await page.answer_handshake()
            offer = await page.hear_description("offer")
            signal = Signal({"type": "answer", "sdp": await page.far.create_answer(offer)})
        else:
            await page.say(HandshakeOffer())
            await page.hear()
            signal = Signal({"type": "offer", "sdp": await page.far.create_offer("0123")})
        for body in (*garbage, signal, *garbage, signal, HandshakeOffer(), HandshakeAnswer(None, wrtc=True)):
            await page.say(body)
        if not we_offer:
            await page.far.accept_answer(await page.hear_description("answer"))
        await page.open_channel()
        await until(lambda: PEER in page.node.links)
        assert count(page.node, "legacy_signals_invalid") == 4
        assert count(page.node, "legacy_signals_ignored") == 1
        assert count(page.node, "legacy_negotiations") == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Behaviour(fail_at="offer"), "the fake was told to fail"),
        (Behaviour(fail_at="accept"), "the fake was told to fail"),
        (Behaviour(fail_at="channel"), "the fake was told to fail"),
        (Behaviour(hang_at="offer"), "no connection after 10 s"),
        (Behaviour(unreachable=True), "no connection after 10 s"),
    ],
)
async def test_why_an_attempt_failed_is_told(autojump_clock: MockClock, behaviour: Behaviour, reason: str) -> None:
    async with open_page(behaviour) as page, trio.open_nursery() as nursery:
        nursery.start_soon(page.answer)
        with pytest.raises(NegotiationFailed, match=f"WebRTC: {reason}"):
            await page.node.connect(PEER)
        nursery.cancel_scope.cancel()
    assert count(page.node, "legacy_negotiations_failed") == 1


@pytest.mark.parametrize("step", ["answer", "candidate", "channel"])
async def test_an_offer_that_comes_to_nothing_leaves_nothing_behind(autojump_clock: MockClock, step: Step) -> None:
    async with open_page(Behaviour(fail_at=step)) as page:
        await page.offer()
        await page.say(Signal(CANDIDATE))
        await until(lambda: count(page.node, "legacy_negotiations_failed") == 1)
        await page.nothing_left()
        assert PEER not in page.node.links


async def test_one_that_vanishes_is_given_up(autojump_clock: MockClock) -> None:
    async with open_page() as page:
        await page.offer()
        await page.hear_description("answer")
        page.far.close()
        await until(lambda: count(page.node, "legacy_negotiations_failed") == 1, seconds=20)
        assert trio.current_time() > 9
        await page.nothing_left()


async def test_one_that_never_answers_is_told_how_to_begin_itself(autojump_clock: MockClock) -> None:
    async with open_page() as page, trio.open_nursery() as nursery:
        nursery.start_soon(page.node.connect, PEER)
        assert await page.hear() == HandshakeOffer()
        assert await page.hear() == HandshakeAnswer(None, wrtc=True)
        await page.say(Signal({"type": "offer", "sdp": await page.far.create_offer("0123")}))
        await page.far.accept_answer(await page.hear_description("answer"))
        await page.open_channel()


async def test_one_that_does_no_webrtc_gets_no_signal(autojump_clock: MockClock) -> None:
    async with open_page() as page, trio.open_nursery() as nursery:

        async def answer() -> None:
            await page.hear()
            await page.say(HandshakeAnswer(None, wrtc=False))

        nursery.start_soon(answer)
        with pytest.raises(NegotiationFailed, match="no websocket address"):
            await page.node.connect(PEER, prefer="webrtc")
        assert count(page.node, "legacy_negotiations") == count(page.node, "legacy_unsafe") == 0


@pytest.mark.parametrize(
    ("prefer", "slow", "seconds"), [("websocket", True, 3.0), ("websocket", False, 0.0), ("webrtc", True, 0.0)]
)
async def test_an_address_that_leads_nowhere_gives_way_to_webrtc(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, prefer: Preference, slow: bool, seconds: float
) -> None:
    """When it is refused, or takes longer than three seconds; unless WebRTC is preferred."""
    async with open_page() as page, trio.open_nursery() as nursery:
        dialled: list[str] = []

        async def dial(self: object, where: str, **_: object) -> MemoryConnection:
            dialled.append(where)
            await trio.sleep(100 if slow else 0)
            raise OSError("nobody there")

        monkeypatch.setattr("trio_relay.transports.memory_host.MemoryHost.dial", dial)
        nursery.start_soon(partial(page.node.connect, PEER, prefer=prefer))
        await page.answer_handshake("ws://192.0.2.1:1")
        began = trio.current_time()
        offer = await page.hear_description("offer")
        assert dialled == (["ws://192.0.2.1:1"] if prefer == "websocket" else [])
        assert trio.current_time() - began == pytest.approx(seconds, abs=0.1)
        await page.say(Signal({"type": "answer", "sdp": await page.far.create_answer(offer)}))
        await page.open_channel()


@BOTH_ROLES
async def test_a_websocket_that_comes_first_ends_the_attempt(autojump_clock: MockClock, we_offer: bool) -> None:
    async with open_page(Behaviour(unreachable=True)) as page, trio.open_nursery() as nursery:
        if we_offer:
            nursery.start_soon(page.node.connect, PEER)
            await page.answer()
        else:
            await page.offer()
        await until(lambda: page.own_connections)
        connection = await page.network.host("page").dial(url("a"), subprotocol=False)
        await connection.send([build_id_frame(PEER)], text=True)
        await until(lambda: PEER in page.node.links)
        assert page.node.links[PEER].transport == "memory"
        await page.nothing_left()


async def test_a_websocket_beside_a_channel_is_refused_before_it_gets_our_id(autojump_clock: MockClock) -> None:
    async with open_page() as page:
        channel = await page.link(we_offer=True)
        connection = await page.network.host("page").dial(url("a"), subprotocol=False)
        await connection.send([build_id_frame(PEER)], text=True)
        assert await connection.receive() == []
        assert page.node.links[PEER].transport == "webrtc"
        assert channel.is_open


async def test_of_two_websockets_at_once_one_gets_our_id(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other is refused, though the first is no link yet: an original would end both."""
    async with open_page() as page:
        send = MemoryConnection.send

        async def send_slowly(self: MemoryConnection, pieces: Sequence[Buffer], *, text: bool = False) -> None:
            await trio.sleep(1)
            await send(self, pieces, text=text)

        ends = [await page.network.host("page").dial(url("a"), subprotocol=False) for _ in range(2)]
        monkeypatch.setattr(MemoryConnection, "send", send_slowly)
        for end in ends:
            await send(end, [build_id_frame(PEER)], text=True)
        await until(lambda: PEER in page.node.links)
        monkeypatch.undo()
        firsts = [[str(message) for message in (await end.receive())[:1]] for end in ends]
        assert sorted(firsts) == [[], [build_id_frame(page.node.id).decode()]]
        assert count(page.node, "legacy_refused_duplicate") == 1


async def test_signals_travel_through_a_gateway_without_webrtc(autojump_clock: MockClock) -> None:
    """Of which our node is a leaf, and the original linked with it."""
    network, world = MemoryNetwork(), FakeWebRTC()
    config = WebRTCConfig(factory=world.factory)
    async with (
        open_node("a", identity=identity("a"), network=network, legacy=True) as gateway,
        open_node(None, [url("a")], network=network, legacy=True, webrtc=config) as node,
        world.factory(WebRTCConfig()) as far,
    ):
        assert isinstance(far, FakeConnection)
        connection = await network.host("page").dial(url("a"), subprotocol=False)
        await connection.send([build_id_frame(PEER)], text=True)
        await until(lambda: PEER in gateway.links and gateway.id in node.links)
        page = Page(node, network, connection, world, far)
        page.path = ()
        first = await connection.receive()
        assert build_id_frame(gateway.id).decode() in first
        await page.say(User("here I am"))
        assert (await node.receive()).data == "here I am"
        channel = await page.link(we_offer=True)
        assert node.links[PEER].transport == "webrtc"
        await channel.send(text(User("directly"), node.id))
        assert (await node.receive()).data == "directly"


async def test_an_original_is_told_of_a_proven_address_alone() -> None:
    """On real sockets, for in a memory network there are no addresses that an original could dial."""
    world = FakeWebRTC()
    config = WebRTCConfig(factory=world.factory)
    async with (
        open_node("127.0.0.1:0", legacy=True, webrtc=config) as node,
        open_node(None, node.urls),
    ):
        await until(lambda: node.statistics().relaying)
        connection = await dial_websocket(node.urls[0], limits=Limits(), subprotocol=False)
        await connection.send([build_id_frame(PEER)], text=True)
        await until(lambda: PEER in node.links)
        asker = node_id(701)
        offer = make_envelope(HandshakeOffer(), to=node.id, source=asker, nonce="1", path=(asker, PEER))
        await connection.send([build_envelope(offer)], text=True)
        found: list[Body] = []
        with trio.fail_after(5):
            while not found:
                texts = [text for text in await connection.receive() if asker.hex() in str(text)[:60]]
                found = [parse_body_untrusted(parse_envelope_untrusted(text)) for text in texts]
        assert found == [HandshakeAnswer(node.urls[0], wrtc=False)]
        connection.abort()


async def test_attempts_share_the_node_s_bound(autojump_clock: MockClock) -> None:
    async with open_page(Behaviour(hang_at="answer"), negotiations=1) as page, trio.open_nursery() as nursery:
        await page.offer()
        await until(lambda: page.own_connections)
        page.id = node_id(701)
        nursery.start_soon(page.answer_handshake)
        with pytest.raises(NegotiationFailed, match="1 other connections are being made"):
            await page.node.connect(page.id)


async def test_a_bug_ends_the_node_and_is_not_hidden(autojump_clock: MockClock) -> None:
    async def meet_it() -> None:
        async with open_page(Behaviour(channel_error=RuntimeError("a bug in a callback"))) as page:
            await page.offer()
            await page.far.accept_answer(await page.hear_description("answer"))
            await trio.sleep(10)

    with pytest.raises(RuntimeError, match="a bug in a callback"):
        await meet_it()


@pytest.mark.parametrize("step", range(12))
async def test_a_connect_that_is_cancelled_leaves_nothing_behind(autojump_clock: MockClock, step: int) -> None:
    """At any moment of it."""
    async with open_page(Behaviour(delay=0.1)) as page, trio.open_nursery() as nursery:
        nursery.start_soon(page.answer)
        with trio.move_on_after(0.05 * step) as scope:
            await page.node.connect(PEER)
        if scope.cancelled_caught:
            await page.nothing_left()
            assert PEER not in page.node.links
        else:
            assert PEER in page.node.links
        nursery.cancel_scope.cancel()
