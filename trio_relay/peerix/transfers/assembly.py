"""What the packets of one channel mean for the messages that come over it. Pure.

Rules of this file:

1. A piece with index 0 and a type begins a transfer. One with the same number that was under way fails: its sender can
   not go on with it. (Originals take it for complete.)
2. Each piece has the index after the last one's. A transfer for which another one comes fails, and its sender is told.
   (Originals do not tell.)
3. A transfer that is complete, aborted or failed is forgotten at once. Pieces of none are ignored, counted.
4. What originals send when they abort a message of their own says that they abort one of *ours* with that number. If
   none of ours with that number is under way, it is taken for the sender's abort. If both are, it is taken for what it
   says, and the incoming one gets `_DOUBT` seconds to show, by its next piece, that it was not meant: so a healthy
   transfer is not lost, and a dead one does not stay.
5. An original that is told to stop goes on to its last piece, and then sends that very packet, as an echo. The echo of
   an abort of ours is ignored. It comes after the last piece, which nobody sends who obeys an abort.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final, TypeAlias

from ...exceptions import TransferFailure
from ..packets.transfer import PayloadType, Piece, encode_receiver_abort

__all__ = ["Answer", "Assembly", "Began", "Came", "Completed", "Event", "Failed"]

_DOUBT: Final = 10.0
"""Seconds: originals wait as long for anything."""
_REMEMBERED: Final = 256
"""Numbers of transfers that were aborted here."""


@dataclass(frozen=True, slots=True)
class Began:
    """A message begins.

    Attributes:
        key: no other message of the channel has it.
        info: JSON as it came, or None.
    """

    key: int
    type: PayloadType
    info: bytes | None


@dataclass(frozen=True, slots=True)
class Came:
    """The next bytes of a message, at least one."""

    key: int
    chunk: bytes


@dataclass(frozen=True, slots=True)
class Completed:
    """A message is complete: it is to be acknowledged, under its number, or aborted if it is not wanted any more."""

    key: int
    id: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The rest of a message will not come."""

    key: int
    reason: TransferFailure
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A packet for the sender."""

    packet: bytes


Event: TypeAlias = Began | Came | Completed | Failed | Answer


@dataclass(slots=True)
class _Transfer:
    key: int
    expected: int
    expires: float


class Assembly:
    """The transfers that are under way. Times are seconds of one clock.

    Args:
        most: transfers at once.
        idle: how long one lives without a piece.
    """

    def __init__(self, most: int, idle: float, counts: Counter[str]) -> None:
        self._most: Final = most
        self._idle: Final = idle
        self._counts: Final = counts
        self._transfers: Final[dict[int, _Transfer]] = {}
        self._aborted: Final[OrderedDict[int, bool]] = OrderedDict()  # number -> whether its last piece has come
        self._keys = 0

    def __len__(self) -> int:
        return len(self._transfers)

    # What comes

    def on_piece(self, piece: Piece, now: float) -> list[Event]:
        """What a piece means; in their order."""
        if piece.type is not None:
            return self._begin(piece, piece.type, now)
        transfer = self._transfers.get(piece.id)
        if transfer is None:
            self._counts["transfer_pieces_unknown"] += 1
            if piece.done and piece.id in self._aborted:
                self._aborted[piece.id] = True
            return []
        if piece.index != transfer.expected:
            return self._refuse_order(piece, transfer)
        transfer.expected += 1
        transfer.expires = now + self._idle
        return self._take(piece, transfer, [])

    def _begin(self, piece: Piece, type: PayloadType, now: float) -> list[Event]:
        events: list[Event] = []
        self._aborted.pop(piece.id, None)
        old = self._transfers.pop(piece.id, None)
        if old is not None:
            self._counts["transfer_ids_reused"] += 1
            events.append(Failed(old.key, "aborted-by-sender", "its sender began another message in its place"))
        if len(self._transfers) >= self._most:
            self._counts["transfers_refused"] += 1
            self._remember(piece.id, piece.done)
            return [*events, Answer(encode_receiver_abort(piece.id))]
        self._keys += 1
        transfer = self._transfers[piece.id] = _Transfer(self._keys, 1, now + self._idle)
        events.append(Began(transfer.key, type, piece.info))
        return self._take(piece, transfer, events)

    def _take(self, piece: Piece, transfer: _Transfer, events: list[Event]) -> list[Event]:
        if piece.chunk:
            events.append(Came(transfer.key, piece.chunk))
        if piece.done:
            del self._transfers[piece.id]
            events.append(Completed(transfer.key, piece.id))
        return events

    def _refuse_order(self, piece: Piece, transfer: _Transfer) -> list[Event]:
        self._counts["transfers_out_of_order"] += 1
        del self._transfers[piece.id]
        self._remember(piece.id, piece.done)
        message = f"expected piece {transfer.expected}, got {piece.index}"
        return [Failed(transfer.key, "out-of-order", message), Answer(encode_receiver_abort(piece.id))]

    def on_sender_abort(self, id: int) -> list[Event]:
        """The sender gives up the transfer with this number."""
        transfer = self._transfers.pop(id, None)
        if transfer is None:
            if self._aborted.pop(id, None) is None:  # else it answers an abort of ours
                self._counts["transfer_pieces_unknown"] += 1
            return []
        return [Failed(transfer.key, "aborted-by-sender", "its sender gave it up")]

    def on_receiver_abort(self, id: int, *, ours: bool, now: float) -> tuple[bool, list[Event]]:
        """What an abort with this number means: whether it aborts ours, and what it means for those that come.

        Args:
            ours: whether one of ours with this number is under way.
        """
        if self._aborted.get(id):
            del self._aborted[id]
            self._counts["transfer_echoes"] += 1
            return False, []
        transfer = self._transfers.get(id)
        if transfer is None:
            return True, []
        if not ours:
            return False, self.on_sender_abort(id)
        self._counts["transfer_aborts_ambiguous"] += 1
        transfer.expires = min(transfer.expires, now + _DOUBT)
        return True, []

    # What happens here

    def refuse(self, id: int) -> Answer:
        """A message that is complete is not wanted any more."""
        self._remember(id, True)
        return Answer(encode_receiver_abort(id))

    def abort(self, key: int) -> list[Event]:
        """The message is not wanted any more; nothing if it is not under way."""
        for id, transfer in self._transfers.items():
            if transfer.key == key:
                del self._transfers[id]
                self._remember(id, False)
                return [Answer(encode_receiver_abort(id))]
        return []

    @property
    def expires(self) -> float:
        """When `expire` has something to do."""
        return min((transfer.expires for transfer in self._transfers.values()), default=math.inf)

    def expire(self, now: float) -> list[Event]:
        """Gives up transfers for which nothing came for too long."""
        events: list[Event] = []
        for id, transfer in list(self._transfers.items()):
            if transfer.expires <= now:
                self._counts["transfers_idle"] += 1
                del self._transfers[id]
                self._remember(id, False)
                message = "its sender sent nothing more"
                events += (Failed(transfer.key, "timeout", message), Answer(encode_receiver_abort(id)))
        return events

    def on_resumed(self, now: float) -> None:
        """Nothing was taken for a while: whatever is late by that gets its time again."""
        for transfer in self._transfers.values():
            transfer.expires = now + self._idle

    def end(self) -> list[Event]:
        """Nothing more comes."""
        keys = [transfer.key for transfer in self._transfers.values()]
        self._transfers.clear()
        return [Failed(key, "disconnected", "the channel was closed before all of it had come") for key in keys]

    def _remember(self, id: int, has_ended: bool) -> None:
        self._aborted[id] = has_ended
        self._aborted.move_to_end(id)
        if len(self._aborted) > _REMEMBERED:
            self._aborted.popitem(last=False)
