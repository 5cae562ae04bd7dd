"""What becomes of a client's messages: forwarded byte for byte, watched for, refused, counted.

Rules of this file:

1. The unit is what one read brought: its messages for one receiver leave in one write.
2. A message is decoded as far as the relay must look, once; hooks that want values cost their decoding.
3. Before a receiver whose queue is high, the sender's batch stops; what came before has left, what comes after waits.
4. Every message that goes no further is counted by reason.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from ..exceptions import RemoteProtocolError
from ..serving.hook_calls import HookFailed, call_hook
from ..serving.rates import ByteRates
from ..wire.json import decode_untrusted
from .config import RelayConfig
from .messages import SPOOFED_TYPES, Head, encode_error, read_head_untrusted
from .peer import LivePeer
from .registry import PeerRegistry, Registry
from .watching import Watching

__all__ = ["Router"]


class _Kind(enum.Enum):
    """What an unusual message is, when it was looked at."""

    ROUTED = enum.auto()
    DONE = enum.auto()
    """Answered, refused or dropped; there is nothing left to do."""
    OTHER = enum.auto()
    """For `Hooks.on_message`."""


_INVALID_UTF8: Final = 1007
_TOO_MANY: Final = encode_error("RATE_LIMITED", "Too many messages")
_TOO_MUCH: Final = encode_error("RATE_LIMITED", "Too many bytes")
_INVALID_FROM: Final = encode_error("INVALID_FROM", "From field does not match sender identity")
_SPOOFED: Final = encode_error("INVALID_MESSAGE", "A routed message must not have the type error or peer-status")
_REASONS: Final = {
    "offline": "The receiver is not connected",
    "slow": "The receiver does not read fast enough",
    "blocked": "The relay does not pass this message on",
}
_LONGEST_TO: Final = 512
"""Characters of a receiver's address in a report: more is in no address."""
_RATE_NAMES: Final = 65536
"""Keys or addresses whose rates are remembered."""


class Router:
    """Takes the messages of all peers.

    Attributes:
        bytes_in: received in messages; `bytes_out`: routed ones that were sent.
    """

    def __init__(
        self,
        config: RelayConfig,
        registry: Registry,
        watching: Watching,
        counts: Counter[str],
        disconnect_slow: Callable[[LivePeer], None],
    ) -> None:
        self._registry: Final = registry
        self._view: Final = PeerRegistry(registry)
        self._watching: Final = watching
        self._counts: Final = counts
        self._disconnect_slow: Final = disconnect_slow
        self.bytes_in = self.bytes_out = 0
        self._asked: Final[dict[str, tuple[float | None, float | None, int]]] = {}
        self._rates: Final[dict[str, ByteRates | None]] = {}
        self.configure(config)

    @property
    def rates_evicted(self) -> int:
        """Keys and addresses whose rates were forgotten for want of room."""
        return sum(rates.evicted for rates in self._rates.values() if rates is not None)

    def configure(self, config: RelayConfig) -> None:
        """Goes by these rules from now on."""
        self._hooks = config.hooks
        self._hook_timeout = config.hook_timeout
        self._pauses = config.slow_consumer == "pause"
        self._drops_oldest = config.slow_consumer == "drop-oldest"
        self._slow_timeout = config.slow_consumer_timeout
        least = config.max_message
        for name, rate, burst in (
            ("ip", config.max_bytes_per_second_per_ip, config.burst_bytes_per_ip),
            ("key", config.max_bytes_per_second_per_key, config.burst_bytes_per_key),
        ):
            # The buckets of a rate that stays are kept: nobody gets a new burst by a change of something else.
            if self._asked.get(name) != (rate, burst, least):
                self._asked[name] = rate, burst, least
                self._rates[name] = _rates(rate, burst, least)

    async def take(self, sender: LivePeer, batch: Sequence[bytes]) -> None:
        """Deals with all messages of one read; waits for slow receivers, and for hooks.

        Raises:
            RemoteProtocolError: a message is not UTF-8 (1007).
        """
        if sender.outbox.crowded:
            await self._wait_for(sender, sender, sender.outbox.wait_answered)
        now = trio.current_time()
        size = sum(map(len, batch))
        sender.bytes_in += size
        self.bytes_in += size
        if sender.account is not None:
            sender.account.add_in(size, now)
        end, refusals = self._admit(sender, batch, size, now)
        position = 0
        while position < end and sender.ending is None:
            if self._hooks.on_routed_message is not None:
                await self._take_hooked(sender, batch[position], now)
                position += 1
                continue
            position, stop = self._route(sender, batch, position, end, now)
            if isinstance(stop, LivePeer):
                await self._wait_for(sender, stop, stop.outbox.wait_room)
            elif stop is not None:
                await self._take_other(sender, batch[position])
                position += 1
        if position < end:
            self._counts["sender_ended"] += end - position
        if refusals:
            sender.outbox.answer(*refusals)

    # What the sender may do

    def _admit(self, sender: LivePeer, batch: Sequence[bytes], size: int, now: float) -> tuple[int, list[bytes]]:
        """How many messages the sender's rates allow: the first so many; and what the others are answered."""
        allowed = end = sender.window.take(len(batch), now)
        refusals: list[bytes] = []
        if allowed < len(batch):
            size = sum(map(len, batch[:end]))
        # The address first: what it refuses costs the key, which others share, nothing.
        for rates, name in ((self._rates["ip"], sender.rate_name), (self._rates["key"], sender.key)):
            if rates is None or name is None or rates.take(name, size, now):
                continue
            end = next((n for n in range(end) if not rates.take(name, len(batch[n]), now)), end)
            size = sum(map(len, batch[:end]))
        if end < allowed:
            self._counts["rate_limited_bytes"] += allowed - end
            refusals += [_TOO_MUCH] * (allowed - end)
        if allowed < len(batch):
            self._counts["rate_limited_messages"] += len(batch) - allowed
            refusals += [_TOO_MANY] * (len(batch) - allowed)
        return end, refusals

    # Forwarding

    def _route(
        self, sender: LivePeer, batch: Sequence[bytes], position: int, end: int, now: float
    ) -> tuple[int, LivePeer | _Kind | None]:
        """Forwards messages as far as that goes without waiting.

        Returns:
            Where it stopped, and why: at the end; at a message for a receiver that is to be waited for; at one for
            `Hooks.on_message`.

        Raises:
            RemoteProtocolError: see `take`.
        """
        address, read = sender.address, read_head_untrusted
        groups: dict[LivePeer, list[bytes]] = {}
        group: list[bytes] | None = None
        last: str | None = None
        try:
            for at in range(position, end):
                raw = batch[at]
                try:
                    head = read(raw.decode())
                except (UnicodeDecodeError, RemoteProtocolError) as error:
                    self._refuse_unreadable(sender, error)
                    continue
                to = head.to
                if head.type is not None or head.sender != address or to is None:
                    kind = self._judge(sender, head)
                    if kind is _Kind.OTHER:
                        return at, kind
                    if kind is _Kind.DONE or to is None:
                        continue
                if to != last:
                    found = self._group(groups, to)
                    if isinstance(found, LivePeer):
                        return at, found
                    group, last = found, to
                if group is None:
                    self._undelivered(sender, to, "target_offline", "offline")
                else:
                    group.append(raw)
            return end, None
        finally:
            for target, payloads in groups.items():
                self._send(sender, target, payloads, now)

    def _group(self, groups: dict[LivePeer, list[bytes]], to: str) -> list[bytes] | LivePeer | None:
        """The messages for a receiver so far; the receiver itself if it is to be waited for; None if it is offline."""
        target = self._registry.peers.get(to)
        if target is None:
            return None
        group = groups.get(target)
        if group is None:
            if self._pauses and target.outbox.high:
                return target
            group = groups[target] = []
        return group

    def _send(self, sender: LivePeer, target: LivePeer, payloads: Sequence[bytes], now: float) -> None:
        size = sum(map(len, payloads))
        sent = target.outbox.send(payloads, size)  # under drop-oldest, the last so many
        if sent < len(payloads):
            size = sum(map(len, payloads[-sent:] if self._drops_oldest else payloads[:sent])) if sent else 0
            if sender.reports:
                for _ in range(len(payloads) - sent):
                    self._report(sender, target.address, "slow")
        target.bytes_out += size
        self.bytes_out += size
        self._registry.messages_relayed += sent
        if target.account is not None:
            target.account.add_out(size, now)

    async def _wait_for(self, sender: LivePeer, reader: LivePeer, wait: Callable[[], Awaitable[None]]) -> None:
        """Waits until a slow reader has read; one that takes too long is disconnected. Nothing is read meanwhile."""
        self._counts["slow_consumer_paused"] += 1
        sender.paused = True
        try:
            with trio.move_on_after(self._slow_timeout) as patience:
                await wait()
        finally:
            sender.paused = False
        # Below the bound again, if not at half of it: slow, but it reads.
        if patience.cancelled_caught and (reader.outbox.high or reader.outbox.crowded):
            self._disconnect_slow(reader)

    # Everything else

    def _judge(self, sender: LivePeer, head: Head) -> _Kind:
        """Deals with a message that is not plainly one to forward."""
        if head.address is not None and head.type in ("watch", "unwatch"):
            if head.type == "watch":
                self._watching.watch(sender, head.address)
            else:
                self._watching.unwatch(sender, head.address)
            return _Kind.DONE
        if head.sender is None or head.to is None:
            if self._hooks.on_message is not None:
                return _Kind.OTHER
            self._counts["unknown_message"] += 1
        elif head.sender != sender.address:
            self._counts["invalid_from"] += 1
            sender.outbox.answer(_INVALID_FROM)
        elif head.type in SPOOFED_TYPES:
            self._counts["spoofed_type"] += 1
            sender.outbox.answer(_SPOOFED)
        else:
            return _Kind.ROUTED
        return _Kind.DONE

    async def _take_other(self, sender: LivePeer, raw: bytes) -> None:
        hook = self._hooks.on_message
        assert hook is not None
        await self._ask("on_message", sender, hook, sender, decode_untrusted(raw), raw, self._view)

    async def _take_hooked(self, sender: LivePeer, raw: bytes, now: float) -> None:
        """One message on a relay with `Hooks.on_routed_message`."""
        hook = self._hooks.on_routed_message
        assert hook is not None
        try:
            head = read_head_untrusted(raw.decode())
        except (UnicodeDecodeError, RemoteProtocolError) as error:
            self._refuse_unreadable(sender, error)
            return
        kind = self._judge(sender, head)
        if kind is _Kind.OTHER:
            await self._take_other(sender, raw)
        if kind is not _Kind.ROUTED or head.to is None:
            return
        if not await self._wait_online(sender, head.to):
            return
        value = decode_untrusted(raw)
        if await self._ask("on_routed_message", sender, hook, sender.address, head.to, value, raw) is False:
            self._undelivered(sender, head.to, "blocked", "blocked")
        elif await self._wait_online(sender, head.to):
            self._send(sender, self._registry.peers[head.to], [raw], now)

    async def _wait_online(self, sender: LivePeer, to: str) -> bool:
        """Waits until a receiver has room; False, and the sender told so, if it is offline."""
        while isinstance(group := self._group({}, to), LivePeer):
            await self._wait_for(sender, group, group.outbox.wait_room)
        if group is None:
            self._undelivered(sender, to, "target_offline", "offline")
        return group is not None

    async def _ask(self, name: str, sender: LivePeer, hook: Callable[..., object], *arguments: object) -> object:
        """What a hook says of a message; False if it fails, which costs the message."""
        sender.paused = True
        try:
            return await call_hook(name, self._counts, self._hook_timeout, hook, *arguments)
        except HookFailed:
            return False
        finally:
            sender.paused = False

    def _undelivered(self, sender: LivePeer, to: str, counter: str, reason: str) -> None:
        self._counts[counter] += 1
        if sender.reports:
            self._report(sender, to, reason)

    def _report(self, sender: LivePeer, to: str, reason: str) -> None:
        """Tells a sender that asked for it what became of its message."""
        sender.outbox.answer(encode_error("UNDELIVERED", _REASONS[reason], to=to[:_LONGEST_TO], reason=reason))

    def _refuse_unreadable(self, sender: LivePeer, error: UnicodeDecodeError | RemoteProtocolError) -> None:
        """Counts what is no JSON object or array; tells a sender that asked for reports.

        Raises:
            RemoteProtocolError: it is not even UTF-8 (1007).
        """
        if isinstance(error, UnicodeDecodeError):
            raise RemoteProtocolError("expected UTF-8 in a message", _INVALID_UTF8) from error
        self._counts["malformed"] += 1
        if sender.reports:
            sender.outbox.answer(encode_error("INVALID_MESSAGE", str(error)))


def _rates(rate: float | None, burst: float | None, least: int) -> ByteRates | None:
    if rate is None:
        return None
    return ByteRates(rate, burst if burst is not None else max(10 * rate, least), _RATE_NAMES)
