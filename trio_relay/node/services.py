"""Tasks that outlive the block that uses them: they end when they are told to, not when the block is cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeVarTuple

import trio

__all__ = ["Services", "open_alone", "open_services", "raise_alone"]

Ts = TypeVarTuple("Ts")


class Services:
    """Tasks that are shielded from the cancellation of what is around them until `cancel`.

    Without this, a goodbye that is queued in a `finally` after a cancellation would never be written, because the
    task that writes is cancelled as well.

    Args:
        shield: the scope around `shielded`, in which services run: one scope for all costs less than one for each.
        failures: a nursery around the block; a service that fails does so there and leaves the others running.
    """

    def __init__(self, shield: trio.CancelScope, shielded: trio.Nursery, failures: trio.Nursery) -> None:
        self._shield = shield
        self._shielded = shielded
        self._failures = failures

    def start_soon(self, function: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Starts a service; an exception in it cancels the block and comes out of it."""
        self._shielded.start_soon(self._run, function, args)

    async def start(self, function: Callable[..., Awaitable[object]], *args: object) -> Any:
        """Starts a service that reports by `task_status.started`; what it raises before that is raised here."""

        async def run(*, task_status: trio.TaskStatus[Any]) -> None:
            report = _Report(task_status)
            try:
                await function(*args, task_status=report)
            except trio.Cancelled:
                raise
            except BaseException as error:
                if not report.made:
                    raise
                self._failures.start_soon(_fail, error)

        return await self._shielded.start(run)

    async def _run(self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        try:
            await function(*args)
        except trio.Cancelled:
            raise
        except BaseException as error:
            self._failures.start_soon(_fail, error)

    def cancel(self) -> None:
        """Ends all services, and those that are started later."""
        self._shield.cancel()


class _Report:
    """A task status that remembers whether it was used."""

    def __init__(self, status: trio.TaskStatus[Any]) -> None:
        self._status = status
        self.made = False

    def started(self, value: Any = None) -> None:
        self._status.started(value)
        self.made = True


async def _fail(error: BaseException) -> NoReturn:
    raise error


@asynccontextmanager
async def open_services() -> AsyncIterator[Services]:
    """Opens a nursery for services; they are cancelled at the end of the block.

    An exception that is alone comes out as it was raised, not in a group of one.
    """
    try:
        async with trio.open_nursery() as nursery:
            services = await nursery.start(_host, nursery)
            try:
                yield services
            finally:
                services.cancel()
    except BaseExceptionGroup as group:
        raise_alone(group)


async def _host(failures: trio.Nursery, *, task_status: trio.TaskStatus[Services]) -> None:
    """The task in whose nursery services run, since the block itself must not be shielded."""
    # A shielded task that never was handed over could not be ended.
    await trio.lowlevel.checkpoint_if_cancelled()
    with trio.CancelScope(shield=True) as shield:
        async with trio.open_nursery() as shielded:
            task_status.started(Services(shield, shielded, failures))
            await trio.sleep_forever()


@asynccontextmanager
async def open_alone() -> AsyncIterator[trio.Nursery]:
    """A nursery; an exception that is alone comes out as it was raised, not in a group of one."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
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
