"""What a link holds while nothing happens: few coroutines, and nothing of what came before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CoroutineType
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

import trio_relay
from trio_relay import open_node
from trio_relay.node.proving import Introduced
from trio_relay.overlay.handshake import Proven
from trio_relay.transports.routes import Request
from trio_relay.wire.urls import authority

from .raw_peer import open_stranger
from .support import until

PACKAGE = Path(trio_relay.__file__).parent


def stacks() -> Iterator[list[CoroutineType[Any, Any, Any]]]:
    """The coroutines of every task of this run, the outermost first."""
    tasks = [trio.lowlevel.current_root_task()]
    while tasks:
        task = tasks.pop()
        if task is not None:
            tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
            yield list(awaited(task.coro))


def awaited(waiting: object) -> Iterator[CoroutineType[Any, Any, Any]]:
    while isinstance(waiting, CoroutineType):
        yield waiting
        waiting = waiting.cr_await


def values(coroutine: CoroutineType[Any, Any, Any]) -> Iterable[object]:
    """Of its local variables."""
    return () if coroutine.cr_frame is None else coroutine.cr_frame.f_locals.values()


def is_of_the_past(value: object) -> bool:
    """Whether it is a message, messages, or what was needed to make the link."""
    if isinstance(value, list | tuple):
        return any(map(is_of_the_past, value))
    return isinstance(value, bytes | bytearray | Introduced | Proven | Request)


async def test_idle_link_waits_in_few_coroutines_and_holds_no_message() -> None:
    async with open_node() as node, open_stranger(node.urls[0]) as peer:
        await peer.prove(authority(node.urls[0]))
        await until(lambda: peer.id in node.links)
        await peer.ping(node.id)
        await wait_all_tasks_blocked()
        (reader,) = (stack for stack in stacks() if any(it.__qualname__ == "Runtime.run_link" for it in stack))
        own = [it for it in reader if Path(it.cr_code.co_filename).is_relative_to(PACKAGE)]
        held = [value for it in own for value in values(it) if is_of_the_past(value)]
    assert held == []
    assert [it.__qualname__ for it in own] == [
        "Services._run",
        "HttpServer.serve_stream",
        "Dialler.accept",
        "Runtime.run_link",
        "Runtime._read_to_end",
        "WebSocketConnection.receive",
        "DirectSocket.read",
    ]
