"""Whoever has proven nothing: each fault shows in a counter, ends its own connection, and harms no honest peer."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio

from trio_relay import Identity, Limits, NegotiationFailed, Node, open_node
from trio_relay.identity import verify
from trio_relay.overlay.handshake import Acceptor
from trio_relay.transports.admission import Admission, TransportStatistics
from trio_relay.transports.connection import Connection
from trio_relay.transports.dial import dial_websocket
from trio_relay.transports.http import serve_http
from trio_relay.transports.routes import Request, Route
from trio_relay.wire.hello import Reason, parse_refusal_untrusted
from trio_relay.wire.urls import authority, parse_ws_url

from .raw_peer import RawPeer, make_record, open_raw_peer, open_stranger
from .support import HonestPair, count, honest_pair, relays_of, until

STRICT = Limits(http_timeout=0.3, handshake_timeout=0.5, close_timeout=0.3)


@asynccontextmanager
async def busy_relay(limits: Limits = STRICT) -> AsyncIterator[tuple[Node, HonestPair]]:
    """A relay with an honest pair behind it, which goes on to the end of the block and once more after it."""
    async with open_node(limits=limits) as relay, honest_pair(relay.urls) as pair:
        yield relay, pair


async def connect(node: Node) -> trio.SocketStream:
    where = parse_ws_url(node.urls[0])
    return await trio.open_tcp_stream(where.host, where.port)


async def read_to_end(stream: trio.SocketStream) -> bytes:
    data = b""
    with trio.fail_after(5):
        try:
            async for chunk in stream:
                data += chunk
        except trio.BrokenResourceError:
            pass
    return data


@pytest.mark.parametrize(
    "garbage",
    [b"\x00" * 500, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\xff\xfe\r\n\r\n", b"QUIT\r\n\r\n"],
    ids=["zeros", "tls", "bytes", "text"],
)
async def test_garbage_on_the_port(garbage: bytes) -> None:
    async with busy_relay() as (relay, pair), await connect(relay) as stream:
        await stream.send_all(garbage)
        answer = await read_to_end(stream)
        assert answer.startswith(b"HTTP/1.1 4")
        ended = count(relay, "transport_http_refused") + count(relay, "transport_http_timeout")
        assert ended == 1
        await pair.more()


async def test_request_that_never_ends() -> None:
    async with busy_relay() as (relay, pair), await connect(relay) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: here\r\n")
        with trio.move_on_after(0.25):
            while True:
                await stream.send_all(b"x-more: and more\r\n")
                await pair.more(1)
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 408")
        assert count(relay, "transport_http_timeout") == 1


async def test_head_that_is_too_large() -> None:
    async with busy_relay() as (relay, pair), await connect(relay) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: here\r\n" + b"x: " + b"y" * 20_000)
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 431")
        assert count(relay, "transport_http_refused") == 1
        await pair.more()


async def test_upgrade_without_our_subprotocol() -> None:
    async with busy_relay() as (relay, pair):
        connection = await dial_websocket(relay.urls[0], limits=STRICT, subprotocol=False)
        assert await connection.receive() == []
        assert connection.close_code == 1002
        connection.abort()
        assert count(relay, "legacy_refused") == 1
        await pair.more()


async def test_handshake_that_stalls() -> None:
    async with busy_relay() as (relay, pair):
        failed = count(relay, "handshakes_failed")
        async with open_stranger(relay.urls[0]) as silent, open_stranger(relay.urls[0]) as half:
            await half.message()
            began = trio.current_time()
            await pair.more()
            await silent.ended()
            await half.ended()
            assert trio.current_time() - began < 2
        await until(lambda: count(relay, "handshakes_failed") == failed + 2)


async def refusal_of(peer: RawPeer) -> int:
    """The reason with which the node refuses us."""
    with trio.fail_after(5):
        refusal = parse_refusal_untrusted(await peer.message())
    assert refusal is not None
    assert await peer.ended() == 1008
    return refusal.reason


async def test_handshake_that_is_replayed() -> None:
    async with busy_relay() as (relay, pair), open_stranger(relay.urls[0]) as honest:
        dialler = honest.dialler(authority(relay.urls[0]))
        reply = dialler.receive_hello(await honest.message())
        await honest.send(reply)
        dialler.receive_proof(await honest.message())
        assert honest.id in relay.links
        async with open_stranger(relay.urls[0]) as thief:
            await thief.message()
            await thief.send(reply)
            assert await refusal_of(thief) == Reason.BAD_PROOF
        await until(lambda: count(relay, "handshakes_failed") == 1)
        assert honest.id in relay.links
        await pair.more()


async def test_handshake_that_proves_the_wrong_key() -> None:
    async with busy_relay() as (relay, pair), open_stranger(relay.urls[0]) as liar:
        dialler = liar.dialler(authority(relay.urls[0]))
        dialler.sign = Identity.generate().sign
        await liar.send(dialler.receive_hello(await liar.message()))
        assert await refusal_of(liar) == Reason.BAD_PROOF
        await until(lambda: count(relay, "handshakes_failed") == 1)
        assert liar.id not in relay.links
        await pair.more()


async def test_handshake_that_was_meant_for_another_address() -> None:
    async with busy_relay() as (relay, pair), open_stranger(relay.urls[0]) as proxied:
        dialler = proxied.dialler("192.0.2.7:80", from_record=True)
        await proxied.send(dialler.receive_hello(await proxied.message()))
        assert await refusal_of(proxied) == Reason.WRONG_AUTHORITY
        await until(lambda: count(relay, "handshakes_failed") == 1)
        await pair.more()


async def test_handshake_with_the_record_of_another() -> None:
    async with busy_relay() as (relay, pair), open_stranger(relay.urls[0]) as thief:
        dialler = thief.dialler(authority(relay.urls[0]))
        dialler.record = make_record(Identity.generate()).raw
        await thief.send(dialler.receive_hello(await thief.message()))
        await thief.ended()
        await until(lambda: count(relay, "handshakes_failed") == 1)
        assert thief.id not in relay.links
        await pair.more()


@pytest.mark.parametrize("size", [33 * 1024, 129 * 1024], ids=["for a handshake", "for a message"])
async def test_first_message_that_is_too_large(size: int) -> None:
    async with busy_relay() as (relay, pair), open_stranger(relay.urls[0]) as peer:
        await peer.message()
        await peer.send(b"TRLH\x02" + bytes(size))
        await peer.ended()
        await until(lambda: count(relay, "handshakes_failed") == 1)
        await pair.more()


async def test_text_instead_of_the_handshake() -> None:
    async with busy_relay() as (relay, pair), open_stranger(relay.urls[0]) as peer:
        await peer.connection.send([b'{"to":"me"}'], text=True)
        await peer.ended()
        await until(lambda: count(relay, "handshakes_failed") == 1)
        await pair.more()


# The other end of a dial


async def impostor(claimed: Identity, own: Identity, connection: Connection, request: Request | None) -> None:
    """Says that it is `claimed` and signs with another key."""
    record = make_record(claimed).raw
    acceptor = Acceptor(claimed.public_key, own.sign, verify, bytes(32), record, (), lambda *_: None)
    await connection.send([acceptor.greet()])
    (reply,) = await connection.receive()
    assert isinstance(reply, bytes)
    proof, _ = acceptor.receive(bytes(reply))
    await connection.send([proof])
    await connection.receive()


async def test_bootstrap_that_does_not_own_its_key() -> None:
    victim = Identity.generate()
    async with trio.open_nursery() as nursery:
        handler = partial(impostor, victim, Identity.generate())
        admission = Admission(STRICT, TransportStatistics())
        serve = partial(serve_http, "127.0.0.1:0", [Route("/", upgrade=handler)], limits=STRICT, admission=admission)
        bound: list[str] = await nursery.start(serve)
        async with open_node(None, [f"ws://{bound[0]}"]) as careful:
            await until(lambda: count(careful, "handshakes_failed") >= 1)
            assert careful.links == {}
        nursery.cancel_scope.cancel()


async def test_address_in_a_record_that_leads_to_somebody_else() -> None:
    """Who dials it finds the wrong id there, and does not take it for the right one."""
    quick = Limits(connect_timeout=1)
    async with (
        busy_relay() as (relay, pair),
        open_node(None, relay.urls, advertise=relay.urls) as liar,
        open_node(None, relay.urls, limits=quick) as careful,
    ):
        await until(lambda: relays_of(careful) and relays_of(liar))
        with pytest.raises(NegotiationFailed):
            await careful.connect(liar.id)
        assert count(careful, "dials_failed") >= 1
        assert set(careful.links) == {relay.id}
        assert not liar.statistics().relaying
        await pair.more()


# Many of them


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_thousand_connections_that_say_nothing(many_descriptors: None) -> None:
    patient = Limits(http_timeout=30, handshake_timeout=30)
    async with busy_relay(patient) as (relay, pair), AsyncExitStack() as stack:
        silent: list[trio.SocketStream] = []

        async def open_one() -> None:
            silent.append(await stack.enter_async_context(await connect(relay)))

        before = count(relay, "transport_accepted")
        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(open_one)
        await until(lambda: count(relay, "transport_accepted") == before + 1000)
        # The oldest went to make room for the newest; peers that had proven their ids stayed.
        assert count(relay, "transport_unproven_evicted") == 1000 - patient.unproven_connections
        assert await silent[0].receive_some() == b""
        await pair.more()
        async with open_raw_peer(relay.urls[0]) as late:
            await late.ping(relay.id)
            assert late.id in relay.links
