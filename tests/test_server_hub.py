"""The signalling hub beside the overlay's node, relay server and PeerJS broker, on one port, over real sockets."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import pytest

import trio_relay
from trio_relay.peerix.hub.config import HubConfig, JwtConfig
from trio_relay.peerjs.broker.config import BrokerConfig
from trio_relay.server import NodeSettings, Reloaded, ServerConfig

from .test_server import Serving, make_config, relay_config, serving

POLLING: Final = "/socket.io/?EIO=4&transport=polling"
MERCURE: Final = "/.well-known/mercure"


def make(*, overlay: bool = False, relay: bool = False, broker: bool = False, **options: Any) -> ServerConfig:
    """A hub, and the other parts that are wanted."""
    return make_config(
        NodeSettings() if overlay else None,
        relay=relay_config() if relay else None,
        peerjs=BrokerConfig(listen=None, drain_timeout=0.05) if broker else None,
        hub=HubConfig(listen=None, drain_timeout=0.05, **options),
    )


async def publish(served: Serving, data: str) -> int:
    body = f"topic=room&data={data}"
    headers = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
    request = f"POST {MERCURE} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\r\n{body}"
    return int((await served.request(request.encode())).split()[1])


async def member(served: Serving) -> Any:
    """A client over a WebSocket, in the room."""
    client = await served.connect("/socket.io/?EIO=4&transport=websocket")
    assert (await client.frame()).startswith('0{"sid"')
    await client.send("40")
    assert (await client.frame()).startswith("40")
    await client.send('421["peerix:subscribe","room"]')
    assert await client.frame() == "431[]"
    return client


@pytest.mark.parametrize(("overlay", "relay", "broker"), list(itertools.product([False, True], repeat=3)))
async def test_any_parts_on_one_port(overlay: bool, relay: bool, broker: bool) -> None:
    async with serving(make(overlay=overlay, relay=relay, broker=broker)) as served:
        client = await member(served)
        assert await publish(served, "AQI%3D") == 200
        assert await client.frame() == '42["peerix:message","room",[1,2]]'
        assert (await served.get(POLLING))[0] == 200
        status, body = await served.get("/health")
        assert (status, json.loads(body)["hub"]) == (200, {"clients": 2, "topics": 1})
        assert ("overlay" in json.loads(body), "peerjs" in json.loads(body)) == (overlay, broker)
        status, body = await served.get("/metrics")
        families = Counter(line.split()[2] for line in body.decode().splitlines() if line.startswith("# TYPE "))
        assert status == 200
        assert "trio_relay_hub_clients" in families
        found = [name in families for name in ("trio_relay_links", "trio_relay_ws_peers", "trio_relay_broker_clients")]
        assert found == [overlay, relay, broker]
        assert families.most_common(1)[0][1] == 1
        assert (await served.get("/"))[0] == (200 if broker else 426 if overlay else 404)
        if overlay:
            async with trio_relay.open_node(None, served.server.urls) as node:
                await node.wait_linked()


@pytest.mark.parametrize(
    ("hub", "others", "fault"),
    [
        ({"socketio_path": "/pwa/x"}, {}, "/pwa/x of the hub and channel 'pwa'"),
        ({"mercure_path": "/pwa"}, {}, "/pwa of the hub and channel 'pwa'"),
        ({}, {"relay": relay_config(channels=[".well-known"])}, "channel '.well-known'"),
        ({}, {"relay": relay_config(channels=["socket.io"])}, "channel 'socket.io'"),
        ({"mercure_path": "/blob/x"}, {}, "/blob/x of the hub and the page /blob"),
        ({"mercure_path": "/metrics"}, {"relay": None}, "the page /metrics"),
        ({}, {"peerjs": BrokerConfig(listen=None, key="socket.io")}, "/socket.io of the hub and /socket.io"),
        (
            {"mercure_path": "/app/hub"},
            {"peerjs": BrokerConfig(listen=None, path="/app")},
            "/app/hub of the hub and /app",
        ),
    ],
)
def test_two_owners_of_one_path(hub: dict[str, Any], others: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=f"two owners of one path: .*{fault}"):
        make_config(**others, hub=HubConfig(listen=None, **hub))


def test_a_hub_with_a_listener_of_its_own() -> None:
    with pytest.raises(ValueError, match="hub with listen=None"):
        ServerConfig(hub=HubConfig())


@pytest.mark.parametrize("alone", [False, True])
async def test_another_configuration_while_it_runs(alone: bool) -> None:
    config = make(relay=not alone, broker=not alone)
    assert config.hub is not None
    async with serving(config) as served:
        client = await member(served)
        other = replace(config, hub=replace(config.hub, max_subscribers=1, prefixes=("x",), mercure_path=None))
        wanted = Reloaded(("hub.max_subscribers",), ("hub.mercure_path", "hub.prefixes"))
        reloaded = await served.server.reload(other)
        assert (sorted(reloaded.changed), sorted(reloaded.kept)) == (list(wanted.changed), list(wanted.kept))
        assert (await served.get(f"{MERCURE}?topic=room"))[0] == 429
        assert await publish(served, "AQI%3D") == 200
        assert await client.frame() == '42["peerix:message","room",[1,2]]'
        # Who is let in is another matter: all have to come again.
        keys = replace(config, hub=replace(config.hub, access_keys=["a-new-key"]))
        assert "hub.access_keys" in (await served.server.reload(keys)).changed
        assert (await client.end())[0] == []
        assert await publish(served, "AQI%3D") == 401
        # Of what makes no sense, nothing is done, in no part.
        pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
        broken = replace(keys, hub=replace(config.hub, jwt=JwtConfig(key=pem, algorithm="ES256"), max_subscribers=9))
        if config.peerjs is not None:
            broken = replace(broken, peerjs=replace(config.peerjs, concurrent_limit=77))
        with pytest.raises(ValueError, match="expected a key for ES256"):
            await served.server.reload(broken)
        assert served.server.hub is not None
        assert served.server.hub.config.max_subscribers == config.hub.max_subscribers
        if served.server.broker is not None:
            assert served.server.broker.config.concurrent_limit != 77
        without = replace(config, hub=None, overlay=NodeSettings())
        assert set((await served.server.reload(without)).kept) >= {"hub", "overlay"}


async def test_clients_are_let_go_in_order() -> None:
    async with serving(make(overlay=True, relay=True, broker=True)) as served:
        client = await member(served)
        await served.server.aclose()
        frames, code, _ = await client.end()
        assert (frames, code) == ([], 1000)
