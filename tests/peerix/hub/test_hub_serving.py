"""A hub with a listener of its own."""

from __future__ import annotations

import json

import pytest
import trio

from tests.peerix.hub.support import LIMITS, MERCURE
from tests.transports.support import make_authority, read_all
from trio_relay.limits import Limits
from trio_relay.peerix.hub.config import HubConfig
from trio_relay.peerix.hub.serving import Hub, serve_hub


async def get(hub: Hub, path: str, headers: str = "") -> tuple[int, str]:
    host, _, port = hub.addresses[0].rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n".encode())
        head, _, body = (await read_all(stream)).decode().partition("\r\n\r\n")
        return int(head.split()[1]), body


async def test_pages() -> None:
    async with trio.open_nursery() as nursery:
        hub: Hub = await nursery.start(serve_hub, HubConfig(listen="127.0.0.1:0", limits=LIMITS))
        assert hub.urls == (f"http://{hub.addresses[0]}",)
        assert repr(hub) == f"<Hub at {hub.addresses[0]}>"
        assert (await get(hub, "/socket.io/?EIO=4&transport=polling"))[0] == 200
        status, body = await get(hub, "/health")
        assert (status, json.loads(body)["hub"]) == (200, {"clients": 1, "topics": 0})
        status, body = await get(hub, "/metrics")
        assert status == 200
        assert "trio_relay_hub_sessions 1.0" in body
        assert "trio_relay_hub_sockets" in body
        assert (await get(hub, "/metrics", "x-forwarded-for: 192.0.2.1\r\n"))[0] == 403
        assert (await get(hub, "/nothing"))[0] == 404
        assert hub.statistics().counts == {"refused_metrics": 1}
        await hub.aclose()
        await hub.aclose()


async def test_room_for_all_clients() -> None:
    async with trio.open_nursery() as nursery:
        config = HubConfig(listen="127.0.0.1:0", max_clients=10_000, open_metrics=True, limits=Limits(connections=4096))
        hub: Hub = await nursery.start(serve_hub, config)
        assert (await get(hub, "/metrics", "x-forwarded-for: 192.0.2.1\r\n"))[0] == 200
        nursery.cancel_scope.cancel()


async def test_over_tls() -> None:
    authority = make_authority("localhost")
    async with trio.open_nursery() as nursery:
        config = HubConfig(listen="127.0.0.1:0", tls=authority.server, limits=LIMITS)
        hub: Hub = await nursery.start(serve_hub, config)
        assert hub.urls[0].startswith("https://")
        stream = await trio.open_ssl_over_tcp_stream(
            "localhost", int(hub.addresses[0].rpartition(":")[2]), ssl_context=authority.client, https_compatible=True
        )
        async with stream:
            await stream.send_all(f"GET {MERCURE}?topic=a HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            data = b""
            while b"retry: 2000" not in data:
                data += await stream.receive_some()
            assert hub.statistics().topics == 1
        with trio.fail_after(5):
            while hub.statistics().topics:
                await trio.sleep(0.005)
        await hub.aclose()


async def test_the_last_words_are_sent() -> None:
    async with trio.open_nursery() as nursery:
        hub: Hub = await nursery.start(serve_hub, HubConfig(listen="127.0.0.1:0", limits=LIMITS))
        host, _, port = hub.addresses[0].rpartition(":")
        sid = json.loads((await get(hub, "/socket.io/?EIO=4&transport=polling"))[1][1:])["sid"]
        async with (
            await trio.open_tcp_stream(host, int(port)) as stream,
            await trio.open_tcp_stream(host, int(port)) as poll,
        ):
            await stream.send_all(f"GET {MERCURE}?topic=a HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            assert b"200" in await stream.receive_some()
            target = f"/socket.io/?EIO=4&transport=polling&sid={sid}"
            await poll.send_all(f"GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            with trio.fail_after(5):
                while not hub._sessions._carried:
                    await trio.sleep(0.001)
            await hub.aclose()
            assert (await read_all(stream)).endswith(b"0\r\n\r\n")
            assert (await read_all(poll)).endswith(b"\r\n\r\n1")


async def test_an_address_in_use() -> None:
    async with trio.open_nursery() as nursery:
        hub: Hub = await nursery.start(serve_hub, HubConfig(listen="127.0.0.1:0"))
        with pytest.raises(OSError, match="in use"):
            await serve_hub(HubConfig(listen=hub.addresses[0]))
        await hub.aclose()


async def test_a_server_that_ends_at_once_ends_its_clients() -> None:
    async with trio.open_nursery() as nursery:
        hub: Hub = await nursery.start(serve_hub, HubConfig(listen="127.0.0.1:0", limits=LIMITS))
        host, _, port = hub.addresses[0].rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(f"GET {MERCURE}?topic=a HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        assert b"200" in await stream.receive_some()
        nursery.cancel_scope.cancel()
    async with stream:
        while await stream.receive_some():
            pass
    assert hub.statistics().clients == 0
