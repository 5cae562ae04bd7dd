"""A message as its receiver sees it, while it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, TypeAlias

import trio

from ...exceptions import TransferFailed, TransferFailure
from ...node.turns import Turns
from ...wire.json import JSONValue, decode_untrusted
from ..packets.transfer import PayloadType

__all__ = ["Keeper", "Message", "MessageType"]

MessageType: TypeAlias = Literal["text", "json", "blob", "bytes"]

_NAMES: Final[dict[PayloadType, MessageType]] = {
    PayloadType.TEXT: "text",
    PayloadType.JSON: "json",
    PayloadType.BLOB: "blob",
    PayloadType.BYTES: "bytes",
}
_MESSAGE: Final = 512
_CHUNK: Final = 64
"""Bytes that a message, and each chunk, takes from its member's budget besides its own: about what they cost."""


class Keeper(Protocol):
    """Where messages are kept until they are read."""

    def on_change(self, message: Message) -> None:
        """The message holds more or less, was taken, or is over."""
        ...

    def on_read(self, message: Message) -> None:
        """Somebody reads it."""
        ...

    def on_hungry(self, message: Message) -> None:
        """Somebody waits for more of it."""
        ...


class Message:
    """A message from a member, which may still be coming.

    ``await message.read()`` gives all of it; ``async for chunk in message`` its bytes as they come. It can be read
    once, in one of these ways, by one task. What was not read yet is held, up to `TransferLimits.message_bytes`; then
    its sender waits, and after `TransferLimits.stall_timeout` it is dropped. So messages that are large are best read
    by a task each; one that is not wanted is to be cancelled.

    Both ways raise `TransferFailed` when the rest of it does not come: see its `reason`.
    """

    def __init__(
        self,
        member: str,
        label: str,
        type: PayloadType,
        keeper: Keeper,
        give_up: Callable[[Message], None],
        *,
        info: bytes | None = None,
        raw: bool = False,
        read_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        """For a channel's link: `give_up` is called when it is not wanted any more, and has not all come."""
        self._member: Final = member
        self._label: Final = label
        self._type: Final = type
        self._keeper: Final = keeper
        self._give_up: Final = give_up
        self._info: Final = info
        self._raw: Final = raw
        self._read_bytes: Final = read_bytes
        self._chunks: Final[deque[bytes]] = deque()
        self._held = _MESSAGE + len(info or b"")
        self._received = 0
        self._complete = False
        self._failure: TransferFailed | None = None
        self._collected: list[bytes] | None = []
        self._collected_bytes = 0
        self._reading = False
        self._reader: Final = trio.lowlevel.ParkingLot()
        self._turns: Final = Turns()
        self.taken = False
        self.read_at = trio.current_time()

    def __repr__(self) -> str:
        state = "complete" if self._complete else "failed" if self._failure is not None else "coming"
        return f"<Message {self.type} from {self._member!r} on {self._label!r}, {self._received} bytes, {state}>"

    @property
    def member(self) -> str:
        """The id of its sender."""
        return self._member

    @property
    def label(self) -> str:
        """Of the channel that it came over."""
        return self._label

    @property
    def type(self) -> MessageType:
        """What its sender sent: ``"text"``, ``"json"``, ``"blob"`` (a file) or ``"bytes"``."""
        return _NAMES[self._type]

    @property
    def info(self) -> JSONValue:
        """What its sender told with it; None: nothing."""
        return None if self._info is None else decode_untrusted(self._info)

    @property
    def raw(self) -> bool:
        """Whether it came as one message of the channel, outside the framing: then it is ``"text"`` or ``"bytes"``."""
        return self._raw

    @property
    def received(self) -> int:
        """Bytes that have come so far."""
        return self._received

    @property
    def complete(self) -> bool:
        """Whether all of it has come; it may be unread."""
        return self._complete

    # Reading

    async def read(self, most: int | None = None) -> Any:
        """Waits for all of it: a `str` for ``"text"``, the value for ``"json"``, else `bytes`.

        A call that was cancelled can be repeated.

        Args:
            most: bytes; default: `TransferLimits.read_bytes`.

        Raises:
            TransferFailed: the rest of it does not come; ``too-large``: it has more than `most` bytes, and is given up.
            RemoteProtocolError: what came is not JSON.
            trio.ClosedResourceError: it has been read already.
            trio.BusyResourceError: another task reads it.
        """
        most = self._read_bytes if most is None else most
        collected = self._collected
        if collected is None:
            if self._failure is not None:
                self._raise_failure()
            raise trio.ClosedResourceError("this message has been read already")
        while (chunk := await self._next()) is not None:
            collected.append(chunk)
            self._collected_bytes += len(chunk)
            if self._collected_bytes > most:
                self._collected = None
                self.fail("too-large", f"it has more than {most} bytes")
                raise TransferFailed(self._member, "too-large", f"it has more than {most} bytes")
        data = collected[0] if len(collected) == 1 else b"".join(collected)
        self._collected = None
        if self._type is PayloadType.TEXT:
            return data.decode("utf-8", "replace")
        return decode_untrusted(data) if self._type is PayloadType.JSON else data

    def __aiter__(self) -> Message:
        return self

    async def __anext__(self) -> bytes:
        if self._collected:  # by a `read` that was cancelled
            return self._collected.pop(0)
        self._collected = None
        chunk = await self._next()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def _next(self) -> bytes | None:
        """The next chunk; None at the end."""
        if self._reading:
            raise trio.BusyResourceError("another task reads this message")
        self._reading = True
        try:
            self._keeper.on_read(self)
            await self._turns.give_way()
            while not self._chunks:
                if self._failure is not None:
                    self._raise_failure()
                if self._complete:
                    return None
                self._keeper.on_hungry(self)
                await self._reader.park()
            chunk = self._chunks.popleft()
            self._held -= len(chunk) + _CHUNK
            self._keeper.on_change(self)
            return chunk
        finally:
            self._reading = False

    def cancel(self) -> None:
        """It is not wanted any more; if it has not all come, its sender is told. What was not read is lost."""
        self.fail("cancelled", "it was cancelled here")

    def _raise_failure(self) -> None:
        failure = self._failure
        assert failure is not None
        # A new one each time: an exception that is raised again would collect tracebacks.
        raise TransferFailed(failure.member, failure.reason, str(failure))

    # For its channel, and its keeper

    @property
    def held(self) -> int:
        """Bytes that it takes from its member's budget."""
        return self._held

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self._complete or self._failure is not None

    @property
    def hungry(self) -> bool:
        """Whether a task waits for the next bytes."""
        return bool(self._reader) and not self._chunks

    def feed(self, chunk: bytes) -> None:
        """The next bytes, at least one."""
        if self.over:
            return
        self._received += len(chunk)
        self._held += len(chunk) + _CHUNK
        self._chunks.append(chunk)
        self._keeper.on_change(self)
        self._reader.unpark_all()

    def finish(self) -> None:
        """It is complete."""
        if not self.over:
            self._complete = True
            self._keeper.on_change(self)
            self._reader.unpark_all()

    def end(self, reason: TransferFailure, message: str) -> None:
        """The rest does not come; what has come can still be read."""
        if not self.over:
            self._failure = TransferFailed(self._member, reason, message)
            self._keeper.on_change(self)
            self._reader.unpark_all()

    def fail(self, reason: TransferFailure, message: str) -> None:
        """It is not wanted any more: whatever was not read is let go."""
        if not self.over:
            self._give_up(self)
        if self._failure is None and (self._chunks or not self._complete):
            self._failure = TransferFailed(self._member, reason, message)
        self._complete = False if self._failure is not None else self._complete
        self._chunks.clear()
        self._held = _MESSAGE
        self.taken = True
        self._keeper.on_change(self)
        self._reader.unpark_all()
