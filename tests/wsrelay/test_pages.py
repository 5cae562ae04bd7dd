"""The relay's HTTP pages, row by row of the original's; who may see which; and the application's hook."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_relay.transports.routes import Request, Response
from trio_relay.wsrelay import BlobConfig, Hooks
from trio_relay.wsrelay.pages.admin import mask_key

from .asking import CORS, JSON, Answer, ask, request
from .support import ALICE, BOB, make_config, relaying, routed

KEYS = "the-first-key", "the-other-key"
NO_PAGE = Answer(404, CORS, b"Not Found")
NO_CONTENT = Answer(204, CORS, b"")


class Keys:
    def validate(self, key: str) -> bool:
        return key in KEYS


# Rows


@pytest.mark.parametrize("target", ["/", "*", "/health", "/stats", "/metrics", "/blob/blob-key-1", "/no/such?x=1"])
async def test_options(target: str) -> None:
    async with relaying(memory=True) as server:
        assert await ask(server, "OPTIONS", target) == NO_CONTENT


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "HEAD"])
@pytest.mark.parametrize(
    "target", ["/", "/healthz", "/health/", "/Health", "/stats/x", "//stats", "/pwa/alice123", "/ui"]
)
async def test_anything_else(method: str, target: str) -> None:
    async with relaying(memory=True) as server:
        answer = NO_PAGE._replace(body=b"") if method == "HEAD" else NO_PAGE
        assert await ask(server, method, target, body=b"x") == answer


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("target", ["/health", "/stats", "/metrics"])
async def test_wrong_methods(method: str, target: str) -> None:
    async with relaying(memory=True) as server:
        answer = await ask(server, method, target, body=b"x")
        assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, OPTIONS")
        assert answer.headers[-3:] == CORS


async def test_health(autojump_clock: MockClock) -> None:
    async with relaying(memory=True) as server:
        await trio.sleep(0.791)
        nobody = Answer(200, [JSON, *CORS], b'{"status":"ok","connections":{},"uptime":791}')
        for target in ("/health", "/health?probe=1", "http://127.0.0.1/health"):
            assert await ask(server, "GET", target) == nobody
        assert await ask(server, "HEAD", "/health") == nobody._replace(body=b"")
        await server.join(ALICE)
        bob = await server.join(BOB)
        await bob.aclose()
        answer = await ask(server, "GET", "/health")
        assert answer.json["connections"] == {"pwa": {"active": 1, "peak": 2}}
        assert list(answer.json) == ["status", "connections", "uptime"]


async def test_health_does_not_ask_the_blob_store() -> None:
    class Broken:
        async def stats(self) -> Any:
            raise OSError("no disk")

        get = put = delete = stats

    async with relaying(blob_store=Broken()) as server:
        assert (await ask(server, "GET", "/health")).status == 200
        stats = await ask(server, "GET", "/stats")
        assert stats.status == 200
        assert "blobStore" not in stats.json
        assert (await ask(server, "GET", "/metrics")).status == 200
        assert await server.counts("blob_store_failed") == 2


async def test_stats_of_an_open_relay() -> None:
    began = time.time() * 1000
    async with relaying() as server:
        alice, bob = await server.join(ALICE), await server.join(BOB)
        await alice.send(routed(ALICE, BOB, 1))
        await bob.receive()
        await ask(server, "PUT", "/blob/blob-key-1", body=b"x")
        answer = await ask(server, "GET", "/stats?x=1")
        assert (answer.status, answer.headers) == (200, [JSON, *CORS])
        seen = answer.json
        assert began - 1 <= seen.pop("startTime") <= time.time() * 1000 + 1
        assert 0 <= seen.pop("uptime") <= time.time() * 1000 - began + 1
        assert seen == {
            "totalConnections": 2,
            "messagesRelayed": 1,
            "channels": {"pwa": {"active": 2, "peak": 2}},
            "blobStore": {"entries": 1},
        }
        assert (await ask(server, "HEAD", "/stats")).body == b""


async def test_stats_of_keys_and_without_blobs() -> None:
    first, other = KEYS
    began = time.time() * 1000
    async with relaying(key_store=Keys(), blob_store=False, show_keys=True) as server:
        alice, bob = await server.join(f"/pwa/alice123?key={first}"), await server.join(f"/pwa/bobbobbob?key={other}")
        await alice.send(routed(ALICE, BOB, 1))
        frame = await bob.frame()
        seen = (await ask(server, "GET", "/stats")).json
        assert list(seen) == ["totalConnections", "messagesRelayed", "startTime", "channels", "uptime", "keys"]
        for key in KEYS:
            assert began - 1 <= seen["keys"][key]["current"].pop("windowStart") <= time.time() * 1000 + 1
            seen["keys"][key]["current"].pop("bytesIn")
        assert seen["keys"] == {
            first: {"connections": 1, "current": {"bytesOut": 0}, "history": []},
            other: {"connections": 1, "current": {"bytesOut": len(frame)}, "history": []},
        }


async def test_past_windows_are_in_unix_time(autojump_clock: MockClock) -> None:
    config: dict[str, Any] = {"stats_window": 60.0, "stats_history": 2, "open_stats": True, "show_keys": True}
    async with relaying(memory=True, key_store=Keys(), **config) as server:
        await server.connect(f"/pwa/alice123?key={KEYS[0]}")
        seen = (await ask(server, "GET", "/stats")).json
        first = seen["keys"][KEYS[0]]["current"]["windowStart"]
        assert abs(first - seen["startTime"] - seen["uptime"]) < 50
        await trio.sleep(150)
        traffic = (await ask(server, "GET", "/stats")).json["keys"][KEYS[0]]
        empty = {"bytesIn": 0, "bytesOut": 0}
        assert traffic["current"] == {**empty, "windowStart": first + 120_000}
        assert traffic["history"] == [{**empty, "windowStart": first + start} for start in (0, 60_000)]


async def test_keys_are_masked_and_kept_apart() -> None:
    async with relaying(key_store=Keys()) as server:
        for number, key in enumerate(KEYS):
            await server.join(f"/pwa/peer-id-{number}?key={key}")
        answer = await ask(server, "GET", "/stats")
        assert set(answer.json["keys"]) == set(map(mask_key, KEYS))
        assert [name[:6] for name in answer.json["keys"]] == ["th…ey-"] * 2
        assert not any(key.encode() in answer.body for key in KEYS)


# CORS


@pytest.mark.parametrize(
    ("cors", "expected"),
    [
        (True, CORS),
        (False, []),
        ("", []),
        ("https://app.example", [("access-control-allow-origin", "https://app.example"), *CORS[1:]]),
    ],
)
async def test_cors(cors: bool | str, expected: list[tuple[str, str]]) -> None:
    async with relaying(cors=cors) as server:
        assert await ask(server, "OPTIONS", "/x") == NO_CONTENT._replace(headers=expected)
        assert await ask(server, "GET", "/x") == NO_PAGE._replace(headers=expected)
        for target, method in [("/health", "GET"), ("/stats", "GET"), ("/blob/blob-key-1", "GET"), ("/health", "PUT")]:
            answer = await ask(server, method, target)
            assert [header for header in answer.headers if header[0].startswith("access-")] == expected


@pytest.mark.parametrize(
    "keyed", [{"admin_key": "the-admin-key"}, {"blob_store": BlobConfig(access_key="the-blob-key")}]
)
async def test_browsers_may_send_keys_where_there_are_some(keyed: dict[str, Any]) -> None:
    async with relaying(memory=True, **keyed) as server:
        answer = await ask(server, "OPTIONS", "/")
        assert answer.header("access-control-allow-headers") == "Content-Type, Authorization"


# Who may see what


@pytest.mark.parametrize("page", ["/stats", "/metrics"])
async def test_pages_for_the_operator(page: str) -> None:
    async with relaying(admin_key="the-admin-key") as server:
        assert (await ask(server, "GET", page)).status == 200
        for stranger in ("X-Forwarded-For: 127.0.0.1", "Origin: https://evil.example", "Host: evil.example"):
            refused = await ask(server, "GET", page, stranger)
            assert refused.status == 403
            assert b"admin key" in refused.body
            assert refused.headers[-3:-1] == CORS[:2]
            assert (await ask(server, "GET", f"{page}?key=the-admin-kez", stranger)).status == 403
            assert (await ask(server, "GET", f"{page}?key=the-admin-key", stranger)).status == 200
            assert (await ask(server, "GET", page, stranger, "Authorization: Bearer the-admin-key")).status == 200
        assert await server.counts("refused_admin") == 6


@pytest.mark.parametrize("page", ["/stats", "/metrics"])
async def test_pages_that_are_opened_to_everybody(page: str) -> None:
    async with relaying(memory=True) as server:
        assert (await ask(server, "GET", page)).status == 403
        server.relay.configure(dataclasses.replace(server.relay._core.config, open_stats=True))
        assert (await ask(server, "GET", page)).status == 200


async def test_the_health_page_is_for_everybody() -> None:
    async with relaying(memory=True) as server:
        assert (await ask(server, "GET", "/health", "X-Forwarded-For: 203.0.113.1")).status == 200


# The application's hook


async def test_a_hook_answers_what_it_wants() -> None:
    asked: list[str] = []

    def hook(request: Request) -> Response | None:
        asked.append(f"{request.method} {request.target}")
        return Response.text(201, "mine") if request.path in ("/mine", "/health") else None

    async with relaying(memory=True, hooks=Hooks(on_http_request=hook)) as server:
        mine = Answer(201, [("content-type", "text/plain; charset=utf-8"), *CORS], b"mine")
        assert await ask(server, "POST", "/mine?x", body=b"x") == mine
        assert await ask(server, "GET", "/health") == mine
        assert await ask(server, "GET", "/other") == NO_PAGE
        assert await ask(server, "OPTIONS", "/mine") == NO_CONTENT
        assert asked == ["POST /mine?x", "GET /health", "GET /other"]


async def test_a_hook_may_wait_and_has_its_own_cors_headers() -> None:
    async def hook(request: Request) -> Response | None:
        body = await request.body.read(10)
        return Response(200, body, ((b"Access-Control-Allow-Origin", b"https://one.example"),)) if body else None

    async with relaying(memory=True, hooks=Hooks(on_http_request=hook)) as server:
        answer = await ask(server, "POST", "/", body=b"text")
        assert answer == Answer(200, [("access-control-allow-origin", "https://one.example"), *CORS[1:]], b"text")
        assert await ask(server, "GET", "/") == NO_PAGE


class Sulking:
    """A hook that fails in a way of the test's, at ``/bad``."""

    def __init__(self, way: str) -> None:
        self.way = way

    def __call__(self, request: Request) -> Any:
        if request.path != "/bad":
            return None
        match self.way:
            case "raises":
                raise ValueError("no")
            case "wrong type":
                return "text"
            case "true":
                return True
            case _:
                return self._wait()

    async def _wait(self) -> None:
        if self.way == "raises late":
            await trio.lowlevel.checkpoint()
            raise KeyError("no")
        await trio.sleep_forever()


@pytest.mark.parametrize("way", ["raises", "raises late", "wrong type", "true", "hangs"])
async def test_a_hook_that_fails_costs_its_request_only(
    way: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with relaying(memory=True, hooks=Hooks(on_http_request=Sulking(way)), hook_timeout=3) as server:
        failed = Answer(500, [("content-type", "text/plain; charset=utf-8"), *CORS], b"Internal Server Error")
        assert await ask(server, "GET", "/bad") == failed
        assert trio.current_time() == (pytest.approx(3) if way == "hangs" else 0)
        assert await ask(server, "GET", "/good") == NO_PAGE
        assert await server.counts("hook_failed") == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "on_http_request" in record.getMessage()


async def test_a_body_that_a_hook_does_not_take_is_the_clients_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def hook(request: Request) -> Response:
        return Response(200, await request.body.read(3))

    async with relaying(hooks=Hooks(on_http_request=hook)) as server:
        assert (await ask(server, "POST", "/", body=b"1234")).status == 413
        cut = request("POST", "/", body=b"123")[:-1]
        async with await server._dial() as stream:
            await stream.send_all(cut)
            assert isinstance(stream, trio.SocketStream)
            await stream.send_eof()
            assert (await stream.receive_some())[:12] == b"HTTP/1.1 400"
        assert await server.counts("hook_failed") == 0
    assert not caplog.records


# Further pages


async def test_rules_that_change_hold_at_once() -> None:
    async with relaying(memory=True) as server:
        hooks = Hooks(on_http_request=lambda request: Response(200, b"new"))
        server.relay.configure(dataclasses.replace(server.relay._core.config, cors=False, hooks=hooks))
        assert await ask(server, "GET", "/health") == Answer(200, [], b"new")
        server.relay.configure(make_config(listen=None))
        assert await ask(server, "GET", "/x") == NO_PAGE
