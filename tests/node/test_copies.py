"""What is sent is the value at the time of the call, whatever the application does with it afterwards."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from trio_relay import open_node
from trio_relay.testing import MemoryNetwork

from .support import identity, relays_of, take, until, url


@pytest.mark.parametrize("waiting", [True, False], ids=["send", "send_nowait"])
async def test_value_that_changes_while_its_receiver_is_looked_for(autojump_clock: MockClock, waiting: bool) -> None:
    network, other = MemoryNetwork(latency=0.1), identity("other")
    async with (
        network,
        open_node("hub", network=network),
        open_node(None, [url("hub")], identity=other, network=network) as receiver,
        open_node(None, [url("hub")], network=network, legacy=True) as node,
    ):
        await until(lambda: relays_of(receiver) and relays_of(node), seconds=60)
        inner: list[object] = [1]
        value: list[object] = ["as it was", inner]
        if waiting:
            await node.send(receiver.id, value)  # type: ignore[arg-type]
        else:
            node.send_nowait(receiver.id, value)  # type: ignore[arg-type]
        assert node.statistics().sizes["legacy_waiting"] == 1
        value[0] = "changed"
        inner.append(value)
        assert await take(receiver, 1) == [["as it was", [1]]]
