"""What the application waits for: messages, confirmations, links, and room. No router here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from ..limits import Limits
from ..overlay.actions import Preference
from ..wire.ids import NodeId
from .events import Events
from .values import Event, Message

__all__ = ["Desk", "Waiter"]


class Outcome(Protocol):
    """Whoever is told how something ended."""

    def put(self, result: object) -> None:
        """The result; an exception is one too."""
        ...


class Waiter:
    """One result that the application waits for."""

    __slots__ = ("_done", "_result")

    def __init__(self) -> None:
        self._done = trio.Event()
        self._result: object = None

    def put(self, result: object) -> None:
        """Gives the result; the first one counts."""
        if not self._done.is_set():
            self._result = result
            self._done.set()

    @property
    def settled(self) -> bool:
        """Whether `get` need not wait."""
        return self._done.is_set()

    async def get(self) -> object:
        """Waits for the result; raises it if it is an exception."""
        await self._done.wait()
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


class Desk:
    """The application's side of a running peer.

    Attributes:
        events: its subscriptions.
        deliveries: who is told how a confirmed message fared.
        lost: messages that came after the mailbox was closed.
        closed: whether the node is closing.
        on_closing: what is called when it begins to close.
    """

    def __init__(self, limits: Limits) -> None:
        self.events: Final = Events[Event](limits.event_buffer)
        self.deliveries: Final = dict[bytes, Outcome]()
        self.lost = 0
        self.closed = False
        self.on_closing: Final = list[Callable[[], None]]()
        self._lookups: Final = set[Waiter]()
        self._wishes: Final = dict[NodeId, dict[Waiter, Preference]]()
        self._changed = trio.Event()
        self._mailbox_in, self._mailbox_out = trio.open_memory_channel[tuple[Message, int]](limits.mailbox_messages)

    def check_open(self) -> None:
        """Raises trio.ClosedResourceError once the node is closing."""
        if self.closed:
            raise trio.ClosedResourceError("the node was closed")

    def put(self, message: Message, size: int) -> None:
        """Puts a message into the mailbox; whoever calls has checked its bounds."""
        try:
            self._mailbox_in.send_nowait((message, size))
        except trio.ClosedResourceError:
            # A reader or the router was already under way with it when the last link was closed.
            self.lost += 1

    def receive_nowait(self) -> tuple[Message, int] | None:
        """The next message, if there is one, and the room that it gives back."""
        try:
            return self._mailbox_out.receive_nowait()
        except trio.WouldBlock:
            return None

    async def receive(self) -> tuple[Message, int]:
        """The next message, and the room that it gives back."""
        return await self._mailbox_out.receive()

    def settle(self, message_id: bytes, result: object) -> None:
        """A confirmed message was acknowledged, or given up."""
        waiter = self.deliveries.pop(message_id, None)
        if waiter is not None:
            waiter.put(result)
        self.change()

    @contextmanager
    def wish(self, peer: NodeId, prefer: Preference = "websocket") -> Iterator[Waiter]:
        """Waits for a link with a peer, or for its refusal."""
        waiter = Waiter()
        self._wishes.setdefault(peer, {})[waiter] = prefer
        try:
            yield waiter
        finally:
            del self._wishes[peer][waiter]
            if not self._wishes[peer]:
                del self._wishes[peer]

    def wishes(self, peer: NodeId) -> int:
        """How many wait for a link with that peer."""
        return len(self._wishes.get(peer, ()))

    @contextmanager
    def looking(self) -> Iterator[Waiter]:
        """Waits for the end of a lookup."""
        waiter = Waiter()
        self._lookups.add(waiter)
        try:
            yield waiter
        finally:
            self._lookups.discard(waiter)

    def grant(self, peer: NodeId, result: object, only: Preference | None = None) -> None:
        """Ends the waiting for a link, of all or of those with that preference."""
        for waiter, prefer in self._wishes.get(peer, {}).items():
            if only in (None, prefer):
                waiter.put(result)

    def change(self) -> None:
        """Wakes whoever waits for links, or for room."""
        self._changed.set()
        self._changed = trio.Event()

    async def next_change(self) -> None:
        """Returns after the next change of links or of what is under way."""
        await self._changed.wait()

    async def wait_change(self) -> None:
        """The same for the application: raises if the node is closing."""
        self.check_open()
        await self.next_change()
        self.check_open()

    def begin_closing(self) -> None:
        """Ends everything that the application waits for; messages in the mailbox can still be taken."""
        self.closed = True
        waiters = [*self.deliveries.values(), *self._lookups, *(w for ws in self._wishes.values() for w in ws)]
        for waiter in waiters:
            waiter.put(trio.ClosedResourceError("the node was closed"))
        for call in self.on_closing:
            call()
        self.change()

    def close(self) -> None:
        """No more messages and events."""
        self._mailbox_in.close()
        self.events.close()
