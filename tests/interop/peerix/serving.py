"""Real brokers that let everybody in, and drivers for them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio
import trio_websocket

from tests.interop import brokers
from tests.interop.brokers import Broker, mosquitto_lines, nats_lines, running
from trio_relay.peerix.drivers.connected import ConnectedDriver
from trio_relay.peerix.drivers.mqtt import MqttDriver
from trio_relay.peerix.drivers.nats import NatsDriver

KINDS: Final = ("nats", "nats websocket", "mqtt", "mqtt websocket")

MakeDriver = Callable[[], ConnectedDriver]


@asynccontextmanager
async def bridge(port: int) -> AsyncIterator[int]:
    """A WebSocket server in front of an MQTT broker that has none; it cuts the bytes anywhere. Yields its port."""
    chance = random.Random(8)

    async def forward(request: trio_websocket.WebSocketRequest) -> None:
        assert list(request.proposed_subprotocols) == ["mqtt"]
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await request.reject(502)
            return
        socket = await request.accept(subprotocol="mqtt")

        async def up() -> None:
            try:
                while True:
                    data = await socket.get_message()
                    assert isinstance(data, bytes)
                    await stream.send_all(data)
            except (trio_websocket.ConnectionClosed, trio.BrokenResourceError):
                nursery.cancel_scope.cancel()

        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(up)
            with suppress(trio_websocket.ConnectionClosed):  # by the driver, before the broker
                while data := await stream.receive_some(1000):
                    at = chance.randrange(len(data))
                    for part in (data[:at], data[at:]):
                        await socket.send_message(bytes(part))
            nursery.cancel_scope.cancel()
        await socket.aclose()

    async with trio.open_nursery() as nursery:
        serve = partial(trio_websocket.serve_websocket, forward, "127.0.0.1", 0, None)
        server = await nursery.start(serve)
        yield server.port
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving(kind: str, folder: Path) -> AsyncIterator[tuple[Broker, MakeDriver]]:
    """A broker that lets everybody in, and what makes drivers for it."""
    fast: dict[str, Any] = {"max_reconnect_delay": 0.05}
    if kind.startswith("nats"):
        broker = brokers.nats(folder)
        url = f"ws://127.0.0.1:{broker.web}" if kind.endswith("websocket") else f"nats://127.0.0.1:{broker.port}"
        async with running(broker, *nats_lines(broker)):
            yield broker, lambda: NatsDriver(url, prefix="peerix.", **fast)
        return
    broker = brokers.mosquitto(folder)
    async with running(broker, *mosquitto_lines(broker, "allow_anonymous true")):
        if not kind.endswith("websocket"):
            yield broker, lambda: MqttDriver(f"mqtt://127.0.0.1:{broker.port}", prefix="peerix/", **fast)
            return
        async with bridge(broker.port) as port:
            yield broker, lambda: MqttDriver(f"ws://127.0.0.1:{port}/mqtt", prefix="peerix/", **fast)
