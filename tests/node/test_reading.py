"""What was read before a link ended is handled before its end; over real sockets, with a router task that is late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_relay import Limits, LinkDown, LinkUp, open_node
from trio_relay.node.link import Link
from trio_relay.node.runtime import Runtime
from trio_relay.overlay.router import Router
from trio_relay.wire.urls import authority

from .raw_peer import RawPeer, open_stranger
from .support import count, take, until

FRAMES = 500
SIZE = 1000
LIMITS = Limits(inbound_batches=2 * FRAMES)
"""So that no reader has to wait, in however many pieces the frames come."""


class LateRouter:
    """Keeps the router tasks of all nodes waiting, as if they were busy."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.gate = trio.Event()
        self._route = Runtime.route
        patch.setattr(Runtime, "route", lambda runtime: self.route(runtime))

    async def route(self, runtime: Runtime) -> None:
        await self.gate.wait()
        await self._route(runtime)


async def close(peer: RawPeer) -> int | None:
    """Returns when the other side has read everything and answered."""
    await peer.connection.aclose()
    return peer.connection.close_code


async def break_the_protocol(peer: RawPeer) -> int | None:
    await peer.connection._stream.send_all(b"\xff\xff")
    return await peer.ended()


@pytest.mark.parametrize(("end", "code"), [(close, 1000), (break_the_protocol, 1002)])
async def test_frames_are_not_overtaken_by_the_end_of_their_link(
    end: Callable[[RawPeer], Awaitable[int | None]], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = LateRouter(monkeypatch)
    async with (
        open_node(limits=LIMITS, sealed=False) as node,
        node.events() as events,
        open_stranger(node.urls[0]) as peer,
    ):
        await peer.prove(authority(node.urls[0]))
        await until(lambda: peer.id in node.links)
        payloads = [b"%7d" % number + bytes(SIZE) for number in range(FRAMES)]
        with trio.fail_after(5):
            for number, payload in enumerate(payloads):
                await peer.send(peer.frame(node.id, b"\0" + payload, message_id=number.to_bytes(8, "big")))
        assert await end(peer) == code
        await wait_all_tasks_blocked()
        # The end is known, and waits for its turn.
        assert peer.id in node.links
        late.gate.set()
        assert await take(node, FRAMES) == payloads
        await until(lambda: peer.id not in node.links)
        assert count(node, "link_gone") == 0
        assert [type(await anext(events)) for _ in range(2)] == [LinkUp, LinkDown]


async def test_dialler_closes_its_socket_when_the_other_end_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    links: list[Link] = []
    make = Runtime.link

    def note(*args: Any, **kwargs: Any) -> Link:
        links.append(make(*args, **kwargs))
        return links[-1]

    monkeypatch.setattr(Runtime, "link", note)
    async with open_node() as relay, open_node(None, relay.urls) as leaf:
        await until(lambda: leaf.links and relay.links)
        accepted, dialled = sorted(links, key=lambda link: link.dialled)
        accepted.connection.abort()
        await until(lambda: repr(dialled.connection).endswith("closed>"))
        assert dialled.closing


async def test_bug_in_a_reader_ends_the_node_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a bug")

    async def meet_the_bug() -> None:
        async with open_node() as node, open_stranger(node.urls[0]) as peer:
            await peer.prove(authority(node.urls[0]))
            await until(lambda: peer.id in node.links)
            monkeypatch.setattr(Router, "receive", fail)
            await peer.send(peer.frame(node.id))
            await trio.sleep_forever()

    began = trio.current_time()
    with pytest.raises(KeyError, match="a bug"):
        await meet_the_bug()
    # No goodbye is waited for on a link whose reader is gone.
    assert trio.current_time() - began < Limits().close_timeout
