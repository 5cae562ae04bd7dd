"""The Mercure door: who listens, who publishes, and who may."""

from __future__ import annotations

import time

import jwt
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.peerix.hub.support import FORM, MERCURE, serving_hub
from trio_relay.limits import Limits
from trio_relay.peerix.hub.config import JwtConfig
from trio_relay.transports.admission import Ending

SECRET = "a secret of the hub, as long as it has to be"


def token(subscribe: list[str] | None = None, publish: list[str] | None = None, **claims: object) -> str:
    return jwt.encode({"mercure": {"subscribe": subscribe or [], "publish": publish or []}, **claims}, SECRET)


async def test_everybody_who_listens_hears() -> None:
    async with serving_hub() as served:
        one, two = await served.listen("a", "b"), await served.listen("b")
        assert one.headers["content-type"] == "text/event-stream"
        said = await served.publish("b", "+/8=")
        assert said.status == 200
        assert said.text.startswith("urn:uuid:")
        assert await one.block() == f"id: {said.text}\ndata: +/8="
        assert await two.data() == "+/8="
        await served.publish("a", "AAAA")
        assert await one.data() == "AAAA"
        await served.publish("c", "AAAA")  # nobody
        statistics = served.hub.statistics()
        assert (statistics.published, statistics.delivered, statistics.clients, statistics.topics) == (3, 3, 2, 2)
        await one.aclose()
        await wait_all_tasks_blocked()
        assert (served.hub.statistics().clients, served.hub.statistics().topics) == (1, 1)


async def test_an_update_under_several_topics_is_heard_once() -> None:
    async with serving_hub() as served:
        events = await served.listen("a", "b")
        body = b"topic=a&topic=b&data=x%0Ay&id=urn%3A7&type=note&retry=300"
        assert (await served.ask("POST", MERCURE, body, FORM)).text == "urn:7"
        assert await events.block() == "id: urn:7\nevent: note\nretry: 300\ndata: x\ndata: y"
        await served.publish("b", "last")
        assert await events.data() == "last"


async def test_silence_is_broken_by_comments(autojump_clock: MockClock) -> None:
    async with serving_hub(keepalive=15) as served:
        events = await served.listen("a")
        before = trio.current_time()
        assert await events.block() == ":"
        assert trio.current_time() - before == pytest.approx(15)
        await trio.sleep(10)
        await served.publish("a", "x")
        assert await events.data() == "x"
        assert await events.block() == ":"
        assert trio.current_time() - before == pytest.approx(40)


async def test_who_comes_back_is_told_that_nothing_was_kept() -> None:
    async with serving_hub() as served:
        assert "last-event-id" not in (await served.listen("a")).headers
        for events in (
            await served.listen("a", headers={"last-event-id": "urn:1"}),
            await served.listen("a", more="&lastEventID=urn:1"),
        ):
            assert events.headers["last-event-id"] == "earliest"


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "status"),
    [
        ("GET", MERCURE, b"", {}, 400),
        ("GET", f"{MERCURE}?topic=", b"", {}, 400),
        ("GET", f"{MERCURE}?topic=a/{{id}}", b"", {}, 400),
        ("GET", f"{MERCURE}?topic=*", b"", {}, 403),
        ("GET", f"{MERCURE}/x?topic=a", b"", {}, 404),
        ("PUT", f"{MERCURE}?topic=a", b"", {}, 405),
        ("HEAD", f"{MERCURE}?topic=a", b"", {}, 405),
        ("POST", f"{MERCURE}?topic=a", b"topic=a", {"content-type": "application/json"}, 415),
        ("POST", f"{MERCURE}?topic=a", b"", FORM, 400),
        ("POST", MERCURE, b"topic=*&data=x", FORM, 400),
        ("POST", MERCURE, b"topic=a&data=x&private=on", FORM, 400),
        ("POST", MERCURE, b"topic=a&data=" + b"x" * 100_000, FORM, 400),
        ("POST", MERCURE, b"topic=a&data=" + b"x" * 500_000, FORM, 413),
        ("GET", f"{MERCURE}?{'&'.join(f'topic={n}' for n in range(65))}", b"", {}, 429),
    ],
)
async def test_refusals(method: str, target: str, body: bytes, headers: dict[str, str], status: int) -> None:
    async with serving_hub() as served:
        answer = await served.ask(method, target, body, headers | {"origin": "https://app.example"})
        assert answer.status == status
        # A page may read what is wrong.
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert served.hub.statistics().clients == 0


async def test_pages_of_named_origins_alone() -> None:
    async with serving_hub(origins=["https://app.example"]) as served:
        asked = {"origin": "https://app.example", "access-control-request-headers": "authorization"}
        preflight = await served.ask("OPTIONS", MERCURE, headers=asked)
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        assert preflight.headers["access-control-allow-credentials"] == "true"
        assert preflight.headers["access-control-allow-headers"] == "authorization"
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert (await served.listen("a", headers={"origin": "https://app.example"})).status == 200
        for method in ("GET", "POST", "OPTIONS"):
            answer = await served.ask(method, f"{MERCURE}?topic=a", headers={"origin": "https://evil.example"})
            assert answer.status == 403
            assert "access-control-allow-origin" not in answer.headers
        assert served.counts["refused_origin"] == 3


@pytest.mark.parametrize(("options", "status"), [({}, 403), ({"allow_wildcard": True}, 200)])
async def test_all_topics_at_once(options: dict[str, bool], status: int) -> None:
    async with serving_hub(jwt=JwtConfig(key=SECRET), **options) as served:
        assert (await served.listen("*", more=f"&authorization={token(['*'])}")).status == status
        assert (await served.listen("*", more=f"&authorization={token(['a'])}")).status == 403
    async with serving_hub(**options) as served:
        assert (await served.listen("*")).status == 403


async def test_an_access_key() -> None:
    async with serving_hub(access_keys=["key-1"], allow_wildcard=True) as served:
        refused = await served.listen("a")
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await served.publish("a", "x")).status == 401
        assert (await served.publish("a", "x", authorization="Bearer key-2")).status == 401
        everything = await served.listen("*", headers={"authorization": "Bearer key-1"})
        events = await served.listen("a", more="&authorization=key-1")
        assert (await served.publish("a", "x", authorization="Bearer key-1")).status == 200
        body = b"topic=a&data=y&private=on"
        assert (await served.ask("POST", f"{MERCURE}?authorization=key-1", body, FORM)).status == 200
        for stream in (events, everything):
            assert [await stream.data(), await stream.data()] == ["x", "y"]
        assert served.counts == {"unauthorized": 3}


async def test_a_token_is_for_its_topics() -> None:
    async with serving_hub(jwt=JwtConfig(key=SECRET)) as served:
        shown = {"authorization": f"Bearer {token(['a'], ['b'])}"}
        assert (await served.listen("a", headers=shown)).status == 200
        assert (await served.listen("a", "b", headers=shown)).status == 403
        assert (await served.publish("b", "x", **shown)).status == 200
        assert (await served.publish("a", "x", **shown)).status == 403
        assert served.counts == {"refused_subscribe": 1, "refused_publish": 1}


async def test_a_cookie_is_for_pages_that_are_trusted() -> None:
    async with serving_hub(jwt=JwtConfig(key=SECRET), origins=["https://app.example", "https://b.example"]) as served:
        cookie = {"cookie": f"mercureAuthorization={token(['a'], ['a'])}"}
        assert (await served.listen("a", headers=cookie | {"origin": "https://app.example"})).status == 200
        assert (await served.publish("a", "x", **cookie, origin="https://app.example")).status == 200
        assert (await served.publish("a", "x", **cookie)).status == 401


async def test_a_subscription_ends_with_its_token(autojump_clock: MockClock) -> None:
    async with serving_hub(jwt=JwtConfig(key=SECRET)) as served:
        until = int(time.time()) + 50
        events = await served.listen("a", more=f"&authorization={token(['a'], exp=until)}")
        before = trio.current_time()
        while await events.block() is not None:
            pass
        assert 40 < trio.current_time() - before <= 50
        assert served.counts == {"grant_expired": 1}
        assert served.hub.statistics().clients == 0


async def test_bounds_on_clients_and_topics() -> None:
    async with serving_hub(max_clients=3, max_clients_per_ip=2, max_subscribers=2, max_topics=3) as served:
        streams = [await served.listen("a"), await served.listen("a")]
        assert (await served.listen("b")).status == 429  # of this address
        assert (await served.listen("a", ip="192.0.2.2")).status == 429
        assert (await served.listen("b", "c", "d", ip="192.0.2.2")).status == 429
        streams.append(await served.listen("b", ip="192.0.2.2"))
        refused = await served.listen("b", ip="192.0.2.3")
        assert (refused.status, refused.headers["retry-after"]) == (503, "10")
        assert served.counts == {
            "refused_connections_per_ip": 1, "subscribers_full": 1, "topics_full": 1, "refused_full": 1
        }  # fmt: skip
        await streams.pop().aclose()
        await wait_all_tasks_blocked()
        assert (await served.listen("b", ip="192.0.2.3")).status == 200


async def test_a_publisher_that_is_too_fast(autojump_clock: MockClock) -> None:
    async with serving_hub(max_packet=100, bytes_per_second=1000, burst_bytes=10_000) as served:
        while (answer := await served.publish("a", "x" * 100)).status == 200:
            pass
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert (await served.ask("POST", MERCURE, b"topic=a&data=x", FORM, ip="192.0.2.2")).status == 200
        await trio.sleep(1)
        assert (await served.publish("a", "x" * 100)).status == 200
        assert served.counts == {"rate_limited": 1}
        assert 20 <= served.hub.statistics().published <= 40
        # Each topic counts as if it was for itself, and what is refused counts, too.
        many = "&".join(f"topic={number}" for number in range(50)).encode() + b"&data=" + b"x" * 100
        ip = "192.0.2.3"
        assert (await served.ask("POST", MERCURE, many, FORM, ip=ip)).status == 429
        for _ in range(100):
            answer = await served.ask("POST", MERCURE, b"no-topic", FORM, ip=ip)
        assert answer.status == 429


async def test_a_listener_that_does_not_read_is_let_go_and_nobody_else(autojump_clock: MockClock) -> None:
    limits = Limits(http_timeout=3)
    async with serving_hub(slow_messages=8, slow_bytes=2000, bytes_per_second=None, limits=limits) as served:
        slow, quick = await served.listen("a", takes=1), await served.listen("a")
        before = trio.current_time()
        for number in range(40):
            assert (await served.publish("a", f"{number:0100d}")).status == 200
            assert await quick.data() == f"{number:0100d}"
        assert trio.current_time() == before
        await trio.sleep(4)
        assert served.counts == {"slow_disconnected": 1, "slow_dropped": 9}
        assert served.hub.statistics().clients == 1
        assert served.admission.statistics[Ending.HTTP_TIMEOUT] == 1
        assert slow.status == 200


async def test_the_end_of_a_hub_is_the_end_of_streams(autojump_clock: MockClock) -> None:
    async with serving_hub() as served:
        events = await served.listen("a")
        await served.publish("a", "last")
        await served.hub.aclose()
        assert await events.data() == "last"
        assert await events.block() is None
        assert (await served.listen("a")).status == 503
        assert (await served.publish("a", "x")).status == 200  # to nobody


async def test_a_hub_that_is_reconfigured() -> None:
    async with serving_hub() as served:
        events = await served.listen("a")
        old = served.hub.config
        served.hub.configure(type(old)(listen=None, limits=old.limits, max_subscribers=1, max_clients_per_ip=1))
        assert (await served.listen("a", ip="192.0.2.2")).status == 429
        assert (await served.listen("b")).status == 429
        await served.publish("a", "x")
        assert await events.data() == "x"
        with pytest.raises(ValueError, match="max_packet"):
            served.hub.configure(type(old)(listen=None, limits=old.limits, max_packet=1))


async def test_nothing_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    async with serving_hub(access_keys=["the-key"]) as served:
        await served.listen("a", more="&authorization=the-key")
        answer = await served.listen("a", more="&authorization=another-key")
        assert answer.status == 401
        assert "key" not in repr(served.hub)
    assert "the-key" not in caplog.text
    assert "another-key" not in caplog.text
