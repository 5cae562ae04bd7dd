"""The SSE driver over real sockets and TLS, with a small hub on this package's own HTTP server."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
import trio

from tests.transports.support import Authority, make_authority, serving
from trio_relay.exceptions import DriverError
from trio_relay.limits import Limits
from trio_relay.peerix.drivers.driver import DriverFailed
from trio_relay.peerix.drivers.sse import SseDriver
from trio_relay.transports.routes import Request, Response, Route, Sender, Streamed

IDLE = 0.05
"""Seconds after which the hub closes connections that say nothing."""


class Hub:
    """Sends everybody what anybody publishes."""

    def __init__(self) -> None:
        self.streams: dict[str, list[trio.MemorySendChannel[str]]] = {}

    async def respond(self, request: Request) -> Response | Streamed:
        topic = parse_qs(request.query)["topic"][0]
        if request.method == "POST":
            form = parse_qs((await request.body.read(1_000_000)).decode())
            for channel in self.streams[form["topic"][0]]:
                channel.send_nowait(form["data"][0])
            return Response.text(200, "published")

        async def make(send: Sender) -> bytes:
            into, out = trio.open_memory_channel[str](10)
            self.streams.setdefault(topic, []).append(into)
            await send(b":\n")
            async for data in out:
                await send(f"data: {data}\n\n".encode())
            return b""

        return Streamed(200, make, ((b"content-type", b"text/event-stream"),), held=True)

    @property
    def route(self) -> Route:
        return Route("/hub", respond=self.respond)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority("127.0.0.1")


async def test_packets_over_tls(authority: Authority) -> None:
    into, packets = trio.open_memory_channel[bytes](10)
    limits = Limits(http_timeout=IDLE)
    async with serving([Hub().route], tls=authority.server, limits=limits) as served:
        url = f"https://127.0.0.1:{served.port}/hub"
        with trio.fail_after(10):
            async with SseDriver(url, tls=authority.client) as a, SseDriver(url, tls=authority.client) as b:
                await a.subscribe("room", into.send_nowait)
                await b.subscribe("room", into.send_nowait)
                for packet in (b"1", bytes(range(256)) * 500):
                    await b.publish("room", packet)
                    assert [await packets.receive(), await packets.receive()] == [packet, packet]
                    # Then the hub closes the connection that was kept for the next packet.
                    await trio.sleep(3 * IDLE)
                assert a.active
                assert b.active


async def why_not(driver: SseDriver) -> str:
    """Why no stream can be opened."""
    async with driver.events() as events, driver, trio.open_nursery() as nursery:
        nursery.start_soon(driver.subscribe, "room", lambda packet: None)
        with trio.fail_after(10):
            while not isinstance(event := await events.__anext__(), DriverFailed):
                pass
        nursery.cancel_scope.cancel()
    return str(event.error)


async def test_a_server_that_is_not_trusted(authority: Authority) -> None:
    async with serving([Hub().route], tls=authority.server) as served:
        assert "not trusted" in await why_not(SseDriver(f"https://127.0.0.1:{served.port}/hub"))


async def test_nobody_listens() -> None:
    driver = SseDriver("http://127.0.0.1:9/hub")
    assert "cannot connect to 127.0.0.1:9" in await why_not(driver)
    async with driver:
        await driver.wait_active()
        with pytest.raises(DriverError, match="cannot connect"):
            await driver.publish("room", b"")
