"""The machine interface: carries out commands from standard input, and answers each.

Rules of this file:

1. Every input line gets exactly one reply with its ``ref``; a line that is not understood gets ``BadInput``.
2. What can be done at once is done in the order of the lines. The rest runs side by side, at most `_COMMANDS` at once;
   then input waits, which the writer of it feels. So it does while nobody reads the output.
3. At the end of input, commands under way have time to end; whatever cuts them short, they are answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Final

import trio

from ..exceptions import RelayError
from ..node.node import Node
from ..node.values import NodeStatistics
from ..wire.json import JSONValue
from .commands import BadInput, Command, parse_command
from .reports import describe_failure, describe_link, encode_line
from .stdio import LineReader, Out

__all__ = ["serve"]

_COMMANDS: Final = 256
_LINE_SIZE: Final = 1024 * 1024
"""Bytes: a message of the largest payload, all of it written as escapes, and a long ``ref``."""
_TIME_TO_END: Final = 35.0
"""Seconds, after the end of input: longer than `Node.deliver` and `Node.connect` take."""
_TIME_TO_ANSWER: Final = 2.0
"""Seconds, when a command is cut short."""

_FAILURES: Final = (RelayError, ValueError, trio.ClosedResourceError)
"""How a command that was understood may fail."""

Reply = dict[str, JSONValue]


async def serve(node: Node, out: Out) -> None:
    """Carries out commands until the end of input, and waits for those under way then."""
    reader = LineReader(_LINE_SIZE)
    free = trio.Semaphore(_COMMANDS)
    async with trio.open_nursery() as nursery:
        while lines := await reader.receive():
            for line in lines:
                try:
                    if line is None:
                        raise BadInput(f"expected a line of at most {_LINE_SIZE} bytes")
                    command = parse_command(line)
                except BadInput as error:
                    await _answer(out, describe_failure(error), error.ref)
                    continue
                reply = await _execute_at_once(node, command)
                if reply is not None:
                    await _answer(out, reply, command.ref)
                else:
                    await free.acquire()
                    nursery.start_soon(_execute_and_answer, node, command, out, free)
        nursery.cancel_scope.deadline = trio.current_time() + _TIME_TO_END


async def _answer(out: Out, reply: Reply, ref: JSONValue) -> None:
    await out.send(encode_line({**reply, "ref": ref}))


async def _execute_at_once(node: Node, command: Command) -> Reply | None:
    """The reply to a command that need not wait for anything, None for another."""
    try:
        match command.verb:
            case "send":
                node.send_nowait(command.to, command.data)
                return {"event": "sent"}
            case "disconnect":
                await node.disconnect(command.to)
                return {"event": "disconnected"}
            case "statistics":
                return {"event": "statistics", "statistics": _plain(node.statistics())}
            case "deliver" | "connect":
                return None
    except trio.WouldBlock:
        return None
    except _FAILURES as error:
        return describe_failure(error)


async def _execute_and_answer(node: Node, command: Command, out: Out, free: trio.Semaphore) -> None:
    try:
        reply = await _execute(node, command)
    except _FAILURES as error:
        reply = describe_failure(error)
    except trio.Cancelled:
        reply = describe_failure(trio.ClosedResourceError("the node closes; what became of the command is unknown"))
        with trio.move_on_after(_TIME_TO_ANSWER, shield=True):
            await _answer(out, reply, command.ref)
        raise
    await _answer(out, reply, command.ref)
    free.release()


async def _execute(node: Node, command: Command) -> Reply:
    if command.verb == "connect":
        await node.connect(command.to, prefer=command.prefer)
        return {"event": "connected"}
    if command.verb == "send":
        await node.send(command.to, command.data)
        return {"event": "sent"}
    receipt = await node.deliver(command.to, command.data)
    return {"event": "delivered", "rtt_ms": receipt.rtt * 1000, "hops": receipt.hops}


def _plain(statistics: NodeStatistics) -> JSONValue:
    members = {field.name: getattr(statistics, field.name) for field in fields(statistics)}
    members["neighbours"] = [describe_link(info) for info in statistics.neighbours]
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in members.items()}
