"""What the broker answers over HTTP, alone and mounted in a larger server."""

from __future__ import annotations

import uuid

import pytest

from trio_relay.peerjs.broker.config import BrokerConfig

from .support import brokering, message

HTML, JSON, PLAIN = "text/html; charset=utf-8", "application/json; charset=utf-8", "text/plain; charset=utf-8"
ABOUT = (
    '{"name":"PeerJS Server","description":"A server side element to broker connections between PeerJS clients.",'
    '"website":"https://peerjs.com/"}'
)


@pytest.mark.parametrize(
    ("path", "target", "status"),
    [
        ("/", "/", 200),
        ("/", "/peerjs/id", 200),
        ("/", "/peerjs/id/?ts=1", 200),
        ("/", "/other/ID", 200),
        ("/", "/peerjs", 404),
        ("/", "/peerjs/peers", 401),
        ("/", "/peerjs/id/x", 404),
        ("/", "//id", 404),
        ("/", "/nowhere", 404),
        ("/myapp", "/", 404),
        ("/myapp", "/myapp", 200),
        ("/myapp/", "/myapp/", 200),
        ("/myapp", "/myapp/x/id", 200),
        ("/myapp", "/myapps/x/id", 404),
        ("/myapp", "/peerjs/id", 404),
    ],
)
async def test_statuses(path: str, target: str, status: int) -> None:
    async with brokering(path=path) as running:
        assert (await running.ask(target))[0] == status


async def test_pages_of_the_original() -> None:
    async with brokering() as running:
        status, headers, body = await running.ask("/")
        assert (status, headers["content-type"], body) == (200, JSON, ABOUT)
        status, headers, body = await running.ask("/peerjs/id")
        assert (status, headers["content-type"], uuid.UUID(body).version) == (200, HTML, 4)
        status, headers, body = await running.ask("/peerjs/peers")
        assert (status, headers["content-type"], body) == (401, PLAIN, "Unauthorized")
        assert (await running.ask("/peerjs/id", "HEAD"))[0] == 200
        assert (await running.ask("/peerjs/id", "POST"))[0] == 404


async def test_discovery_lists_ids() -> None:
    async with brokering(allow_discovery=True) as running:
        assert (await running.ask("/x/peers"))[2] == "[]"
        await running.join('a"')
        assert (await running.ask("/x/peers"))[2] == '["a\\""]'


async def test_ids_in_use_are_not_given_out() -> None:
    made = iter(["alice", "alice", "bob"] + ["alice"] * 10)
    async with brokering(generate_client_id=lambda: next(made)) as running:
        await running.join("alice")
        assert (await running.ask("/peerjs/id"))[2] == "bob"
        assert (await running.ask("/peerjs/id"))[0] == 500


async def test_cors() -> None:
    async with brokering() as running:
        _, headers, _ = await running.ask("/peerjs/id", Origin="http://a.test")
        assert (headers["access-control-allow-origin"], headers["vary"]) == ("http://a.test", "Origin")
        _, headers, _ = await running.ask("/peerjs/id")
        assert "access-control-allow-origin" not in headers
        status, headers, _ = await running.ask(
            "/x", "OPTIONS", Origin="http://a.test", **{"Access-Control-Request-Headers": "x-a, X-B"}
        )
        assert (status, headers["access-control-allow-headers"]) == (204, "x-a, X-B")
        assert headers["access-control-allow-methods"] == "GET,HEAD,PUT,PATCH,POST,DELETE"


async def test_cors_of_some_origins() -> None:
    async with brokering(cors_origins=["http://a.test"]) as running:
        for origin, allowed in (("http://a.test", "http://a.test"), ("http://b.test", None)):
            _, headers, _ = await running.ask("/peerjs/id", Origin=origin)
            assert (headers.get("access-control-allow-origin"), headers["vary"]) == (allowed, "Origin")


@pytest.mark.parametrize(
    "origin", ["http://a.test/", "http://A.test", "https://a.test:443", "http://a.test:80", "a.test", "*"]
)
def test_what_no_browser_sends_as_origin_is_no_option(origin: str) -> None:
    for good in ("http://a.test", "https://a.test:80", "http://[::1]:9000", "null", "moz-extension://0-a"):
        BrokerConfig(cors_origins=[good])
    with pytest.raises(ValueError, match="in cors_origins, not "):
        BrokerConfig(cors_origins=[origin])


@pytest.mark.parametrize("target", ["/", "/peerjs/", "/peerjs/id", "/peerjs/relay/", "/x", "/relay"])
async def test_upgrades_elsewhere_are_refused(target: str) -> None:
    async with brokering() as running:
        head, _ = await running.upgrade(f"{target}?key=peerjs&id=a&token=t")
        assert head.startswith(b"HTTP/1.1 400 ")


async def test_routes_for_a_larger_server() -> None:
    for options, prefixes in (
        ({}, {"/peerjs", "/peerjs/relay"}),
        ({"key": "k"}, {"/peerjs", "/peerjs/relay", "/k"}),
        ({"relayed": None}, {"/peerjs"}),
        ({"path": "/a/b/", "key": "k"}, {"/a/b/peerjs", "/a/b/peerjs/relay", "/a/b"}),
    ):
        async with brokering(memory=True, **options) as running:
            assert {route.prefix for route in running.broker.routes()} == prefixes


async def test_a_mounted_broker_answers_below_its_key_and_has_no_pages_for_operators() -> None:
    async with brokering(memory=True, key="k") as running:
        await running.join("alice", key="k")
        for target, status in (("/peerjs/id", 200), ("/k/id", 200), ("/x/id", 404), ("/", 404), ("/metrics", 404)):
            assert (await running.ask(target))[0] == status
        assert running.broker.health() == {"clients": 1, "meetings": 0}
        assert b"\ntrio_relay_broker_clients 1.0\n" in running.broker.exposition()
        assert running.broker.urls == ()


async def test_health_and_metrics_of_a_broker_alone() -> None:
    async with brokering(path="/myapp") as running:
        alice = await running.join("alice")
        await alice.send(message("OFFER", "alice"), "nonsense")
        await alice.settle()
        status, _, body = await running.ask("/health")
        assert (status, '"clients":1' in body) == (200, True)
        status, headers, body = await running.ask("/metrics")
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert 'trio_relay_broker_events_total{name="malformed"} 1.0' in body
        assert "\ntrio_relay_broker_messages_relayed_total 2.0\n" in body
        assert "alice" not in body


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-For": "127.0.0.1"}, {"Origin": "http://a.test"}, {"Via": "1.1 p"}, {"Host": "a.test:9000"}],
)
async def test_metrics_are_not_for_strangers(headers: dict[str, str]) -> None:
    async with brokering() as running:
        assert (await running.ask("/metrics", **headers))[0] == 403
        assert running.counts("refused_metrics") == 1
    async with brokering(open_metrics=True) as running:
        assert (await running.ask("/metrics", **headers))[0] == 200


async def test_the_handle_tells_where_it_is() -> None:
    async with brokering(path="/myapp/") as running:
        (address,) = running.broker.addresses
        assert running.broker.urls == (f"http://{address}/myapp",)
        assert repr(running.broker) == f"<Broker at {address}, 0 clients>"
