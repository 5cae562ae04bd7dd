"""The PeerJS broker beside the overlay's node and the relay server, on one port, over real sockets."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import pytest

import trio_relay
from trio_relay.peerjs.broker.config import BrokerConfig
from trio_relay.server import NodeSettings, Reloaded, ServerConfig
from trio_relay.wsrelay import BlobConfig

from .test_server import LIMITS, Serving, make_config, relay_config, serving
from .wsrelay.support import Client, routed

OFFER: Final = {"sdp": {"type": "offer", "sdp": "v=0"}, "type": "data", "connectionId": "dc_1", "serialization": "json"}


def broker_config(**options: Any) -> BrokerConfig:
    return BrokerConfig(listen=None, drain_timeout=0.05, **options)


def make(*, overlay: bool = False, relay: bool = False, **options: Any) -> ServerConfig:
    """A broker, and the other parts that are wanted."""
    node = NodeSettings() if overlay else None
    return make_config(node, relay=relay_config() if relay else None, peerjs=broker_config(**options))


EVERYTHING: Final = make(overlay=True, relay=True)


async def peer(served: Serving, name: str, path: str = "/peerjs", key: str = "peerjs") -> Client:
    """A PeerJS client that the broker has let in."""
    client = await served.connect(f"{path}?key={key}&id={name}&token=token-of-{name}&version=1.5.5")
    assert await client.receive() == {"type": "OPEN"}
    return client


async def offered(sender: Client, sent_by: str, to: str, receiver: Client) -> None:
    """An offer gets through."""
    await sender.send({"type": "OFFER", "payload": OFFER, "dst": to})
    assert await receiver.receive() == {"type": "OFFER", "src": sent_by, "dst": to, "payload": OFFER}


# What is served where


async def test_everything_on_one_port() -> None:
    async with serving(EVERYTHING) as served, trio_relay.open_node(None, served.server.urls) as node:
        await node.wait_linked()
        one, two = await peer(served, "one"), await peer(served, "two")
        await offered(one, "one", "two", two)
        alice = await served.join("pwa:alice123")
        await alice.send(routed("pwa:alice123", "pwa:alice123"))
        assert await alice.receive() == routed("pwa:alice123", "pwa:alice123")
        health = json.loads((await served.get("/health"))[1])
        assert health["connections"] == {"pwa": {"active": 1, "peak": 1}}
        assert health["overlay"]["links"] == 1
        assert served.server.broker is not None
        assert health["peerjs"] == {"clients": 2, "meetings": 0}


@pytest.mark.parametrize(("overlay", "relay"), [(False, False), (True, False), (False, True), (True, True)])
async def test_who_answers_a_request(overlay: bool, relay: bool) -> None:
    async with serving(make(overlay=overlay, relay=relay)) as served:
        status, body = await served.get("/")
        assert (status, json.loads(body)["name"]) == (200, "PeerJS Server")
        status, body = await served.get("/peerjs/id?ts=17000000000000.5&version=1.5.5")
        assert (status, len(body)) == (200, 36)
        assert await served.get("/peerjs/peers") == (401, b"Unauthorized")
        assert (await served.get("/peerjs"))[0] == 404
        assert (await served.get("/stats"))[0] == (200 if relay else 404)
        # Any key is good for HTTP, as in the original, where no other part owns such paths.
        assert (await served.get("/other/id"))[0] == (404 if relay else 200)
        assert (await served.get("/health"))[0] == 200
        await peer(served, "one")


@pytest.mark.parametrize(("overlay", "relay"), [(True, False), (False, True), (True, True)])
async def test_metrics_of_all_are_one_page(overlay: bool, relay: bool) -> None:
    async with serving(make(overlay=overlay, relay=relay)) as served:
        status, body = await served.get("/metrics")
        families = Counter(line.split()[2] for line in body.decode().splitlines() if line.startswith("# TYPE "))
        assert status == 200
        assert ("trio_relay_links" in families) == overlay
        assert ("trio_relay_ws_peers" in families) == relay
        assert any(name.startswith("trio_relay_broker_") for name in families)
        assert families.most_common(1)[0][1] == 1


async def test_a_path_and_a_key_of_its_own() -> None:
    async with serving(make(overlay=True, relay=True, path="/my/app", key="secret")) as served:
        assert (await served.get("/"))[0] == 426
        assert (await served.get("/my/app/"))[0] == 200
        assert (await served.get("/my/app/secret/id"))[0] == 200
        assert (await served.get("/peerjs/id"))[0] == 404
        one = await peer(served, "one", "/my/app/peerjs", "secret")
        await offered(one, "one", "one", one)
        other = await served.connect("/peerjs?key=secret&id=two&token=t")
        assert (await other.end())[0][0]["payload"]["code"] == "INVALID_URL"


async def test_a_key_beside_the_root() -> None:
    async with serving(make(relay=True, key="secret")) as served:
        assert (await served.get("/secret/id"))[0] == 200
        await peer(served, "one", key="secret")
        refused = await served.connect("/peerjs?key=peerjs&id=two&token=t")
        assert (await refused.end())[0] == [{"type": "ERROR", "payload": {"msg": "Invalid key provided"}}]


@pytest.mark.parametrize(("relay", "overlay"), [(True, True), (False, True), (True, False)])
async def test_the_node_keeps_the_websockets_at_the_root(relay: bool, overlay: bool) -> None:
    async with serving(make(relay=relay, overlay=overlay)) as served:
        if overlay:
            async with trio_relay.open_node(None, served.server.urls) as node:
                await node.wait_linked()
        else:
            frames, code, _ = await (await served.connect("/")).end()
            assert (frames[0]["payload"]["code"], code) == ("INVALID_URL", 1002)


# Configuration


@pytest.mark.parametrize(
    ("broker", "relay", "fault"),
    [
        ({}, {"channels": ["peerjs"]}, "/peerjs of the PeerJS broker and channel 'peerjs'"),
        ({}, {"channels": ["pwa", "peerjs/more"]}, "channel 'peerjs/more'"),
        ({"key": "pwa"}, {}, "/pwa of the PeerJS broker and channel 'pwa'"),
        ({"path": "/pwa/some-id-1"}, {}, "/pwa/some-id-1 of the PeerJS broker and channel 'pwa'"),
        ({"path": "/blob/"}, {}, "the page /blob"),
        ({"path": "/blobs/x"}, {"blob_store": BlobConfig(route_prefix="/blobs")}, "the page /blobs"),
        ({"path": "/app"}, {"blob_store": BlobConfig(route_prefix="/app/blobs")}, "the page /app/blobs"),
        ({"key": "metrics"}, None, "/metrics of the PeerJS broker and the page /metrics"),
        ({"path": "/health/peers"}, None, "the page /health"),
    ],
)
def test_two_owners_of_one_path(broker: dict[str, Any], relay: dict[str, Any] | None, fault: str) -> None:
    relayed = relay_config(**relay) if relay is not None else None
    with pytest.raises(ValueError, match=f"two owners of one path: .*{fault}"):
        make_config(relay=relayed, peerjs=broker_config(**broker))


@pytest.mark.parametrize(
    ("broker", "channels"),
    [({}, ["peerjs2", "my/peerjs"]), ({"path": "/app"}, ["peerjs", "apps"]), ({"path": "/a/b/c"}, ["a", "b"])],
)
def test_names_that_are_free(broker: dict[str, Any], channels: list[str]) -> None:
    config = make_config(relay=relay_config(channels=channels), peerjs=broker_config(**broker))
    assert config.peerjs is not None


def test_a_broker_with_a_listener_of_its_own() -> None:
    with pytest.raises(ValueError, match="PeerJS broker with listen=None"):
        ServerConfig(peerjs=BrokerConfig())


# Another configuration while it runs


async def test_what_can_not_be_changed_is_named() -> None:
    async with serving(EVERYTHING) as served:
        one = await peer(served, "one")
        other = make(overlay=True, relay=True, key="other", max_message=1000)
        assert await served.server.reload(other) == Reloaded((), ("peerjs.key", "peerjs.max_message"))
        assert await served.server.reload(replace(EVERYTHING, peerjs=None)) == Reloaded((), ("peerjs",))
        await offered(one, "one", "one", one)
        await peer(served, "two")


@pytest.mark.parametrize("overlay", [False, True])
async def test_what_can_be_changed_is_in_force_at_once(overlay: bool) -> None:
    async with serving(make(overlay=overlay, path="/app", key="k", concurrent_limit=1)) as served:
        one = await peer(served, "one", "/app/peerjs", "k")
        other = make(overlay=overlay, path="/elsewhere", key="k", concurrent_limit=2, allow_discovery=True)
        wanted = Reloaded(("peerjs.concurrent_limit", "peerjs.allow_discovery"), ("peerjs.path",))
        assert await served.server.reload(other) == wanted
        two = await peer(served, "two", "/app/peerjs", "k")
        await offered(one, "one", "two", two)
        assert await served.server.reload(other) == Reloaded((), ("peerjs.path",))


async def test_a_channel_where_the_broker_is_changes_nothing() -> None:
    async with serving(EVERYTHING) as served:
        moved = make_config(
            NodeSettings(), relay=relay_config(channels=["peerjs"], max_watches=7), peerjs=broker_config(path="/app")
        )
        with pytest.raises(ValueError, match="channel 'peerjs' of the relay"):
            await served.server.reload(moved)
        assert await served.server.reload(EVERYTHING) == Reloaded()
        await served.join("pwa:alice123")


# The end


@pytest.mark.parametrize("overlay", [False, True])
async def test_clients_of_both_go_first(overlay: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_relay.server")
    async with serving(make(overlay=overlay, relay=True)) as served:
        one, alice = await peer(served, "one"), await served.join("pwa:alice123")
        await served.server.aclose()
        assert [frame["payload"]["code"] for frame in (await alice.end())[0]] == ["SHUTTING_DOWN"]
        assert await one.end() == ([], 1005, "")
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"listening on {served.server.urls[0]}", "draining: 2 clients, 0 links", "closed"]


async def test_clients_of_the_broker_are_not_pushed_out_by_strangers() -> None:
    limits = replace(LIMITS, unproven_connections=4)
    async with serving(replace(EVERYTHING, limits=limits)) as served:
        one = await peer(served, "one")
        strangers = [await served._dial() for _ in range(8)]
        for stranger in strangers[:4]:
            assert await stranger.receive_some() == b""
        await offered(one, "one", "one", one)
