"""``/ui`` and ``/ui/data`` without a browser: who is answered what, and how often the data is made."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_relay.transports.routes import Request
from trio_relay.wsrelay import RelayConfig
from trio_relay.wsrelay.config import BlobConfig
from trio_relay.wsrelay.metering import TrafficMeter
from trio_relay.wsrelay.stores.blobs import BlobStatistics, MemoryBlobStore

from .asking import JSON, Answer, ask
from .support import ALICE, BOB, Relaying, make_config, relaying, routed

KEY = "admin-key"
BEARER = f"Authorization: Bearer {KEY}"
AWAY = "Host: relay.example"
"""A browser on this machine at somebody else's page, which is no operator without the key."""
SECURE = {
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
}


@asynccontextmanager
async def showing(**options: Any) -> AsyncIterator[Relaying]:
    async with relaying(**{"ui": True, "admin_key": KEY, **options}) as running:
        yield running


async def look(running: Relaying) -> Any:
    """The data as JSON."""
    answer = await ask(running, "GET", "/ui/data", AWAY, BEARER)
    assert answer.status == 200
    return answer.json


class AnyKey:
    """A store that takes every key."""

    def validate(self, key: str) -> bool:
        return True


async def test_the_page_is_off_unless_it_is_asked_for() -> None:
    async with relaying(admin_key=KEY) as running:
        for path in ("/ui", "/ui/", "/ui/data"):
            assert (await ask(running, "GET", path, BEARER)).status == 404
    async with showing() as running:
        assert (await ask(running, "GET", "/ui")).status == 200
        assert (await ask(running, "GET", "/ui/else")).status == 404


async def test_it_can_be_turned_on_and_off_while_the_relay_runs() -> None:
    async with relaying(admin_key=KEY) as running:
        running.relay.configure(make_config(ui=True, admin_key=KEY))
        assert (await ask(running, "GET", "/ui/data")).status == 200
        running.relay.configure(make_config(ui=False, admin_key=KEY))
        assert (await ask(running, "GET", "/ui/data")).status == 404


def test_there_is_no_page_without_an_admin_key() -> None:
    with pytest.raises(ValueError, match="admin_key"):
        RelayConfig(channels=["pwa"], key_store=False, ui=True)


async def test_the_page_has_no_data_and_runs_its_own_script_only() -> None:
    async with showing() as running:
        page = await ask(running, "GET", "/ui", AWAY)
    assert page.status == 200
    assert set(page.headers) >= {("content-type", "text/html; charset=utf-8"), *SECURE}
    text = page.body.decode()
    policy = page.header("content-security-policy")
    assert policy is not None
    for element in ("style", "script"):
        content = re.findall(rf"<{element}[^>]*>(.*?)</{element}>", text, re.DOTALL)
        assert len(content) == 1
        assert len(content[0]) > 1000
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "connect-src 'self'" in policy
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "innerHTML" not in text


async def test_the_data_is_for_the_operator() -> None:
    async with showing() as running:
        refused = [
            await ask(running, "GET", "/ui/data", AWAY),
            await ask(running, "GET", "/ui/data", AWAY, "Authorization: Bearer wrong-key"),
            await ask(running, "GET", "/ui/data", "X-Forwarded-For: 203.0.113.9"),
            await ask(running, "GET", "/ui/data", "Origin: https://elsewhere.example"),
        ]
        assert [answer.status for answer in refused] == [403] * 4
        for answer in refused:
            assert set(answer.headers) >= SECURE
            assert b"connections" not in answer.body
        assert (await look(running))["counts"] == {"refused_admin": 4}
        assert (await ask(running, "GET", "/ui/data")).status == 200


@pytest.mark.parametrize("path", ["/ui", "/ui/", "/ui/data"])
async def test_only_reading(path: str) -> None:
    async with showing() as running:
        for method in ("POST", "PUT", "DELETE"):
            answer = await ask(running, method, path, BEARER)
            assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, OPTIONS")
        head: Answer = await ask(running, "HEAD", path, BEARER)
        assert head.status == (308 if path == "/ui/" else 200)
        assert head.body == b""
        assert head.header("location") == ("../ui" if path == "/ui/" else None)


async def test_the_data_follows_the_traffic() -> None:
    async with showing(key_store=AnyKey(), show_keys=True) as running:
        alice = await running.join("/pwa/alice123?key=key-of-alice")
        bob = await running.join("/pwa/bobbobbob?key=key-of-bob")
        await alice.send(routed(ALICE, BOB, "hello"), routed(ALICE, "pwa:nobody12"))
        await bob.receive()
        await alice.settle()
        answer = await ask(running, "GET", "/ui/data", AWAY, BEARER)
        stats = running.relay.statistics()
    assert set(answer.headers) >= {JSON, *SECURE}
    data = answer.json
    assert data["connections"] == data["total_connections"] == 2
    assert data["channels"] == {"pwa": {"active": 2, "peak": 2}}
    assert data["totals"] == {"messages_relayed": 1, "bytes_in": stats.bytes_in, "bytes_out": stats.bytes_out}
    assert stats.bytes_in > stats.bytes_out > 0
    assert (data["backlog"], data["watches"]) == (0, 0)
    assert data["counts"] == dict(stats.counts)
    assert data["counts"]["target_offline"] == 1
    assert data["blobs"] == {"entries": 0, "bytes": 0}
    assert data["start_time"] == stats.start_time
    assert data["time"] == pytest.approx(stats.start_time + data["uptime"], abs=1)
    shown = data["keys"]
    assert [key["key"][:6] for key in shown] == ["ke…ce-", "ke…ob-"]
    assert (shown[0]["connections"], shown[0]["bytes_out"]) == (1, 0)
    assert shown[1]["bytes_out"] == stats.bytes_out
    assert b"key-of" not in answer.body


async def test_keys_and_blobs_may_be_missing() -> None:
    async with showing(blob_store=False) as running:
        data = await look(running)
    assert data["keys"] is None
    assert "blobs" not in data


async def test_ten_keys_at_most() -> None:
    async with showing(key_store=AnyKey()) as running:
        meter: TrafficMeter = running.relay._core.entrance.meter
        for number in range(30):
            meter.record_in(f"key-{number:04}", number, trio.current_time())
        data = await look(running)
    assert [key["bytes_in"] for key in data["keys"]] == list(range(29, 19, -1))


def request() -> Request:
    return Request(method="GET", target="/ui/data", path="/ui/data", query="", remote="127.0.0.1:1")


async def test_the_data_is_made_once_a_second_for_all(mock_clock: trio.testing.MockClock) -> None:
    async with showing(memory=True) as running:
        page = running.relay._pages._live

        async def made_at() -> float:
            answer = await page.respond(request())
            assert answer is not None
            uptime: float = json.loads(answer.body)["uptime"]
            return uptime

        mock_clock.jump(5)
        first = await made_at()
        mock_clock.jump(0.9)
        assert await made_at() == first
        mock_clock.jump(0.1)
        assert await made_at() == first + 1


class SlowStore(MemoryBlobStore):
    """Tells its counts after a minute.

    Attributes:
        asked: how often they were asked for.
    """

    asked = 0

    async def stats(self) -> BlobStatistics:
        self.asked += 1
        await trio.sleep(60)
        return BlobStatistics(1)


async def test_a_slow_blob_store_holds_nobody_up(autojump_clock: trio.testing.MockClock) -> None:
    store = SlowStore()
    async with showing(memory=True, blob_store=BlobConfig(store=store)) as running:
        page = running.relay._pages._live
        seen: list[object] = []

        async def see() -> None:
            answer = await page.respond(request())
            assert answer is not None
            seen.append(json.loads(answer.body)["blobs"])

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(see)
        assert trio.current_time() - began == 1
    assert seen == [None] * 5
    assert store.asked == 1


async def test_a_viewer_who_leaves_costs_the_others_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with showing(memory=True, blob_store=BlobConfig(store=SlowStore())) as running:
        page = running.relay._pages._live
        with trio.move_on_after(0.5) as left:
            await page.respond(request())
        assert left.cancelled_caught
        answer = await page.respond(request())
        assert answer is not None
        assert json.loads(answer.body)["connections"] == 0
