"""One open session: sealing and opening payloads, each counter once (sessions.md section 2); pure."""

from __future__ import annotations

import enum
from typing import Final

from cryptography.exceptions import InvalidTag

from ...wire.frame import Flag
from ...wire.ids import NodeId, short
from ...wire.session import BOX_LENGTH, SEALED_HEAD, TAG_LENGTH, associated_data
from .secrets import Keys, make_cipher
from .window import ReplayWindow

__all__ = ["MOST_FRAMES", "RENEW_FRAMES", "Arrival", "Session"]

RENEW_FRAMES: Final = 2**21
"""Frames of one side after which a new session is opened. AES-GCM is good for 2^34.5 blocks of one key with a margin of
2^57 (RFC 8446 section 5.5); the largest payload has 2^12 blocks."""
MOST_FRAMES: Final = 2**22
"""What one side never exceeds, whatever becomes of the new session."""

_SEALED: Final = Flag.SEALED
_OPENING: Final = Flag.OPENING
_SEALED_OPENING: Final = _SEALED | _OPENING
_AFTER_BOX: Final = SEALED_HEAD.size + BOX_LENGTH
_REFUSED: Final = 64
"""Counters of refused messages that are remembered as such."""


class Arrival(enum.Enum):
    """What is known of a genuine frame's counter."""

    NEW = enum.auto()
    COPY = enum.auto()
    """It came before; the sender repeated it, or somebody on the way."""
    REFUSED = enum.auto()
    """It came before, and there was no room for what it brought."""


class Session:
    """The keys of two ids that proved themselves to each other; no key is ever printed.

    Attributes:
        peer: the other id.
        index: how the other side names this session to us.
        remote_index: how we name it to the other side.
        proof: our proof, sent along until the other side confirms that it has the session; then empty.
        born: when the keys were agreed upon.
        sealed: frames that we sealed.
        received: when something last came in it.
        used: when it was last used, in either direction.
        suspected: when somebody said that the other side does not know it; None if nobody did, or it was wrong.
        by_smaller: whether the smaller of the two ids opened it.
        confirm_at: not before that another confirmation is sent.
    """

    __slots__ = (
        "_box",
        "_receive",
        "_receive_iv",
        "_refused",
        "_seal",
        "_seal_iv",
        "_window",
        "born",
        "by_smaller",
        "confirm_at",
        "index",
        "opener",
        "peer",
        "proof",
        "received",
        "remote_index",
        "sealed",
        "suspected",
        "used",
    )

    def __init__(
        self,
        own: NodeId,
        peer: NodeId,
        index: bytes,
        remote_index: bytes,
        keys: Keys,
        said: bytes,
        proof: bytes,
        now: float,
    ) -> None:
        """`said` is the transcript with the accepter's proof; `proof` is ours if we opened, else empty."""
        self.peer: Final = peer
        self.index: Final = index
        self.remote_index: Final = remote_index
        self._box: Final = proof
        self.proof = proof
        self.opener: Final = bool(proof)
        self.by_smaller: Final = (own < peer) is self.opener
        opener, accepter = (keys.derive(role + b" data" + said, 44) for role in (b"opener", b"accepter"))
        ours, theirs = (opener, accepter) if proof else (accepter, opener)
        self._seal = make_cipher(keys.cipher, ours[:32]).encrypt
        self._seal_iv: Final = int.from_bytes(ours[32:], "big")
        self._receive = make_cipher(keys.cipher, theirs[:32]).decrypt
        self._receive_iv: Final = int.from_bytes(theirs[32:], "big")
        self._window: Final = ReplayWindow()
        self._refused: Final[dict[int, None]] = {}
        self.born = self.used = self.received = now
        self.sealed = 0
        self.suspected: float | None = None
        self.confirm_at = now

    def __repr__(self) -> str:
        return f"<Session with {short(self.peer)}, {self.sealed} sealed>"

    @property
    def confirmed(self) -> bool:
        """Whether the other side is known to have it."""
        return not self.proof

    def seal(
        self, kind: int, flags: int, to: bytes, source: bytes, message_id: bytes, payload: bytes
    ) -> tuple[int, bytes]:
        """Seals a payload for one frame; returns the frame's flags and its payload.

        `sealed` must be below `MOST_FRAMES`.
        """
        counter = self.sealed
        assert counter < MOST_FRAMES
        self.sealed = counter + 1
        flags |= _SEALED_OPENING if self.proof else _SEALED
        return flags, self.seal_again(counter, kind, flags, to, source, message_id, payload)

    def seal_again(
        self, counter: int, kind: int, flags: int, to: bytes, source: bytes, message_id: bytes, payload: bytes
    ) -> bytes:
        """The very bytes that `seal` made of the same arguments and the flags that it returned.

        A copy of a message has the counter of the first, so that it can not be taken for another message. Nothing else
        may be sealed with a counter that was used.
        """
        head = SEALED_HEAD.pack(self.remote_index, counter)
        if flags & _OPENING:
            head += self._box
        length = len(head) + len(payload) + TAG_LENGTH
        data = associated_data(kind, flags, length, to, source, message_id) + head
        return head + self._seal((self._seal_iv ^ counter).to_bytes(12, "big"), payload, data)

    def unseal(
        self, kind: int, flags: int, to: bytes, source: bytes, message_id: bytes, payload: bytes
    ) -> tuple[bytes | None, Arrival]:
        """Opens the payload of a sealed frame of at least `SEALED_HEAD.size` bytes; returns it, and whether it is new.

        None: it is not genuine.
        """
        start = _AFTER_BOX if flags & _OPENING else SEALED_HEAD.size
        counter = SEALED_HEAD.unpack_from(payload)[1]
        data = associated_data(kind, flags, len(payload), to, source, message_id) + payload[:start]
        try:
            plain = self._receive((self._receive_iv ^ counter).to_bytes(12, "big"), payload[start:], data)
        except (InvalidTag, ValueError):
            return None, Arrival.COPY
        # Only what is genuine moves the window.
        window = self._window
        if not window.is_new(counter):
            return plain, Arrival.REFUSED if counter in self._refused else Arrival.COPY
        window.add(counter)
        return plain, Arrival.NEW

    def forget_keys(self) -> None:
        """Nothing is sealed or opened any more, whoever may still refer to this session."""
        del self._seal, self._receive

    def refuse(self, payload: bytes) -> None:
        """What `unseal` just opened was not taken, for want of room: its copies are `REFUSED`, and never taken.

        So the sender knows that none of them arrives later, and seals the message anew.
        """
        refused = self._refused
        refused[SEALED_HEAD.unpack_from(payload)[1]] = None
        if len(refused) > _REFUSED:
            del refused[next(iter(refused))]
