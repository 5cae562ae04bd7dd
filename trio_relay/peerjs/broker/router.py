"""What becomes of a client's messages: forwarded, kept for somebody who is not there, refused, counted.

Rules of this file:

1. The unit is what one read brought: its messages for one receiver leave in one write, and no task switches between.
2. A message is decoded as far as the broker must look, once; a hook that wants the payload costs its decoding.
3. Every message that goes no further is counted by reason.
4. A sender is told what it can act on: EXPIRE for a message that did not arrive, LEAVE for a receiver that is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from ...exceptions import RemoteProtocolError
from ...serving.hook_calls import HookFailed, call_hook
from ...wire.json import decode_untrusted
from .client import LiveClient
from .config import BrokerConfig
from .core import Core
from .messages import (
    BEGINNINGS,
    HEARTBEAT,
    INVALID_UTF8,
    Head,
    encode_expire,
    encode_leave,
    encode_name,
    read_head_untrusted,
)

__all__ = ["Router"]

_PATIENCE: Final = 30.0
"""Seconds that a client may take to read what it caused itself."""


class Router:
    """Takes the messages of all clients.

    Args:
        leave: called with a client that can not be reached any more; its socket is gone.
        end: called with a client that is to be disconnected.

    Attributes:
        bytes_in: received in messages; `bytes_out`: forwarded ones that were sent; `relayed`: their number.
    """

    def __init__(
        self,
        config: BrokerConfig,
        core: Core[LiveClient],
        counts: Counter[str],
        leave: Callable[[LiveClient], None],
        end: Callable[[LiveClient], None],
    ) -> None:
        self._core: Final = core
        self._counts: Final = counts
        self._leave: Final = leave
        self._end: Final = end
        self.configure(config)
        self.bytes_in = self.bytes_out = self.relayed = 0

    def configure(self, config: BrokerConfig) -> None:
        """Goes by other options from now on."""
        self._hooks = config.hooks
        self._hook_timeout = config.hook_timeout
        self._max_id = config.max_id

    async def take(self, client: LiveClient, batch: Sequence[bytes]) -> None:
        """Deals with all messages of one read; waits for hooks, and for a client to read what it caused.

        Raises:
            RemoteProtocolError: a message is not UTF-8 (1007).
        """
        if client.outbox.crowded and not await self._wait_answered(client):
            return
        now = trio.current_time()
        self.bytes_in += sum(map(len, batch))
        if client.rate is not None:
            batch = self._admit(client, batch, now)
        faults: list[str] = []
        if self._hooks.on_message is None:
            self._route(client, batch, now, faults)
        else:
            for raw in batch:
                if await self._show(client, raw, self._hooks.on_message):
                    self._route(client, [raw], trio.current_time(), faults)
        for fault in faults if self._hooks.on_error is not None else ():
            await self.report(fault)

    async def report(self, fault: str) -> None:
        """Tells the application what went wrong; that it fails changes nothing."""
        if self._hooks.on_error is not None:
            await self._ask("on_error", self._hooks.on_error, fault)

    def send_waiting(self, client: LiveClient, frames: Sequence[bytes]) -> None:
        """Sends what waited for a client."""
        if frames:
            self._send(None, client, frames)

    def _admit(self, client: LiveClient, batch: Sequence[bytes], now: float) -> Sequence[bytes]:
        """The messages that the client's rate allows. It is not told: an ERROR would make an original disconnect."""
        assert client.rate is not None
        if client.rate.take(now, len(batch)):
            return batch
        allowed = [raw for raw in batch if client.rate.take(now)]
        self._counts["rate_limited"] += len(batch) - len(allowed)
        return allowed

    # Forwarding

    def _route(self, client: LiveClient, batch: Sequence[bytes], now: float, faults: list[str]) -> None:
        """Forwards, keeps or drops messages.

        Raises:
            RemoteProtocolError: see `take`.
        """
        members, read, beginnings, source = self._core.members, read_head_untrusted, BEGINNINGS, client.name
        groups: dict[LiveClient, list[bytes]] = {}
        answers: dict[bytes, None] = {}  # each once
        target: LiveClient | None = None
        beginning, last = b"", None
        try:
            for raw in batch:
                if raw == HEARTBEAT:
                    self._core.heartbeat(client, now)
                    continue
                try:
                    head = read(raw)
                except RemoteProtocolError as error:
                    self._refuse_unreadable(error, faults)
                    continue
                type, dst = head.type, head.dst
                if (type, dst) != last:
                    target = members.get(dst) if dst and type in beginnings else None
                    if target is not None:
                        beginning = b'%b%b,"dst":%b' % (beginnings[type], source, target.name)  # type: ignore[index]
                    last = type, dst
                if target is None or not client.registered:
                    self._take_other(client, head, now, answers)
                elif target in groups:
                    groups[target].append(_frame(beginning, head))
                else:
                    groups[target] = [_frame(beginning, head)]
        finally:
            for reader, frames in groups.items():
                answers |= dict.fromkeys(self._send(client, reader, frames))
            if answers:
                client.outbox.answer(*answers)

    def _send(self, client: LiveClient | None, target: LiveClient, frames: Sequence[bytes]) -> Sequence[bytes]:
        """Sends frames to a client; returns what their sender is told."""
        size = sum(map(len, frames))
        sent = target.outbox.send(frames, size)
        self.relayed += sent
        if sent == len(frames):
            self.bytes_out += size
            return ()
        self.bytes_out += sum(map(len, frames[:sent]))
        sender = client.id if client is not None else ""
        if target.goodbye is not None:  # it was too slow: its connections to others are as good as before
            return (encode_expire(target.id, sender),)
        self._leave(target)
        return (encode_leave(target.id, sender),)

    # Everything else

    def _take_other(self, client: LiveClient, head: Head, now: float, answers: dict[bytes, None]) -> None:
        """Deals with a message for nobody who is there."""
        if head.type == "HEARTBEAT":
            self._core.heartbeat(client, now)
        elif head.type not in BEGINNINGS:
            self._counts["unknown_type"] += 1
        elif not client.registered:
            self._counts["not_registered"] += 1
        elif head.type in ("LEAVE", "EXPIRE"):
            if head.type == "LEAVE" and not head.dst:
                self._leave(client)
            else:
                self._counts["absent_dropped"] += 1
        elif not head.dst:
            self._counts["no_dst"] += 1
        else:
            beginning = b'%b%b,"dst":%b' % (BEGINNINGS[head.type], client.name, encode_name(head.dst))
            fits = len(head.dst) <= self._max_id  # nobody can have a longer id
            if not (fits and self._core.wait(head.dst, client, _frame(beginning, head), now)):
                self._counts["waiting_full"] += 1
                answers[encode_expire(head.dst, client.id)] = None

    def expire(self, now: float, most: int) -> bool:
        """Tells senders of messages that have waited in vain for `most` peers; returns whether there may be more."""
        frames: dict[LiveClient, list[bytes]] = {}
        expired = self._core.expire(now, most)
        for sender, receiver in expired:
            self._counts["expired"] += 1
            client = self._core.members.get(sender)
            if client is not None:
                frames.setdefault(client, []).append(encode_expire(receiver, sender))
        for client, some in frames.items():
            client.outbox.answer(*some)  # bounded: it has sent messages for each
        return bool(expired)

    async def _show(self, client: LiveClient, raw: bytes, hook: Callable[..., object]) -> bool:
        """Shows a message to the application; False if that costs the message."""
        try:
            head = read_head_untrusted(raw)
        except RemoteProtocolError:
            return True  # to be refused, as without a hook
        try:
            value = decode_untrusted(bytes(head.payload)) if head.payload else None
        except RemoteProtocolError:
            self._counts["malformed"] += 1
            return False
        return await self._ask("on_message", hook, client.view(), head.type or "", head.dst or None, value)

    async def _ask(self, name: str, hook: Callable[..., object], *arguments: object) -> bool:
        """Calls a hook; False if it failed."""
        try:
            await call_hook(name, self._counts, self._hook_timeout, hook, *arguments)
        except HookFailed:
            return False
        return True

    async def _wait_answered(self, client: LiveClient) -> bool:
        """Waits until a client has read; one that takes too long is disconnected."""
        self._counts["slow_paused"] += 1
        wait: Callable[[], Awaitable[None]] = client.outbox.wait_answered
        with trio.move_on_after(_PATIENCE):
            await wait()
        if client.outbox.crowded:
            self._counts["slow_disconnected"] += 1
            self._end(client)
        return not client.outbox.closed

    def _refuse_unreadable(self, error: RemoteProtocolError, faults: list[str]) -> None:
        """Counts what is no JSON object or array.

        Raises:
            RemoteProtocolError: it is not even UTF-8 (1007).
        """
        if error.close_code == INVALID_UTF8:
            raise error
        self._counts["malformed"] += 1
        faults.append(str(error))


def _frame(beginning: bytes, head: Head) -> bytes:
    payload = head.payload
    return b"".join((beginning, b',"payload":', payload, b"}")) if payload else beginning + b"}"
