"""The end of a connection, whatever state it is in: nothing of it stays on the loop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, Protocol

import aioice
import trio
from aiortc import RTCRtpReceiver, RTCSctpTransport

from . import internals, media_internals
from .loop import Loop, Owner

__all__ = ["Connection", "close"]

logger: Final = logging.getLogger("trio_relay")

_GRACE: Final = 0.5
"""Seconds for cancelled tasks to end, beyond the deadline; they need none but on a machine that is very busy."""
_ROUNDS: Final = 4
"""Of cancelling: tasks that end may start others, like the end of a TURN allocation."""


class Connection(Protocol):
    """What can be closed: an ``RTCPeerConnection``, or what is like it."""

    @property
    def sctp(self) -> RTCSctpTransport | None: ...

    async def close(self) -> None: ...

    def getReceivers(self) -> list[RTCRtpReceiver]: ...

    def remove_all_listeners(self) -> Any: ...


async def close(
    loop: Loop,
    owner: Owner,
    connection: Connection,
    ice: aioice.Connection | None,
    names: list[asyncio.Task[None]],
    timeout: float,
) -> None:
    """Trio, shielded; it takes little more than `timeout`.

    `RTCPeerConnection.close` is called once and never cancelled before its time: half a close makes the next one wait
    for ever. Whatever it does not know of, because a call was cancelled half-way, is ended afterwards.

    Args:
        ice: its agent, if it has one; it has the sockets.
        names: tasks that look for names; they must have ended before, for they would open aioice's resolver again.
    """
    deadline = trio.current_time() + timeout
    try:
        loop.check()
        for task in names:
            task.cancel()
        await loop.settle(names, _GRACE)
        ended = await loop.settle([loop.spawn(owner, connection.close)], deadline - trio.current_time())
        ended = await _cut_off(loop, owner, connection, ice) and ended
        media_internals.stop_decoders(connection.getReceivers())
        ended = await owner.rest(_GRACE) and ended
        await loop.settle([loop.spawn(owner, _yield)], _GRACE)
    except trio.BrokenResourceError:  # the loop went, and took everything along but threads
        media_internals.stop_decoders(connection.getReceivers(), quietly=True)
        return
    connection.remove_all_listeners()
    if not ended:
        owner.counters["webrtc_close_timeouts"] += 1
        logger.warning("a WebRTC connection did not close in %g s; it was cut off", timeout)


async def _cut_off(loop: Loop, owner: Owner, connection: Connection, ice: aioice.Connection | None) -> bool:
    """Trio, shielded. Ends what is left; says whether nothing is."""
    for _ in range(_ROUNDS):
        if ice is not None:
            internals.abort_sockets(loop.aio, ice)
        tasks = owner.pending()
        for task in tasks:
            task.cancel()
        await loop.settle([*tasks, loop.spawn(owner, _yield)], _GRACE)
        if connection.sctp is not None:
            internals.stop_timers(connection.sctp)
        if not owner.pending():
            return True
    return False


async def _yield() -> None:
    """asyncio. Lets the loop do what was scheduled: closed sockets tell their protocols."""
    for _ in range(3):
        await asyncio.sleep(0)
