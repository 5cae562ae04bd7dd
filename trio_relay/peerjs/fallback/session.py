"""A session: messages over a succession of carriers, each message once, in order, none lost. Pure.

Rules of this file:

1. What was sent stays here until the other side has acknowledged it. On each new carrier both sides say first, by
   HELLO, what they expect next; whatever lies between that and what was sent is sent again.
2. A carrier keeps the order and loses nothing until it breaks. So a fragment with any other number than the expected
   one is a violation, not an accident.
3. A side may have sent no more than the other side granted: what it has taken, and `SessionRules.window`. A receiver
   that does not take its messages so stops the sender, and nothing grows.
4. No timers: an acknowledgement leaves when an eighth of the window is due, or when somebody asks for one.
5. The end is a fragment like any other, so it comes after all messages, and is acknowledged.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from ...exceptions import RemoteProtocolError
from .frames import (
    FRAGMENT_HEAD,
    HELLO_SIZE,
    MAX_FRAGMENT,
    Ack,
    Flag,
    Fragment,
    Hello,
    Reset,
    encode_frame,
    parse_frames_untrusted,
)
from .rules import OVERHEAD, SessionRules

__all__ = ["CARRIER_MESSAGE", "ResumableSession"]

CARRIER_MESSAGE: Final = MAX_FRAGMENT + FRAGMENT_HEAD + HELLO_SIZE
"""Bytes of a message that every carrier has to carry."""
_TOO_BIG: Final = 1009


class _Piece(NamedTuple):
    """A fragment to be sent; `until` is what all fragments up to it have cost."""

    flags: int
    payload: bytes
    until: int


class ResumableSession:
    """One side of a session.

    Attributes:
        round: of the carrier that is in use.
        resumed: the other side has said HELLO over the carrier that is in use.
        reset: the other side has given the connection up.
        unsent: bytes that wait to be sent; those included that have to be sent again.
    """

    def __init__(self, rules: SessionRules | None = None) -> None:
        self.rules: Final = rules or SessionRules()
        self.round = 0
        self.resumed = False
        self.reset = False
        # What we send
        self.unsent = 0
        self._waiting: Final[deque[_Piece]] = deque()
        self._sent: Final[deque[_Piece]] = deque()
        self._acknowledged = 0  # the number of the first piece that is kept
        self._acknowledged_cost = 0
        self._cost = 0
        self._limit = 0
        self._finishing = False
        self._hello_due = False
        self._reset_due = False
        # What we receive
        self._messages: Final[deque[tuple[bytes | str, int]]] = deque()
        self._parts: Final[list[bytes]] = []
        self._partial = 0
        self._partial_cost = 0
        self._partial_text = False
        self._next = 0
        self._received = 0  # what all that came has cost
        self._taken = 0
        self._told_next, self._told_received, self._told_limit = 0, 0, 0
        self._ack_wanted = False
        self._end_came = False

    # The application

    @property
    def has_room(self) -> bool:
        """Whether `send` may be called."""
        return self.kept < self.rules.send_buffer and not self._finishing

    @property
    def kept(self) -> int:
        """What everything that was not acknowledged has cost."""
        return self._cost - self._acknowledged_cost

    @property
    def held(self) -> int:
        """What everything that came and was not taken has cost."""
        return self._received - self._taken

    def send(self, message: bytes | str) -> None:
        """Takes a message.

        Raises:
            ValueError: it is larger than `SessionRules.max_message`, or text with half a character.
        """
        text = Flag.TEXT if isinstance(message, str) else 0
        data = message.encode() if isinstance(message, str) else bytes(message)
        if len(data) > self.rules.max_message:
            raise ValueError(f"expected a message of at most {self.rules.max_message} bytes, not {len(data)}")
        size = self.rules.fragment
        for start in range(0, len(data) or 1, size):
            more = Flag.MORE if start + size < len(data) else 0
            payload = data if len(data) <= size else data[start : start + size]
            self._cost += len(payload) + OVERHEAD
            self.unsent += len(payload)
            self._waiting.append(_Piece(text | more, payload, self._cost))

    def finish(self) -> None:
        """No further message comes from our side; idempotent."""
        if not self._finishing:
            self._finishing = True
            self._waiting.append(_Piece(Flag.END, b"", self._cost))

    def give_up(self) -> None:
        """Tells the other side that the connection ends as it is."""
        self._reset_due = True

    @property
    def finished(self) -> bool:
        """Our end was acknowledged, and so is everything before it."""
        return self._finishing and not (self._waiting or self._sent)

    @property
    def ended(self) -> bool:
        """The other side has finished; its messages may still wait to be taken."""
        return self._end_came

    @property
    def pending(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._waiting)

    @property
    def has_messages(self) -> bool:
        """Whether `take` has something."""
        return bool(self._messages)

    def take(self) -> list[bytes | str]:
        """All messages that are complete."""
        messages = [message for message, _ in self._messages]
        self._taken += sum(cost for _, cost in self._messages)
        self._messages.clear()
        return messages

    # The carrier

    def attach(self, round_: int) -> None:
        """From now on there is a new carrier; nothing comes from the old one, or goes to it, any more."""
        self.round = round_
        self.resumed = False
        self._hello_due = True

    @property
    def owes(self) -> bool:
        """Whether `produce` has something."""
        return self._hello_due or self._reset_due or (self.resumed and (self._ack_due or self._can_send))

    @property
    def owes_answer(self) -> bool:
        """Whether the other side has not been told yet that its end came, or that we give up."""
        return self._reset_due or self._end_untold

    def ack_soon(self) -> None:
        """Sends an acknowledgement even where none is due, as a sign of life."""
        self._ack_wanted = True

    def produce(self, size: int) -> bytes:
        """The next message for the carrier, of at most `size` bytes, at least `CARRIER_MESSAGE`; none: nothing is due.

        What it returns counts as sent.
        """
        frames: list[bytes] = []
        if self._hello_due:
            self._hello_due = False
            frames.append(encode_frame(Hello(self.round, self._next, self._grant())))
        if self.resumed and self._ack_due:
            frames.append(encode_frame(Ack(self._next, self._grant())))
        if self._reset_due:
            self._reset_due = False
            frames.append(encode_frame(Reset()))
        room = size - sum(map(len, frames))
        while self.resumed and self._can_send:
            room -= FRAGMENT_HEAD + len(self._waiting[0].payload)
            if room < 0:
                break
            piece = self._waiting.popleft()
            frames.append(encode_frame(Fragment(piece.flags, self._acknowledged + len(self._sent), piece.payload)))
            self._sent.append(piece)
            self.unsent -= len(piece.payload)
        return b"".join(frames)

    @property
    def _can_send(self) -> bool:
        return bool(self._waiting) and (self._waiting[0].until <= self._limit or self._waiting[0].flags == Flag.END)

    @property
    def _ack_due(self) -> bool:
        step = self.rules.step
        return (
            self._ack_wanted
            or self._end_untold
            or self._received - self._told_received >= step
            or self._taken + self.rules.window - self._told_limit >= step
        )

    @property
    def _end_untold(self) -> bool:
        return self._end_came and self._told_next < self._next

    def _grant(self) -> int:
        """What is said in HELLO and ACK: all that came, and what may come."""
        self._ack_wanted = False
        self._told_next, self._told_received = self._next, self._received
        self._told_limit = self._taken + self.rules.window
        return self._told_limit

    def feed(self, message: bytes) -> None:
        """Takes one message of the carrier.

        Raises:
            RemoteProtocolError: it breaks a rule; the session must not be used any more.
        """
        for frame in parse_frames_untrusted(message):
            if isinstance(frame, Hello) == self.resumed:
                expected = "no second HELLO" if self.resumed else "a HELLO first"
                raise RemoteProtocolError(f"expected {expected} over a carrier, got {type(frame).__name__}")
            match frame:
                case Fragment():
                    self._take_fragment(frame)
                case Ack():
                    self._take_ack(frame.next, frame.limit)
                case Hello():
                    self._take_hello(frame)
                case Reset():
                    self.reset = True

    def _take_hello(self, hello: Hello) -> None:
        if hello.round != self.round:
            raise RemoteProtocolError(f"expected a HELLO of round {self.round}, got {hello.round}")
        self._take_ack(hello.next, hello.limit)
        self.resumed = True
        self.unsent += sum(len(piece.payload) for piece in self._sent)
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()

    def _take_ack(self, following: int, limit: int) -> None:
        count = following - self._acknowledged
        if not 0 <= count <= len(self._sent):
            first, last = self._acknowledged, self._acknowledged + len(self._sent)
            raise RemoteProtocolError(f"expected an acknowledgement of {first} to {last}, got {following}")
        if limit < self._limit:
            raise RemoteProtocolError(f"expected a limit of at least {self._limit}, got {limit}")
        for _ in range(count):
            self._acknowledged_cost = self._sent.popleft().until
        self._acknowledged, self._limit = following, limit

    def _take_fragment(self, fragment: Fragment) -> None:
        if fragment.number != self._next or self._end_came:
            wanted = "nothing after the end" if self._end_came else f"fragment {self._next}"
            raise RemoteProtocolError(f"expected {wanted}, got fragment {fragment.number}")
        if fragment.flags == Flag.END:
            if self._parts:
                raise RemoteProtocolError("expected the rest of a message, got the end")
            self._end_came = True
        else:
            self._take_part(fragment.payload, bool(fragment.flags & Flag.MORE), bool(fragment.flags & Flag.TEXT))
        self._next += 1

    def _take_part(self, payload: bytes, more: bool, text: bool) -> None:
        rules, cost = self.rules, len(payload) + OVERHEAD
        if self._received + cost > self._told_limit:
            raise RemoteProtocolError("expected no more than was granted, got more")
        if self._parts and text != self._partial_text:
            raise RemoteProtocolError("expected one kind of data in a message, got text and bytes")
        if more and len(payload) < rules.min_fragment:
            raise RemoteProtocolError(f"expected fragments of at least {rules.min_fragment} bytes, got {len(payload)}")
        if self._partial + len(payload) > rules.max_message:
            raise RemoteProtocolError(f"expected messages of at most {rules.max_message} bytes, got more", _TOO_BIG)
        self._received += cost
        self._partial += len(payload)
        self._partial_cost += cost
        self._partial_text = text
        if more or self._parts:
            self._parts.append(payload)
        if not more:
            data = b"".join(self._parts) if self._parts else payload
            self._messages.append((_decode(data) if text else data, self._partial_cost))
            self._parts.clear()
            self._partial = self._partial_cost = 0


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"expected text in UTF-8: {error.reason} at byte {error.start}", 1007) from error
