"""Looking names up: the resolver of the system may take half a minute, and cannot be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio
import trio_asyncio

__all__ = ["Lookups"]

_THREADS: Final = 16
"""Of one loop; one more name waits. They are not taken from those of the program."""


class Lookups(trio_asyncio.TrioExecutor):  # type: ignore[misc]
    """What aioice calls in a thread: when it is cancelled, the thread is left behind and nobody waits for it.

    Args:
        program: what others on the loop had before, and have.
        is_ours: plain; whether the task that asks is one of ours.
    """

    def __init__(self, program: trio_asyncio.TrioExecutor, is_ours: Callable[[], bool]) -> None:
        super().__init__(trio.CapacityLimiter(_THREADS))
        self.program: Final = program
        self._is_ours: Final = is_ours

    async def submit(self, func: Callable[..., Any], *args: Any) -> Any:
        """Trio, called by the loop."""
        if not self._is_ours():
            return await self.program.submit(func, *args)
        return await trio.to_thread.run_sync(func, *args, abandon_on_cancel=True, limiter=self._limiter)
