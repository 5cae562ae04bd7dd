"""Messages that came, and were not read: for how many there is room, and what happens when there is none.

Rules of this file:

1. What counts is what nobody has taken yet, and what is still coming: messages, and bytes with what they cost besides.
   A message that was taken and is complete is its reader's business.
2. Each member has a budget. All together have one, too: where that is used up, a member that has its even share waits,
   and for one that has less the oldest message of whoever has most is dropped. So no member can take another's room.
3. A channel for whose next piece there is no room is not read from: the other side waits. A piece that somebody waits
   for always has room.
4. If nobody reads for `TransferLimits.stall_timeout`, the member's oldest message that nobody has taken is dropped; if
   it is one message alone that is full, then that one. From then on there is no waiting any more for this member,
   until somebody takes or reads a message of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import trio

from ...exceptions import TransferFailed
from ...node.turns import Turns
from .limits import TransferLimits
from .message import Message

__all__ = ["Account", "Inbox"]


class Account:
    """What one member holds here.

    Attributes:
        links: its channels that are read.
        messages: those that count, oldest first, with the bytes that each counts for.
        bytes: their sum.
        read_at: when somebody took or read a message last; seconds of Trio's clock.
        lapsed: nobody read in time, nor since.
    """

    __slots__ = ("bytes", "lapsed", "links", "member", "messages", "read_at")

    def __init__(self, member: str) -> None:
        self.member: Final = member
        self.links = self.bytes = 0
        self.messages: Final[dict[Message, int]] = {}
        self.read_at = 0.0
        self.lapsed = False


class Inbox:
    """What ``async for message in room`` reads.

    Args:
        on_error: called for each message that is dropped; it must not wait.
    """

    def __init__(
        self, limits: TransferLimits, counts: Counter[str], *, on_error: Callable[[TransferFailed], None]
    ) -> None:
        self._limits: Final = limits
        self._counts: Final = counts
        self._on_error: Final = on_error
        self._accounts: Final[dict[str, Account]] = {}
        self._untaken: Final[dict[Message, None]] = {}
        self._bytes = self._messages = 0
        self._closed = False
        self._takers: Final = trio.lowlevel.ParkingLot()
        self._blocked: Final = trio.lowlevel.ParkingLot()
        self._turns: Final = Turns()

    def __len__(self) -> int:
        """Messages that nobody has taken."""
        return len(self._untaken)

    @property
    def bytes(self) -> int:
        """What counts, of all members."""
        return self._bytes

    # Taking

    async def receive(self) -> Message:
        """The next message that nobody has taken or begun to read; it may still be coming.

        Raises:
            trio.EndOfChannel: the room was left, and all messages were taken.
        """
        await self._turns.give_way()
        while not self._untaken:
            if self._closed:
                raise trio.EndOfChannel
            for account in self._accounts.values():
                account.lapsed = False
            await self._takers.park()
        message = next(iter(self._untaken))
        self.on_read(message)
        return message

    def end(self) -> None:
        """No more messages come; those that are there can be taken."""
        self._closed = True
        self._takers.unpark_all()

    # For channels

    def open_account(self, member: str) -> Account:
        """One more channel of this member is read."""
        account = self._accounts.get(member)
        if account is None:
            account = self._accounts[member] = Account(member)
        account.links += 1
        return account

    def close_account(self, account: Account) -> None:
        """One channel less."""
        account.links -= 1
        self._forget(account)

    def put(self, message: Message) -> None:
        """A new message; there is room for it."""
        if not self._closed:
            self._untaken[message] = None
        else:
            message.taken = True
        self.on_change(message)
        self._takers.unpark()

    def has_room(self, account: Account, message: Message | None) -> bool:
        """Whether there is room for a new message, or for more of one that is coming."""
        return self._obstacle(account, message) is None

    async def wait_room(self, account: Account, message: Message | None) -> None:
        """Returns when there is room, or after something was dropped for it."""
        began = trio.current_time()
        await trio.lowlevel.checkpoint()
        while (obstacle := self._obstacle(account, message)) is not None:
            if obstacle is not account and obstacle is not message:
                self._drop(obstacle)
                continue
            deadline = max(began, obstacle.read_at) + self._limits.stall_timeout
            if account.lapsed or trio.current_time() >= deadline:
                account.lapsed = True
                self._drop(obstacle)
            else:
                with trio.move_on_at(deadline):
                    await self._blocked.park()

    def _obstacle(self, account: Account, message: Message | None) -> Account | Message | None:
        """What has to become less: a message that is full, or all that the member holds."""
        limits = self._limits
        if message is not None:
            if message.over or message.hungry:
                return None
            if message.held >= limits.message_bytes:
                return message
        messages = len(account.messages) + (message is None)
        if messages > limits.member_messages or account.bytes >= limits.member_bytes:
            return account
        if self._bytes >= limits.total_bytes:
            share = max(1, limits.total_bytes // len(self._accounts))
            return account if account.bytes >= share else max(self._accounts.values(), key=lambda one: one.bytes)
        if self._messages + (message is None) > limits.total_messages:
            share = max(1, limits.total_messages // len(self._accounts))
            return account if messages > share else max(self._accounts.values(), key=lambda one: len(one.messages))
        return None

    def _drop(self, obstacle: Account | Message) -> None:
        """Drops that message; or of that member the oldest one that nobody has taken, else the oldest one."""
        if isinstance(obstacle, Account):
            messages = obstacle.messages
            obstacle = next((one for one in messages if not one.taken), None) or next(iter(messages))
        self._counts["messages_dropped"] += 1
        reason = "nobody read it in time"
        obstacle.fail("stalled", reason)
        self._on_error(TransferFailed(obstacle.member, "stalled", f"a message on {obstacle.label!r}: {reason}"))

    # As the keeper of messages

    def on_read(self, message: Message) -> None:
        """Somebody takes it, or reads it."""
        account = self._accounts.get(message.member)
        message.read_at = trio.current_time()
        if account is not None:
            account.read_at = message.read_at
            account.lapsed = False
        if not message.taken:
            message.taken = True
            self._untaken.pop(message, None)
            self.on_change(message)

    def on_hungry(self, message: Message) -> None:
        """Somebody waits for more of it: there is room for that."""
        self._blocked.unpark_all()

    def on_change(self, message: Message) -> None:
        """It holds more or less, was taken, or is over."""
        account = self._accounts.get(message.member)
        if message.taken:
            self._untaken.pop(message, None)
        if account is None:
            return
        before = account.messages.get(message)
        if message.taken and message.over:
            if before is None:
                return
            del account.messages[message]
            after = 0
            self._messages -= 1
            self._forget(account)
        else:
            after = account.messages[message] = message.held
            self._messages += before is None
        account.bytes += after - (before or 0)
        self._bytes += after - (before or 0)
        if after < (before or 0):
            self._blocked.unpark_all()

    def _forget(self, account: Account) -> None:
        if not account.links and not account.messages:
            self._accounts.pop(account.member, None)
