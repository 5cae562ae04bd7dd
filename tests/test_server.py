"""One port for the overlay's node and the relay server, in this process, over real sockets."""

from __future__ import annotations

import json
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import trio

import trio_relay
from trio_relay.limits import Limits
from trio_relay.server import NodeSettings, Reloaded, Server, ServerConfig, open_server
from trio_relay.transports.routes import Request, Response
from trio_relay.wsrelay import BlobConfig, EnvKeyStore, FileKeyStore, Hooks, RelayConfig

from .transports.support import make_authority
from .wsrelay.support import Clients, eventually, routed

LIMITS: Final = Limits(close_timeout=0.5)
PATIENCE: Final = 10.0


def relay_config(**options: Any) -> RelayConfig:
    defaults: dict[str, Any] = {"channels": ["pwa"], "key_store": False, "listen": None, "drain_timeout": 0.05}
    return RelayConfig(**{**defaults, **options})


def make_config(overlay: NodeSettings | None = None, **options: Any) -> ServerConfig:
    defaults: dict[str, Any] = {"listen": "127.0.0.1:0", "relay": relay_config(), "limits": LIMITS}
    return ServerConfig(overlay=overlay, **{**defaults, **options})


BOTH: Final = make_config(NodeSettings())


class Serving(Clients):
    """A server, and clients of it."""

    server: Server

    async def get(self, path: str, headers: str = "", method: str = "GET") -> tuple[int, bytes]:
        """Status and body of a page."""
        request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\r\n"
        head, _, body = (await self.request(request.encode())).partition(b"\r\n\r\n")
        return int(head.split()[1]), body


@asynccontextmanager
async def serving(config: ServerConfig = BOTH) -> AsyncIterator[Serving]:
    async with trio.open_nursery() as nursery:
        async with open_server(config) as server:
            place = server.urls[0].partition("://")[2]

            async def dial() -> trio.abc.Stream:
                host, _, port = place.rpartition(":")
                return await trio.open_tcp_stream(host, int(port))

            clients = Serving(nursery, dial)
            clients.server = server
            try:
                with trio.fail_after(PATIENCE):
                    yield clients
                    await server.aclose()
            finally:
                await clients.abort()
        nursery.cancel_scope.cancel()


# What is served where


async def test_a_node_and_clients_of_the_relay_share_a_port() -> None:
    async with serving() as served, trio_relay.open_node(None, served.server.urls) as peer:
        await peer.wait_linked()
        assert served.server.node is not None
        assert served.server.node.id in peer.links
        alice, bob = await served.join("pwa:alice123"), await served.join("pwa:bobbobbob")
        await alice.send(routed("pwa:alice123", "pwa:bobbobbob", {"n": 1}))
        assert await bob.receive() == routed("pwa:alice123", "pwa:bobbobbob", {"n": 1})
        status, body = await served.get("/health")
        health = json.loads(body)
        assert (status, health["status"], health["connections"]) == (200, "ok", {"pwa": {"active": 2, "peak": 2}})
        assert health["uptime"] >= 0
        assert (health["overlay"]["id"], health["overlay"]["links"]) == (served.server.node.id.hex(), 1)


async def test_metrics_of_both_are_one_page() -> None:
    async with serving() as served:
        status, body = await served.get("/metrics")
        families = Counter(line.split()[2] for line in body.decode().splitlines() if line.startswith("# TYPE "))
        assert status == 200
        assert {"trio_relay_links", "trio_relay_ws_peers"} <= families.keys()
        assert families.most_common(1)[0][1] == 1


async def test_metrics_are_for_the_operator() -> None:
    async with serving(make_config(NodeSettings(), relay=relay_config(admin_key="admin-key-1"))) as served:
        proxied = "X-Forwarded-For: 192.0.2.1\r\n"
        status, body = await served.get("/metrics", proxied)
        assert (status, b"trio_relay_links" in body) == (403, False)
        status, body = await served.get("/metrics", proxied + "Authorization: Bearer admin-key-1\r\n")
        assert (status, b"trio_relay_links" in body) == (200, True)


@pytest.mark.parametrize(
    ("overlay", "path", "status"),
    [
        (True, "/", 426),
        (True, "/stats", 200),
        (True, "/health/more", 404),
        (True, "/nothing", 404),
        (False, "/", 404),
        (False, "/health", 200),
    ],
)
async def test_who_answers_a_request(overlay: bool, path: str, status: int) -> None:
    async with serving(make_config(NodeSettings() if overlay else None)) as served:
        assert (await served.get(path))[0] == status


@pytest.mark.parametrize("target", ["/pwa", "/nothing/alice123", "/health", "/health/alice123", "/metrics"])
async def test_the_relay_refuses_other_paths_in_its_own_words(target: str) -> None:
    async with serving() as served:
        frames, code, reason = await (await served.connect(target)).end()
        assert frames[0]["payload"]["code"] == "INVALID_URL"
        assert (code, reason) == (1002, "Invalid URL")


async def test_a_page_that_the_application_answers_stays_its_own() -> None:
    async def answer(request: Request) -> Response | None:
        if request.path == "/health/more":
            return Response.typed(200, b"{}", "application/json")
        return Response.text(200, "mine") if request.path in ("/health", "/metrics") else None

    relay = relay_config(hooks=Hooks(on_http_request=answer))
    async with serving(make_config(NodeSettings(), relay=relay)) as served:
        assert await served.get("/health") == (200, b"mine")
        assert await served.get("/health/more") == (200, b"{}")
        assert await served.get("/metrics") == (200, b"mine")


async def test_the_overlay_alone_and_the_relay_alone() -> None:
    async with serving(make_config(NodeSettings(), relay=None)) as served:
        assert served.server.relay is None
        assert json.loads((await served.get("/health"))[1])["connections"] == {}
        assert (await served.get("/pwa/alice123"))[0] == 404
    async with serving(make_config(None)) as served:
        assert served.server.node is None
        assert "overlay" not in json.loads((await served.get("/health"))[1])
        await served.join("pwa:alice123")


async def test_clients_of_the_relay_are_not_pushed_out_by_strangers() -> None:
    limits = replace(LIMITS, unproven_connections=4)
    async with serving(make_config(NodeSettings(), limits=limits)) as served:
        alice = await served.join("pwa:alice123")
        strangers = [await served._dial() for _ in range(8)]
        for stranger in strangers[:4]:
            assert await stranger.receive_some() == b""
        assert await alice.settle() == []


async def test_tls_on_the_port() -> None:
    authority = make_authority("localhost", "127.0.0.1")
    config = make_config(NodeSettings(client_tls=authority.client), tls=authority.server)
    async with open_server(config) as server:
        (url,) = server.urls
        assert url.startswith("wss://127.0.0.1:")
        async with trio_relay.open_node(None, [url], client_tls=authority.client) as peer:
            with trio.fail_after(PATIENCE):
                await peer.wait_linked()
    async with open_server(make_config(tls=authority.server)) as server:
        assert server.urls[0].startswith("wss://127.0.0.1:")


# Configuration


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"relay": None}, "expected an overlay node, a relay server, a PeerJS broker or a hub"),
        ({"listen": []}, "at least one address"),
        ({"listen": "nowhere"}, "nowhere"),
        ({"relay": relay_config(listen="127.0.0.1:0")}, "listen=None"),
    ],
)
def test_what_can_not_be_served(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make_config(**options)


@pytest.mark.parametrize(
    "options", [{"channels": ["blob"], "blob_store": False}, {"channels": ["blobs", "healthy", "my/health"]}]
)
def test_names_that_are_free(options: dict[str, Any]) -> None:
    assert make_config(relay=relay_config(**options)).relay is not None


@pytest.mark.parametrize("overlay", [None, NodeSettings()])
async def test_an_address_that_is_taken(overlay: NodeSettings | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = make_config(overlay, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(OSError, match="in use"):
            async with open_server(config):
                pass


async def test_a_blob_store_that_can_not_be_opened(tmp_path: Path) -> None:
    relay = relay_config(blob_store=BlobConfig(file=str(tmp_path / "nowhere" / "blobs.sqlite")))
    for overlay in (None, NodeSettings()):
        with pytest.raises(OSError, match="No such file"):
            async with open_server(make_config(overlay, relay=relay)):
                pass


# Another configuration while it runs


@pytest.mark.parametrize("overlay", [None, NodeSettings()])
async def test_limits_change_while_a_client_stays(overlay: NodeSettings | None) -> None:
    async with serving(make_config(overlay)) as served:
        alice = await served.join("pwa:alice123")
        relay = relay_config(channels=["pwa", "ext"], rate_limit_max_messages=1)
        assert await served.server.reload(make_config(overlay, relay=relay)) == Reloaded(
            ("relay.channels", "relay.rate_limit_max_messages")
        )
        carol = await served.connect("ext:carol123")
        for _ in range(2):
            await carol.send(routed("ext:carol123", "pwa:alice123"))
        assert (await carol.receive())["payload"]["code"] == "RATE_LIMITED"
        assert await alice.receive() == routed("ext:carol123", "pwa:alice123")
        # For those who are connected, too: alice has sent two messages when she joined.
        await alice.send(routed("pwa:alice123", "ext:carol123"))
        assert (await alice.receive())["payload"]["code"] == "RATE_LIMITED"
        # Compared with what is in force, not with the first one.
        assert await served.server.reload(make_config(overlay, relay=relay)) == Reloaded()


async def test_what_can_not_be_changed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "some-key-1")
    async with serving() as served:
        alice = await served.join("pwa:alice123")
        relay = relay_config(key_store=EnvKeyStore("KEYS"), stats_window=7.0, max_watches=3, blob_store=False)
        config = ServerConfig(
            listen="127.0.0.1:1", overlay=NodeSettings(legacy=True), relay=relay, limits=replace(LIMITS, hops=3)
        )
        kept = ("listen", "limits.hops", "overlay.legacy", "relay.key_store", "relay.stats_window", "relay.blob_store")
        assert await served.server.reload(config) == Reloaded(("relay.max_watches",), kept)
        assert await served.server.reload(make_config(None)) == Reloaded(("relay.max_watches",), ("overlay",))
        assert await served.server.reload(make_config(NodeSettings(), relay=None)) == Reloaded((), ("relay",))
        assert await alice.settle() == []


async def test_a_configuration_that_does_not_fit_changes_nothing() -> None:
    async with serving(make_config(relay=relay_config(max_message=50_000))) as served:
        relay = relay_config(max_message=10_000, queue_bytes=20_000, max_watches=3)
        with pytest.raises(ValueError, match="queue_bytes"):
            await served.server.reload(make_config(relay=relay))
        assert await served.server.reload(make_config(relay=relay_config(max_message=50_000))) == Reloaded()


async def test_keys_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("first-key\nother-key\n")
    relay = relay_config(key_store=FileKeyStore(file, watch=False))
    async with serving(make_config(relay=relay)) as served:
        alice = await served.join("/pwa/alice123?key=first-key")
        bob = await served.join("/pwa/bobbobbob?key=other-key")
        file.write_text("first-key\nthird-key\n")
        assert await served.server.reload(make_config(relay=relay)) == Reloaded()
        assert (await bob.end())[1] == 1008
        await served.join("/pwa/carol123?key=third-key")
        assert await alice.settle() == []


# The end


@pytest.mark.parametrize("overlay", [None, NodeSettings()])
async def test_clients_are_told_that_it_ends(overlay: NodeSettings | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_relay.server")
    async with serving(make_config(overlay)) as served:
        alice = await served.join("pwa:alice123")
        await served.server.aclose()
        frames, code, _ = await alice.end()
        assert [frame["payload"]["code"] for frame in frames] == ["SHUTTING_DOWN"]
        assert code == 1001
        await served.server.aclose()
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"listening on {served.server.urls[0]}", "draining: 1 clients, 0 links", "closed"]


async def test_neighbours_hear_a_goodbye() -> None:
    async with trio_relay.open_node() as neighbour, neighbour.events() as events:
        async with serving(make_config(NodeSettings(bootstrap=neighbour.urls))):
            assert isinstance(await anext(events), trio_relay.LinkUp)
        down = await anext(events)
        assert isinstance(down, trio_relay.LinkDown)
        assert down.reason == "shutdown"


async def test_cancelled_it_ends_without_draining() -> None:
    config = make_config(NodeSettings(), relay=relay_config(drain_timeout=1000))
    with trio.fail_after(PATIENCE), trio.CancelScope() as scope:
        async with serving(config) as served:
            await served.join("pwa:alice123")
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_what_the_block_raises_comes_out_alone() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_server(BOTH):
            raise KeyError("mine")


async def test_new_clients_are_refused_while_it_drains() -> None:
    async with serving(make_config(NodeSettings(), relay=relay_config(drain_timeout=1000))) as served:
        alice = await served.join("pwa:alice123")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.server.aclose)
            assert (await alice.receive())["payload"]["code"] == "SHUTTING_DOWN"
            late = await served.connect("pwa:bobbobbob")
            assert (await late.end())[1] == 1001
            await alice.aclose()
            relay = served.server.relay
            assert relay is not None
            await eventually(lambda: len(relay.registry) == 0, "everybody has left")
