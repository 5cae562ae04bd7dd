"""Tasks that outlive the block that uses them: they end when they are told to, not when the block is cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeVarTuple

import trio

__all__ = ["Services", "open_services", "raise_alone"]

Ts = TypeVarTuple("Ts")


class Services:
    """A nursery whose tasks are shielded from the cancellation of what is around it until `cancel`.

    Without this, a goodbye that is queued in a `finally` after a cancellation would never be written, because the
    task that writes is cancelled as well.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._scopes: set[trio.CancelScope] = set()
        self._cancelled = False

    def start_soon(self, function: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Starts a service; an exception in it cancels the block and comes out of it."""
        self._nursery.start_soon(self._run, function, args)

    async def start(self, function: Callable[..., Awaitable[object]], *args: object) -> Any:
        """Starts a service that reports by `task_status.started`."""

        async def run(*, task_status: trio.TaskStatus[Any]) -> None:
            with self._scope():
                await function(*args, task_status=task_status)

        return await self._nursery.start(run)

    async def _run(self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        with self._scope():
            await function(*args)

    def _scope(self) -> _Shield:
        return _Shield(self._scopes, self._cancelled)

    def cancel(self) -> None:
        """Ends all services, and those that are started later."""
        self._cancelled = True
        for scope in list(self._scopes):
            scope.cancel()


class _Shield:
    """A shielded cancel scope that is listed while it is entered."""

    def __init__(self, scopes: set[trio.CancelScope], cancelled: bool) -> None:
        self._scopes = scopes
        self._scope = trio.CancelScope(shield=True)
        if cancelled:
            self._scope.cancel()

    def __enter__(self) -> None:
        self._scopes.add(self._scope)
        self._scope.__enter__()

    def __exit__(self, *details: Any) -> bool | None:
        self._scopes.discard(self._scope)
        return self._scope.__exit__(*details)


@asynccontextmanager
async def open_services() -> AsyncIterator[Services]:
    """Opens a nursery for services; they are cancelled at the end of the block.

    An exception that is alone comes out as it was raised, not in a group of one.
    """
    try:
        async with trio.open_nursery() as nursery:
            services = Services(nursery)
            try:
                yield services
            finally:
                services.cancel()
    except BaseExceptionGroup as group:
        raise_alone(group)


def raise_alone(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raises the only member of a group that is more than cancellations, else the group.

    A member that is a group itself is left whole: it may be what the block raised.
    """
    errors = [error for error in group.exceptions if not _only_cancelled(error)]
    if len(errors) == 1:
        raise errors[0] from errors[0].__cause__
    raise group


def _only_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_only_cancelled, error.exceptions))
    return isinstance(error, trio.Cancelled)
