"""Packets through a broker, sealed and opened: the keys of other members, and what came twice. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from ..._bounded import TokenBucket
from ...exceptions import LocalProtocolError, RemoteProtocolError
from ..packets.sealing import NONCE_SIZE, Keys, PairKey, id_of, id_to_bytes_untrusted
from ..packets.signalling import (
    Announce,
    Signal,
    open_signal_untrusted,
    parse_packet_untrusted,
    seal_signal,
)

__all__ = ["Exchange"]

_MAX_PAIRS: Final = 1024
"""Of those that no member has; the one that was used longest ago goes first."""
_MAX_NONCES: Final = 1024
"""Remembered of one sender: ten times what an honest one needs."""
_RATE: Final = 50.0
_BURST: Final = 200.0
"""Packets a second of one sender, and at once."""


class _Pair:
    """What is known of one sender."""

    __slots__ = ("bucket", "key", "nonces")

    def __init__(self, key: PairKey | None, now: float) -> None:
        self.key: Final = key
        self.nonces: Final[OrderedDict[bytes, None]] = OrderedDict()
        self.bucket: Final = TokenBucket(_RATE, _BURST, now)

    def is_new(self, nonce: bytes) -> bool:
        """Whether it comes for the first time."""
        if nonce in self.nonces:
            return False
        self.nonces[nonce] = None
        if len(self.nonces) > _MAX_NONCES:
            self.nonces.popitem(last=False)
        return True


class Exchange:
    """One stay of ours in a room.

    Args:
        own: our 33 bytes: the public key, where there are `keys`.
        keys: None: nothing is sealed.
        compression: whether our packets may be compressed.
        strangers: packets a second of keys that were not seen before; four times as many at once.
        counts: ``signals_received``, ``signals_malformed``, ``signals_replayed``, ``signals_limited`` (too many of
            one sender), ``signals_strangers_limited`` and ``signals_keys_forgotten``.
    """

    def __init__(
        self,
        own: bytes,
        keys: Keys | None,
        *,
        compression: bool,
        strangers: float,
        counts: Counter[str],
        now: float,
    ) -> None:
        self.own: Final = own
        self.id: Final = id_of(own)
        self._keys: Final = keys
        self._compression: Final = compression
        self._counts: Final = counts
        self._pairs: Final[OrderedDict[bytes, _Pair]] = OrderedDict()
        self._pinned: Final[dict[bytes, _Pair]] = {}
        self._strangers: Final = TokenBucket(strangers, 4 * strangers, now)

    def receive_untrusted(self, data: bytes, now: float) -> tuple[str, Signal] | None:
        """The sender's id and what it said; None where it is of no interest: our own, repeated, or too much.

        Raises:
            RemoteProtocolError: it is nothing that a member of this room could have sent; counted.
        """
        try:
            packet = parse_packet_untrusted(data)
            if packet.sender == self.own:
                return None
            pair = self._sender(packet.sender, now)
            if pair is None:
                return None
            signal = open_signal_untrusted(packet, pair.key)
        except RemoteProtocolError:
            self._counts["signals_malformed"] += 1
            raise
        # Only what opens counts for its sender: everybody can say that he is somebody else.
        if packet.encrypted and not pair.is_new(packet.payload[:NONCE_SIZE]):
            self._counts["signals_replayed"] += 1
            return None
        if packet.encrypted and not pair.bucket.take(now):
            self._counts["signals_limited"] += 1
            return None
        self._counts["signals_received"] += 1
        return id_of(packet.sender), signal

    def encode(self, signal: Signal, to: str | None, nonce: bytes, now: float) -> bytes:
        """The packet for a member, or for everybody.

        Args:
            nonce: 12 random bytes, never used before.

        Raises:
            LocalProtocolError: metadata that are no JSON value, or an id that is none.
        """
        pair = None
        if to is not None and self._keys is not None and not isinstance(signal, Announce):
            try:
                pair = self._pair(id_to_bytes_untrusted(to), now).key
            except RemoteProtocolError as error:
                raise LocalProtocolError(str(error)) from None
        return seal_signal(signal, self.own, pair, nonce=nonce, compress=self._compression)

    def pin(self, id: str, now: float) -> None:
        """Keeps the key of a member until `unpin`.

        Raises:
            RemoteProtocolError: the id is no key.
        """
        public = id_to_bytes_untrusted(id)
        self._pinned[public] = self._pair(public, now)
        self._pairs.pop(public, None)

    def unpin(self, id: str) -> None:
        """The member is gone; its key is forgotten when there are many newer ones."""
        public = id_to_bytes_untrusted(id)
        pair = self._pinned.pop(public, None)
        if pair is not None:
            self._keep(public, pair)

    def _sender(self, public: bytes, now: float) -> _Pair | None:
        """None: too many that were not seen before."""
        known = self._find(public)
        if known is None and not self._strangers.take(now):
            self._counts["signals_strangers_limited"] += 1
            return None
        return known or self._pair(public, now)

    def _find(self, public: bytes) -> _Pair | None:
        pair = self._pinned.get(public)
        if pair is None:
            pair = self._pairs.get(public)
            if pair is not None:
                self._pairs.move_to_end(public)
        return pair

    def _pair(self, public: bytes, now: float) -> _Pair:
        pair = self._find(public)
        if pair is None:
            pair = self._make(public, now)
            self._keep(public, pair)
        return pair

    def _make(self, public: bytes, now: float) -> _Pair:
        return _Pair(self._keys.agree_untrusted(public) if self._keys is not None else None, now)

    def _keep(self, public: bytes, pair: _Pair) -> None:
        self._pairs[public] = pair
        if len(self._pairs) > _MAX_PAIRS:
            self._pairs.popitem(last=False)
            self._counts["signals_keys_forgotten"] += 1
