"""How messages travel in a data channel between two nodes (docs/protocol/webrtc.md, "The data channel"). Pure.

The first byte of each message of the data channel says what it is:

```
0  the last chunk of a message, or the only one     payload: 0 or more bytes
1  a chunk, more of the message follows             payload: 1,024 bytes or more
2  credit: so much more may be sent                 payload: 32 bits, big-endian, not 0
3  goodbye: the last message of this side           no payload
```

Data channels of WebRTC have no flow control that reaches the program at the other end, hence the credit.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ..exceptions import RemoteProtocolError
from .frame import MAX_MESSAGE

__all__ = ["FIRST_CREDIT", "GOODBYE", "MAX_CHUNK", "MIN_CHUNK", "Incoming", "Outgoing", "cost"]

MAX_CHUNK: Final = 64 * 1024
"""Bytes in one message of the data channel, its first byte included: nobody sends more."""
MIN_CHUNK: Final = 1024
"""Bytes of a chunk that is not the last: fewer would need more credit than there may be."""
FIRST_CREDIT: Final = 256 * 1024
"""What each side may send before it was given any credit: the handshake, and the largest message."""
_OVERHEAD: Final = 64
"""What a chunk costs beside its bytes: it bounds how many short messages may wait."""

_LAST, _MORE, _CREDIT, _GOODBYE = 0, 1, 2, 3
_LAST_BYTE: Final = bytes([_LAST])
_MORE_BYTE: Final = bytes([_MORE])
_CREDIT_LENGTH: Final = 5
_MAX_CREDIT: Final = (1 << 32) - 1
_TOO_BIG: Final = 1009
"""Close code of RFC 6455 section 7.4.1."""

GOODBYE: Final = bytes([_GOODBYE])


class Outgoing:
    """What this side may send.

    Args:
        max_message: bytes in one message of the data channel, as the other side announced it.

    Raises:
        RemoteProtocolError: that is too few.

    Attributes:
        credit: what may still be sent, in the units of `cost`.
    """

    __slots__ = ("_size", "credit")

    def __init__(self, max_message: int) -> None:
        if max_message <= MIN_CHUNK:
            raise RemoteProtocolError(f"expected messages of {MIN_CHUNK + 1} bytes to be taken, got {max_message}")
        self._size: Final = min(max_message, MAX_CHUNK) - 1
        self.credit = FIRST_CREDIT

    def split(self, message: bytes) -> list[bytes]:
        """The chunks of a message, each as it travels."""
        if len(message) <= self._size:
            return [_LAST_BYTE + message]
        view = memoryview(message)
        starts = range(0, len(message), self._size)
        return [
            (_LAST_BYTE if start + self._size >= len(message) else _MORE_BYTE) + view[start : start + self._size]
            for start in starts
        ]


def cost(chunk: bytes) -> int:
    """What a chunk, with its first byte, takes from the credit."""
    return len(chunk) - 1 + _OVERHEAD


class Incoming:
    """Puts the messages of the other side together, and watches that it keeps to its credit.

    Args:
        window: what the other side may have sent that nobody has taken here; at least `FIRST_CREDIT`.

    Attributes:
        granted: credit that came for our side and was not yet fetched.
        ended: the other side has said goodbye.
        closing: we have said goodbye: all is ignored but the goodbye of the other side, which may come amid a message.
    """

    __slots__ = ("_due", "_held", "_messages", "_partial", "_parts", "_window", "closing", "ended", "granted")

    def __init__(self, window: int) -> None:
        self._window: Final = max(window, FIRST_CREDIT)
        self._messages: deque[tuple[bytes, int]] = deque()
        """With what each has cost."""
        self._parts: list[bytes] = []
        self._partial = 0
        self._held = 0
        """What the messages and parts here have cost."""
        self._due = self._window - FIRST_CREDIT
        self.granted = 0
        self.ended = False
        self.closing = False

    def feed(self, message: bytes | str) -> None:
        """Takes one message of the data channel.

        Raises:
            RemoteProtocolError: it breaks a rule; there must not be another call.
        """
        if self.closing:
            self.ended = self.ended or message == GOODBYE
            return
        if isinstance(message, str):
            raise RemoteProtocolError("expected binary messages in a data channel, got text")
        if self.ended:
            raise RemoteProtocolError("expected nothing after a goodbye, got a message")
        kind = message[0] if message else None
        if kind in (_LAST, _MORE):
            self._feed_chunk(message, last=kind == _LAST)
        elif kind == _CREDIT:
            credit = int.from_bytes(message[1:], "big")
            if len(message) != _CREDIT_LENGTH or not credit:
                raise RemoteProtocolError(f"expected credit in 4 bytes and not 0, got {message[1:9].hex() or 'none'}")
            self.granted += credit
        elif kind == _GOODBYE:
            if len(message) != 1 or self._parts:
                where = "with a payload" if len(message) != 1 else "amid a message"
                raise RemoteProtocolError(f"expected a goodbye between messages and nothing in it, got one {where}")
            self.ended = True
        else:
            raise RemoteProtocolError(f"expected a chunk, credit or a goodbye, got {message[:8].hex() or 'nothing'}")

    def _feed_chunk(self, chunk: bytes, *, last: bool) -> None:
        length = len(chunk) - 1
        if length >= MAX_CHUNK:
            raise RemoteProtocolError(f"expected chunks of at most {MAX_CHUNK} bytes, got {len(chunk)}", _TOO_BIG)
        if not last and length < MIN_CHUNK:
            raise RemoteProtocolError(f"expected chunks of at least {MIN_CHUNK} bytes before the last, got {length}")
        if self._partial + length > MAX_MESSAGE:
            total = self._partial + length
            raise RemoteProtocolError(f"expected messages of at most {MAX_MESSAGE} bytes, got {total}", _TOO_BIG)
        self._held += cost(chunk)
        if self._held + self._due > self._window:
            raise RemoteProtocolError(f"expected no more than the credit of {self._window} bytes, got more")
        if last and not self._parts:
            self._messages.append((chunk[1:], cost(chunk)))
            return
        self._parts.append(chunk)
        self._partial += length
        if last:
            message = b"".join([memoryview(part)[1:] for part in self._parts])
            self._messages.append((message, sum(map(cost, self._parts))))
            self._parts.clear()
            self._partial = 0

    @property
    def waiting(self) -> bool:
        """Whether `take` has something."""
        return bool(self._messages)

    def take(self, size: float = float("inf")) -> list[bytes]:
        """The next complete messages, of `size` bytes together or little more; their cost is due to the other side."""
        messages = list[bytes]()
        while self._messages and size > 0:
            message, price = self._messages.popleft()
            messages.append(message)
            size -= len(message) + 1
            self._held -= price
            self._due += price
        return messages

    @property
    def credit_due(self) -> bool:
        """Whether so much was taken that the other side should be told."""
        return self._due * 4 >= self._window

    def grant(self) -> bytes:
        """The message that gives all that is due; the other side may use it from now on."""
        due = min(self._due, _MAX_CREDIT)
        self._due -= due
        return bytes([_CREDIT]) + due.to_bytes(4, "big")

    def take_back(self, message: bytes) -> None:
        """A message of `grant` was not sent."""
        self._due += int.from_bytes(message[1:], "big")
