"""The asyncio loop of a Trio run: one for all nodes, entered in a task of its own, ended when nobody needs it.

Where the caller is inside an embedding program's own trio-asyncio loop, that one is used and left as it was found.

Flavours: `open_loop`, `Loop.run`, `Loop.settle` are Trio's. `Loop.call` and `Loop.spawn` are plain functions for Trio
tasks; what they are given runs in asyncio context. `Loop._make_task` and `Loop._on_error` are called by the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar, TypeVarTuple
from weakref import WeakMethod, WeakSet

import trio
import trio_asyncio

from . import internals
from .lookups import Lookups

__all__ = ["Loop", "Owner", "open_loop"]

logger: Final = logging.getLogger("trio_relay")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_EMBEDDED: Final = trio_asyncio.current_loop
_owner: Final[contextvars.ContextVar[Owner | None]] = contextvars.ContextVar("trio_relay_webrtc_owner", default=None)
"""Inherited by whatever an owner's tasks, timers and sockets start."""


class Owner:
    """On whose behalf something runs on the loop: one connection.

    Args:
        on_fault: a method, called in asyncio context when one of its tasks, that nobody waits for, failed. It is
            held weakly: trio-asyncio keeps a cancelled timer, and with it the owner, until its time.
        counters: ``webrtc_faults`` counts these, and failed callbacks.
    """

    def __init__(self, loop: Loop, on_fault: Callable[[BaseException], None], counters: Counter[str]) -> None:
        self.context: Final = loop.context.copy()
        self.context.run(_owner.set, self)
        self.tasks: Final[WeakSet[asyncio.Task[Any]]] = WeakSet()
        self._on_fault: Final = WeakMethod(on_fault)
        self.counters: Final = counters
        self._works = 0
        self._at_rest: Final = trio.lowlevel.ParkingLot()

    def fail(self, error: BaseException) -> None:
        """One of its tasks did."""
        if (on_fault := self._on_fault()) is not None:
            on_fault(error)

    @contextmanager
    def working(self) -> Iterator[None]:
        """A thread works for it during the block."""
        self._works += 1
        try:
            yield
        finally:
            self._works -= 1
            self._at_rest.unpark_all()

    async def rest(self, timeout: float) -> bool:
        """Trio, shielded. Waits until no thread works for it; says whether that is so."""
        with trio.move_on_after(timeout, shield=True):
            while self._works:
                await self._at_rest.park()
        return not self._works

    def pending(self) -> list[asyncio.Task[Any]]:
        """Tasks that have not ended."""
        return [task for task in self.tasks if not task.done()]


class Loop:
    """A running asyncio loop, as Trio tasks use it.

    Attributes:
        users: leases.
        ending: called when the loop has ended, whoever ended it.
        context: the variables that everything on the loop starts with; never the caller's.
        shared: what several connections have in common, by the ``id`` of what it is about.
    """

    def __init__(self, embedded: asyncio.AbstractEventLoop | None) -> None:
        self.users = 0
        self.context = contextvars.Context()
        self.shared: Final[dict[int, Any]] = {}
        self.aio: asyncio.AbstractEventLoop
        self._embedded: Final = embedded
        self._ready: Final = trio.Event()
        self._finish: Final = trio.Event()
        self._ended: Final = trio.Event()
        self.ending: Final[set[Callable[[], None]]] = set()
        self._failure: BaseException | None = None
        self._waiting: Final[set[trio.Event]] = set()
        self._task_factory: Any = None
        self._exception_handler: Any = None

    # Its life

    def start(self) -> None:
        """Starts the task that keeps it."""
        trio.lowlevel.spawn_system_task(self._serve, name="trio_relay asyncio loop")

    async def wait_ready(self) -> None:
        """Trio. Waits until it runs; raises `trio.BrokenResourceError` when it does not."""
        await self._ready.wait()
        self.check()

    async def finish(self, timeout: float) -> None:
        """Ends it, or leaves an embedding program's loop, and waits for that; what cannot end by then ends later."""
        self._finish.set()
        with trio.move_on_after(timeout, shield=True):
            await self._ended.wait()

    @property
    def has_ended(self) -> bool:
        """Whether it cannot be used any more."""
        return self._failure is not None or self._ended.is_set()

    def check(self) -> None:
        """Raises `trio.BrokenResourceError` when the loop no longer runs."""
        if self.has_ended:
            raise trio.BrokenResourceError("the asyncio loop of WebRTC has ended") from self._failure

    async def _serve(self) -> None:
        try:
            if self._embedded is not None:
                self.context.run(_EMBEDDED.set, self._embedded)
                await self._attend(self._embedded)
            else:
                async with trio.open_nursery() as nursery, trio_asyncio.open_loop() as loop:
                    self.context = contextvars.copy_context()
                    await self._attend(loop)
                    if not self._finish.is_set():
                        await internals.restart(loop, nursery)
        except BaseException as error:
            # A system task that fails would end the whole run. What cancels it must get through.
            ours, rest = _split(error)
            if ours is not None:
                self._failure = self._failure or ours
                logger.error("the asyncio loop of WebRTC failed", exc_info=ours)
            if rest is not None:
                raise rest from None
        finally:
            self._ended.set()
            self._ready.set()
            self._announce_end()

    def _announce_end(self) -> None:
        """Nobody may wait for what will not come."""
        for waiting in self._waiting:
            waiting.set()
        for callback in list(self.ending):
            callback()

    async def _attend(self, loop: Any) -> None:
        self.aio = loop
        internals.forget_closed_mdns()
        with self._hooks(loop):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def watch() -> None:
                    await loop.wait_stopped()
                    nursery.cancel_scope.cancel()

                self._ready.set()
                try:
                    await self._finish.wait()
                finally:
                    if not self._finish.is_set():
                        self._failure = RuntimeError("it stopped")
                        self._announce_end()
                nursery.cancel_scope.cancel()

    @contextmanager
    def _hooks(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Puts ours before the program's own, and takes them back."""
        self._task_factory = loop.get_task_factory()
        self._exception_handler = loop.get_exception_handler()
        factory, handler = self._make_task, self._on_error
        lookups = Lookups(internals.executor(loop), _owner.get)
        loop.set_task_factory(factory)
        loop.set_exception_handler(handler)
        loop.set_default_executor(lookups)
        try:
            with internals.eager_datagrams(loop, lambda: _owner.get() is not None):
                yield
        finally:
            if self._embedded is not None and loop.get_task_factory() == factory:
                loop.set_task_factory(self._task_factory)
            if self._embedded is not None and loop.get_exception_handler() == handler:
                loop.set_exception_handler(self._exception_handler)
            if self._embedded is not None and internals.executor(loop) is lookups:
                loop.set_default_executor(lookups.program)

    # For Trio tasks

    async def run(self, owner: Owner, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """Trio. Runs an asyncio function; cancelling this cancels that, and waits for it.

        Raises:
            trio.BrokenResourceError: the loop ended before the function did.
            Exception: whatever it raised.
        """
        task = self.spawn(owner, function, *args)
        try:
            await self._done(task)
        except trio.Cancelled:
            task.cancel()
            with trio.CancelScope(shield=True):
                await self._done(task)
            if task.done() and not task.cancelled():
                task.exception()  # so that nobody reports it as never retrieved
            raise
        if not task.done() or task.cancelled():
            raise trio.BrokenResourceError("the asyncio loop of WebRTC ended, or somebody cancelled its tasks")
        return task.result()

    async def settle(self, tasks: list[asyncio.Task[Any]], timeout: float) -> bool:
        """Trio, shielded. Waits until all have ended; says whether they have. Takes their exceptions as seen."""
        with trio.move_on_after(timeout, shield=True):
            for task in tasks:
                await self._done(task)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()
        return all(task.done() for task in tasks)

    def spawn(self, owner: Owner, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> asyncio.Task[T]:
        """Starts an asyncio function in a task."""
        self.check()
        return self.aio.create_task(function(*args), context=owner.context)

    def call(self, owner: Owner, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Calls a function that needs a running loop; trio-asyncio looks for it in the context of the Trio task."""
        self.check()
        token = _EMBEDDED.set(self.aio)
        try:
            return owner.context.run(function, *args)
        finally:
            _EMBEDDED.reset(token)

    async def _done(self, task: asyncio.Task[Any]) -> None:
        """Returns when the task, or the loop, has ended."""
        if task.done() or self.has_ended:
            await trio.lowlevel.checkpoint()
            return
        done = trio.Event()

        def callback(_: object) -> None:
            done.set()

        task.add_done_callback(callback)
        self._waiting.add(done)
        try:
            await done.wait()
        finally:
            self._waiting.discard(done)
            task.remove_done_callback(callback)

    # For the loop

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Future[Any]:
        """Remembers the tasks of an owner: none may outlive it, and aiortc keeps no list of those it starts."""
        task: asyncio.Future[Any]
        if self._task_factory is not None:
            task = self._task_factory(loop, coro, **options)
        else:
            task = asyncio.Task(coro, loop=loop, **options)
        context = options.get("context")
        owner = context.get(_owner) if context is not None else _owner.get()
        if owner is not None and isinstance(task, asyncio.Task):
            owner.tasks.add(task)
            task._trio_relay_owner = owner  # type: ignore[attr-defined]
        return task

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error that nobody waits for. Strangers can cause them: they end the connection, and nothing else."""
        task = context.get("task") or context.get("future")
        owner = getattr(task, "_trio_relay_owner", None)
        if owner is None:
            variables = internals.context_owner(context.get("handle"))
            owner = variables.get(_owner) if variables is not None else None
        if owner is None and self._embedded is not None:
            if self._exception_handler is not None:
                self._exception_handler(loop, context)
            else:
                loop.default_exception_handler(context)
            return
        error = context.get("exception")
        logger.debug("WebRTC: %s", context.get("message"), exc_info=error)
        # A ConnectionError is how aiortc notes that it has nothing left to send over; its events tell that, too.
        if owner is not None and not isinstance(error, ConnectionError):
            owner.counters["webrtc_faults"] += 1
            if task is not None and error is not None:
                owner.fail(error)


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """What failed, and what only passes through, like `trio.Cancelled`."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(Exception)
    return (error, None) if isinstance(error, Exception) else (None, error)


_loops: Final[trio.lowlevel.RunVar[dict[object, Loop]]] = trio.lowlevel.RunVar("trio_relay_webrtc_loops")


@asynccontextmanager
async def open_loop(*, close_timeout: float) -> AsyncIterator[Loop]:
    """Trio. The loop of this run, for the block; the first block starts it, the end of the last one ends it.

    Raises:
        trio.BrokenResourceError: it could not be started.
    """
    loops = _loops.get({})
    _loops.set(loops)
    current = _EMBEDDED.get()
    embedded = current if current is not None and current.is_running() else None
    loop = loops.get(embedded)
    if loop is None or loop.has_ended:
        loop = loops[embedded] = Loop(embedded)
        loop.start()
    loop.users += 1
    try:
        await loop.wait_ready()
        yield loop
    finally:
        loop.users -= 1
        if not loop.users:
            if loops.get(embedded) is loop:
                del loops[embedded]
            await loop.finish(close_timeout)
