"""Who has which id, who has been silent for too long, and what waits for those that are not there. Pure.

`now` is seconds of one clock that never goes back.
"""

from __future__ import annotations

import enum
import hmac
import math
from collections import OrderedDict
from collections.abc import Collection
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

__all__ = ["MESSAGE_COST", "Core", "Expired", "Member", "QueueLimits", "Verdict"]

MESSAGE_COST: Final = 512
"""Bytes that a message that waits takes beside its own: one for each of many receivers takes a little more."""


class Member(Protocol):
    """A connection under an id; equal to itself alone.

    Attributes:
        id: that it has, or wants.
        token: who knows it may come back under the id.
        crowd: whose share of all that waits its messages count to.
    """

    @property
    def id(self) -> str: ...
    @property
    def token(self) -> str: ...
    @property
    def crowd(self) -> str: ...


M = TypeVar("M", bound=Member)


class Verdict(enum.Enum):
    """Whether an id may be taken."""

    FREE = enum.auto()
    RETURNS = enum.auto()
    """It is taken, by somebody with the same token: the new connection takes the old one's place."""
    TAKEN = enum.auto()
    FULL = enum.auto()
    """There are as many members as there may be."""


class QueueLimits(NamedTuple):
    """How much may wait; each message takes `MESSAGE_COST` bytes beside its own.

    One crowd has at most half of what may wait for one receiver, and a quarter of what may wait in all; so nobody alone
    can keep others from waiting.
    """

    messages: int
    bytes: int
    all_messages: int
    all_bytes: int


class Expired(NamedTuple):
    """Messages from `sender` to `receiver` waited in vain."""

    sender: str
    receiver: str


class _Amount:
    """So many messages, with so many bytes together."""

    __slots__ = ("bytes", "messages")

    def __init__(self) -> None:
        self.messages = self.bytes = 0

    def fits(self, size: int, most_messages: float, most_bytes: float) -> bool:
        """Whether one message more would not be too much."""
        return self.messages < most_messages and self.bytes + size <= most_bytes

    def add(self, size: int) -> None:
        self.messages += 1
        self.bytes += size

    def remove(self, size: int) -> None:
        self.messages -= 1
        self.bytes -= size


class _Queue:
    """What waits for one receiver: sender, crowd and frame of each message."""

    __slots__ = ("amount", "by_crowd", "messages", "since")

    def __init__(self, now: float) -> None:
        self.since: Final = now
        self.messages: Final[list[tuple[str, str, bytes]]] = []
        self.amount: Final = _Amount()
        self.by_crowd: Final[dict[str, _Amount]] = {}


class Core(Generic[M]):
    """The tables of one broker.

    Attributes:
        members: by id.
    """

    def __init__(self, *, most_members: int, alive_timeout: float, expire_timeout: float, limits: QueueLimits) -> None:
        self.members: Final[dict[str, M]] = {}
        self.configure(
            most_members=most_members, alive_timeout=alive_timeout, expire_timeout=expire_timeout, limits=limits
        )
        self._heard: Final[OrderedDict[M, float]] = OrderedDict()
        self._queues: Final[OrderedDict[str, _Queue]] = OrderedDict()
        self._all: Final = _Amount()
        self._by_crowd: Final[dict[str, _Amount]] = {}

    def configure(self, *, most_members: int, alive_timeout: float, expire_timeout: float, limits: QueueLimits) -> None:
        """Goes by these from now on; who is there, and what waits, stays."""
        self._most_members = most_members
        self._alive_timeout = alive_timeout
        self._expire_timeout = expire_timeout
        self._limits = limits

    # Members

    def judge(self, id: str, token: str) -> Verdict:
        """Whether somebody with this token may have the id now."""
        there = self.members.get(id)
        if there is not None:
            return Verdict.RETURNS if _same(there.token, token) else Verdict.TAKEN
        return Verdict.FULL if len(self.members) >= self._most_members else Verdict.FREE

    def is_registered(self, id: str, token: str) -> bool:
        """Whether a member has the id, and this token."""
        there = self.members.get(id)
        return there is not None and _same(there.token, token)

    def enter(self, member: M, now: float) -> tuple[M | None, list[bytes]]:
        """The member has its id from now on, after `judge` said so.

        Returns:
            Whose place it took, who is no member any more but not forgotten; and the frames that waited for it.
        """
        replaced = self.members.get(member.id)
        self.members[member.id] = member
        self._heard[member] = now
        queue = self._queues.pop(member.id, None)
        return replaced, self._release(queue) if queue is not None else []

    def leave(self, member: M) -> bool:
        """Its id is free, and messages for it wait; returns whether it had one. Its time goes on until `forget`."""
        if self.members.get(member.id) is not member:
            return False
        del self.members[member.id]
        return True

    # Liveness

    def everybody(self) -> Collection[M]:
        """Who entered and was not forgotten, with an id or without."""
        return self._heard.keys()

    def heartbeat(self, member: M, now: float) -> None:
        """The member is alive; nothing for one that was forgotten."""
        if member in self._heard:
            self._heard[member] = now
            self._heard.move_to_end(member)

    def forget(self, member: M) -> None:
        """Nobody waits for its heartbeat any more."""
        self._heard.pop(member, None)

    @property
    def next_silent(self) -> float:
        """When the next one will have been silent for too long; infinity if nobody is there."""
        return next((heard + self._alive_timeout for heard in self._heard.values()), math.inf)

    def pop_silent(self, now: float) -> M | None:
        """Forgets one that has been silent for too long, and returns it."""
        if self.next_silent > now:
            return None
        return self._heard.popitem(last=False)[0]

    # What waits

    @property
    def waiting_messages(self) -> int:
        """That wait for all who are not there."""
        return self._all.messages

    @property
    def waiting_bytes(self) -> int:
        """Of those, with what they cost."""
        return self._all.bytes

    def wait(self, receiver: str, sender: M, frame: bytes, now: float) -> bool:
        """Keeps a frame for a receiver that is not there; False if there is no room for it."""
        limits, size, queue = self._limits, len(frame) + MESSAGE_COST, self._queues.get(receiver)
        crowd = self._by_crowd.get(sender.crowd)
        if not self._all.fits(size, limits.all_messages, limits.all_bytes):
            return False
        if not (crowd or _Amount()).fits(size, limits.all_messages / 4, limits.all_bytes / 4):
            return False
        share = None if queue is None else queue.by_crowd.get(sender.crowd)
        if not (share or _Amount()).fits(size, limits.messages / 2, limits.bytes / 2):
            return False
        if queue is None:
            queue = self._queues[receiver] = _Queue(now)
        elif not queue.amount.fits(size, limits.messages, limits.bytes):
            return False
        queue.messages.append((sender.id, sender.crowd, frame))
        for amount in (
            self._all,
            self._by_crowd.setdefault(sender.crowd, _Amount()),
            queue.amount,
            queue.by_crowd.setdefault(sender.crowd, _Amount()),
        ):
            amount.add(size)
        return True

    def expire(self, now: float, most: int) -> list[Expired]:
        """Forgets what has waited for too long, of `most` receivers: there may be more unless nothing is returned.

        Each sender is returned once for each receiver, in the order of their messages.
        """
        found: list[Expired] = []
        while self._queues and most > 0:
            most -= 1
            receiver, queue = next(iter(self._queues.items()))
            if queue.since + self._expire_timeout > now:
                break
            del self._queues[receiver]
            found += [Expired(sender, receiver) for sender in dict.fromkeys(sender for sender, _, _ in queue.messages)]
            self._release(queue)
        return found

    def _release(self, queue: _Queue) -> list[bytes]:
        """The frames of a queue that is no more."""
        for _, crowd, frame in queue.messages:
            self._all.remove(len(frame) + MESSAGE_COST)
            amount = self._by_crowd[crowd]
            amount.remove(len(frame) + MESSAGE_COST)
            if not amount.messages:
                del self._by_crowd[crowd]
        return [frame for _, _, frame in queue.messages]


def _same(token: str, other: str) -> bool:
    """How long it takes tells nothing about a token but its length."""
    return hmac.compare_digest(token.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
