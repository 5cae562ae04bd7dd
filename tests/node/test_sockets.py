"""The node on real sockets of this machine: ws and wss, IPv6, several addresses, its pages, and what can't start."""

from __future__ import annotations

import json
import logging
import socket
import ssl

import h11
import pytest
import trio
import trustme

from trio_relay import Limits, Node, open_node
from trio_relay.wire.urls import parse_ws_url

from .support import count, relays_of, take, until


class Certificates:
    """An authority, what a server presents, and what a client trusts."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1", "localhost").configure_cert(self.server)
        self.client = ssl.create_default_context()
        self.authority.configure_trust(self.client)


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


async def exchange(one: Node, other: Node) -> None:
    """A confirmed message each way, and many that are not confirmed."""
    with trio.fail_after(10):
        await one.deliver(other.id, b"\x00there")
        await other.deliver(one.id, "and back")
        for number in range(100):
            await one.send(other.id, number)
        assert await take(other, 101) == [b"\x00there", *range(100)]
        assert await take(one, 1) == ["and back"]


async def test_leaves_behind_a_relay() -> None:
    async with open_node() as relay, open_node(None, relay.urls) as alice, open_node(None, relay.urls) as bob:
        await until(lambda: relays_of(alice) and relays_of(bob))
        assert relay.urls[0].startswith("ws://127.0.0.1:")
        assert alice.links[relay.id].transport == "websocket"
        assert relay.links[alice.id].remote.startswith("127.0.0.1:")
        await exchange(alice, bob)
        assert (await alice.deliver(bob.id, bytes(60 * 1024))).hops == 2


async def test_three_relays() -> None:
    async with (
        open_node() as first,
        open_node(bootstrap=first.urls) as second,
        open_node(bootstrap=first.urls + second.urls) as third,
    ):
        nodes = (first, second, third)
        await until(lambda: all(relays_of(node) == 2 for node in nodes), seconds=10)
        assert all(node.statistics().relaying for node in nodes)
        await exchange(second, third)


async def test_everything_over_tls(certificates: Certificates) -> None:
    client = certificates.client
    async with (
        open_node(tls=certificates.server, client_tls=client) as relay,
        open_node(None, relay.urls, client_tls=client) as alice,
        open_node(None, relay.urls, client_tls=client) as bob,
    ):
        assert relay.urls[0].startswith("wss://127.0.0.1:")
        await until(lambda: relays_of(alice) and relays_of(bob))
        await exchange(alice, bob)


async def test_untrusted_certificate_is_retried_quietly_and_explained(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_relay")
    stranger = Certificates()
    async with (
        open_node(tls=certificates.server, client_tls=certificates.client) as relay,
        open_node(None, relay.urls, client_tls=stranger.client) as careful,
        open_node(None, relay.urls, client_tls=certificates.client) as friend,
    ):
        await until(lambda: count(careful, "handshakes_failed") >= 2)
        assert careful.links == {}
        assert f"bootstrap link with {relay.urls[0]} failed: certificate of" in caplog.text
        assert "not trusted" in caplog.text
        assert all(record.levelno == logging.DEBUG for record in caplog.records)
        await until(lambda: count(relay, "transport_tls_failed") >= 2)
        await until(lambda: relays_of(friend))
        await exchange(friend, relay)


async def test_old_tls_is_a_mistake() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ValueError, match="TLS"):
        async with open_node(tls=context):
            pytest.fail("expected a ValueError")


async def test_tls_version_that_was_left_to_the_library_is_raised() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    async with open_node(tls=context):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


async def test_ipv6() -> None:
    async with open_node("[::1]:0") as relay, open_node(None, relay.urls) as alice, open_node(None, relay.urls) as bob:
        assert relay.urls[0].startswith("ws://[::1]:")
        await until(lambda: relays_of(alice) and relays_of(bob))
        await exchange(alice, bob)


async def test_two_addresses() -> None:
    async with open_node(["127.0.0.1:0", "[::1]:0"]) as relay:
        four, six = relay.urls
        async with open_node(None, [four]) as alice, open_node(None, [six]) as bob:
            await until(lambda: relays_of(alice) and relays_of(bob))
            assert relay.links[alice.id].remote.startswith("127.0.0.1:")
            assert relay.links[bob.id].remote.startswith("[::1]:")
            await exchange(alice, bob)


async def test_unspecified_address_is_advertised_as_one_that_can_be_dialled() -> None:
    async with open_node("0.0.0.0:0") as relay:
        (told,) = relay.urls
        assert parse_ws_url(told).host != "0.0.0.0"
        async with open_node(None, [told]) as leaf:
            await until(lambda: relays_of(leaf))
            await exchange(leaf, relay)


# Pages


async def get(node: Node, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """One HTTP request to the node."""
    where = parse_ws_url(node.urls[0])
    http = h11.Connection(h11.CLIENT)
    async with await trio.open_tcp_stream(where.host, where.port) as stream:
        request = h11.Request(method=method, target=target, headers=[("host", where.authority)])
        await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        body = b""
        with trio.fail_after(5):
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Response):
                    response = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    break
    headers = {name.decode(): value.decode() for name, value in response.headers}
    return response.status_code, headers, body


async def test_pages() -> None:
    async with open_node() as relay, open_node(None, relay.urls) as leaf:
        await until(lambda: relays_of(leaf))
        status, headers, body = await get(relay, "/")
        assert (status, headers["upgrade"]) == (426, "websocket")

        status, headers, body = await get(relay, "/health")
        assert (status, headers["content-type"]) == (200, "application/json")
        health = json.loads(body)
        assert health["status"] == "ok"
        assert 0 <= health["uptime"] < 60_000
        assert health["overlay"] == {"id": relay.id.hex(), "links": 1, "relaying": True}

        assert (await get(relay, "/health", "DELETE"))[0] == 405
        assert (await get(relay, "/metrics", "POST"))[0] == 405
        assert (await get(relay, "/nothing/here"))[0] == 404
        assert (await get(relay, "/health", "HEAD"))[2] == b""


async def test_metrics_show_every_counter() -> None:
    async with open_node() as relay, open_node(None, relay.urls) as leaf:
        await until(lambda: relays_of(leaf))
        await leaf.deliver(relay.id, 1)
        status, headers, body = await get(relay, "/metrics")
        lines = body.decode().splitlines()
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'trio_relay_events_total{name="messages_received"} 1.0' in lines
        assert 'trio_relay_size{table="mailbox_messages"} 1.0' in lines
        assert "trio_relay_links 1.0" in lines
        assert "trio_relay_relaying 1.0" in lines


async def test_metrics_are_for_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            own = probe.getsockname()[0]
        except OSError:
            own = "127.0.0.1"
    monkeypatch.setattr("trio_relay.node.pages.scope", lambda host: None)
    async with open_node(f"{own}:0") as node:
        assert (await get(node, "/metrics"))[0] == 403
        assert (await get(node, "/health"))[0] == 200


# What can't start


async def test_port_that_is_taken() -> None:
    async with open_node() as node:
        taken = node.urls[0].removeprefix("ws://")
        with pytest.raises(OSError, match="in use"):
            async with open_node(["127.0.0.1:0", taken]):
                pytest.fail("expected an OSError")


@pytest.mark.parametrize(
    "bad",
    ["", "ws://", "http://127.0.0.1:1", "127.0.0.1:1", "ws://127.0.0.1:99999", "ws://user@host:1", "ws://host:1/#f"],
)
async def test_malformed_urls(bad: str) -> None:
    for bootstrap, advertise in (([bad], None), ([], [bad])):
        with pytest.raises(ValueError, match="expected"):
            async with open_node(None, bootstrap, advertise=advertise):
                pytest.fail("expected a ValueError")


@pytest.mark.parametrize("bad", ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "::1:0", "ws://127.0.0.1:0"])
async def test_malformed_addresses_to_listen_on(bad: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        async with open_node(bad):
            pytest.fail("expected a ValueError")


async def test_too_many_advertised_urls() -> None:
    with pytest.raises(ValueError, match="at most 4 URLs to advertise, not 5"):
        async with open_node(advertise=[f"ws://127.0.0.1:{port}" for port in range(1, 6)]):
            pytest.fail("expected a ValueError")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(websocket_message=60_000), "websocket_message must be at least"),
        (Limits(hops=256), "limits.hops must be at most 255: a frame has one byte for it"),
        (Limits(detours=256), "limits.detours must be at most 255: a frame has one byte for it"),
        (Limits(read_size=1 << 21), "limits.read_size must be at most 1048576"),
    ],
)
async def test_limit_that_no_node_can_keep(limits: Limits, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        async with open_node(None, limits=limits):
            pytest.fail("expected a ValueError")


async def test_limits_at_their_most() -> None:
    limits = Limits(hops=255, detours=255, read_size=1 << 20)
    async with open_node(limits=limits) as relay, open_node(None, relay.urls, limits=limits) as leaf:
        assert (await leaf.deliver(relay.id, bytes(60_000))).hops == 1


# Time


async def test_end_over_real_sockets_is_quick() -> None:
    async with open_node() as relay:
        async with open_node(None, relay.urls) as alice, open_node(None, relay.urls) as bob:
            await until(lambda: relays_of(alice) and relays_of(bob))
            for _ in range(500):
                await alice.send(bob.id, bytes(1000))
            began = trio.current_time()
        assert trio.current_time() - began < 1
    assert trio.current_time() - began < 2


async def test_links_that_are_idle_are_kept_by_pings() -> None:
    limits = Limits(ping_after=0.1, dead_after=0.3)
    async with open_node(limits=limits) as relay, open_node(None, relay.urls, limits=limits) as leaf:
        await until(lambda: relays_of(leaf))
        async with leaf.events() as events:
            with trio.move_on_after(0.8):
                pytest.fail(f"expected no event, not {await anext(events)}")
        assert (await leaf.deliver(relay.id, 1)).hops == 1
