"""What is done in threads: looking names up, which may take half a minute, and encoding, which ends by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio
import trio_asyncio

from .media_internals import is_encoding

if TYPE_CHECKING:
    from .loop import Owner

__all__ = ["Lookups"]

_THREADS: Final = 16
"""Of one loop; one more name waits. They are not taken from those of the program."""
_ENCODERS: Final = 16
"""Likewise; one more frame waits, and with it its track."""


class Lookups(trio_asyncio.TrioExecutor):  # type: ignore[misc]
    """When a lookup is cancelled, its thread is left behind and nobody waits for it; the end of a connection waits
    for its encoders.

    Args:
        program: what others on the loop had before, and have.
        find_owner: plain; for whom the task works that asks, None when it is not one of ours.
    """

    def __init__(self, program: trio_asyncio.TrioExecutor, find_owner: Callable[[], Owner | None]) -> None:
        super().__init__(trio.CapacityLimiter(_THREADS))
        self.program: Final = program
        self._find_owner: Final = find_owner
        self._encoders: Final = trio.CapacityLimiter(_ENCODERS)

    async def submit(self, func: Callable[..., Any], *args: Any) -> Any:
        """Trio, called by the loop."""
        owner = self._find_owner()
        if owner is None:
            return await self.program.submit(func, *args)
        if is_encoding(func):
            with owner.working():
                result = await trio.to_thread.run_sync(func, *args, limiter=self._encoders)
            await trio.lowlevel.checkpoint_if_cancelled()  # the task that asks relies on its being cancelled
            return result
        return await trio.to_thread.run_sync(func, *args, abandon_on_cancel=True, limiter=self._limiter)
