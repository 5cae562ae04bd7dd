"""What a room says and hears through its driver: packets in and out, announcements, and their bounds."""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Final

import trio

from ...exceptions import DriverError, LocalProtocolError, RemoteProtocolError, RoomError
from ..drivers.driver import Driver, DriverActive, DriverFailed
from ..packets.sealing import NONCE_SIZE
from ..packets.signalling import Announce, Signal
from .exchange import Exchange

__all__ = ["Signaller"]

_REPEATS: Final = (1.0, 4.0, 15.0)
"""Seconds after which we announce ourselves once more: the first time, somebody's subscription may not have been
ready, or a packet was lost."""
_JITTER: Final = 0.5
"""Part of these that is random, so that those who came together do not speak together."""
_BATCH: Final = 16
"""Packets between two checkpoints."""


class Signaller:
    """One stay in a room. `run` is a task of its own; the other methods do not wait.

    Attributes:
        announced_at: when we announced ourselves last; seconds of Trio's clock.

    Args:
        room: the namespace of the room, `own` that of our id; `find` gives that of another id.
        signals: packets that may wait, in each direction.
        on_signal: called with the sender's id and what it said.
        on_error: called with what went wrong, and the id of the member whom it is about.
        counts: ``signals_sent``, ``signals_unsent`` (the driver could not), ``signals_overflowed`` (too many waited),
            and those of `Exchange`.
    """

    def __init__(
        self,
        driver: Driver,
        exchange: Exchange,
        *,
        room: str,
        find: Callable[[str], str],
        signals: int,
        on_signal: Callable[[str, Signal], None],
        on_error: Callable[[RoomError, str | None], None],
        counts: Counter[str],
    ) -> None:
        self._driver: Final = driver
        self._exchange: Final = exchange
        self._room: Final = room
        self._find: Final = find
        self._own: Final = find(exchange.id)
        self._on_signal: Final = on_signal
        self._on_error: Final = on_error
        self._counts: Final = counts
        self._heard, self._hear = trio.open_memory_channel[bytes](signals)
        self._said, self._say = trio.open_memory_channel[tuple[Signal, str | None]](signals)
        self._announcing = trio.CancelScope()
        self.announced_at = -math.inf

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Subscribes, tells that it has, and carries packets until it is cancelled.

        Raises:
            DriverError: the driver could not subscribe.
        """
        async with self._driver.events() as events:
            await self._driver.subscribe(self._room, self._on_packet)
            try:
                await self._driver.subscribe(self._own, self._on_packet)
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._listen)
                        nursery.start_soon(self._speak)
                        nursery.start_soon(self._announce_often)
                        task_status.started()
                        async for event in events:
                            if isinstance(event, DriverActive):
                                self._announcing.cancel()
                            elif isinstance(event, DriverFailed):
                                self._on_error(event.error, None)
                finally:
                    await self._unsubscribe(self._own)
            finally:
                await self._unsubscribe(self._room)

    async def _unsubscribe(self, namespace: str) -> None:
        with trio.move_on_after(1, shield=True):
            await self._driver.unsubscribe(namespace, self._on_packet)

    # Out

    def say(self, signal: Signal, to: str | None) -> None:
        """Sends a signal to a member, or to everybody."""
        try:
            self._said.send_nowait((signal, to))
        except trio.WouldBlock:
            self._counts["signals_overflowed"] += 1
            self._on_error(RoomError("SIGNALING_ERROR", "too many packets wait for the driver"), to)

    async def _speak(self) -> None:
        async for signal, to in self._say:
            try:
                packet = self._exchange.encode(signal, to, secrets.token_bytes(NONCE_SIZE), trio.current_time())
                await self._driver.publish(self._find(to) if to is not None else self._room, packet)
                self._counts["signals_sent"] += 1
            except DriverError as error:
                self._counts["signals_unsent"] += 1
                self._on_error(error, to)
            except (LocalProtocolError, ValueError) as error:
                self._counts["signals_unsent"] += 1
                self._on_error(RoomError("SIGNALING_ERROR", str(error)), to)

    async def _announce_often(self) -> None:
        """At once, a few times more, and again whenever the driver is active again."""
        while True:
            with trio.CancelScope() as self._announcing:
                for wait in (0.0, *_REPEATS, math.inf):
                    await trio.sleep(wait * (1 - _JITTER * secrets.randbelow(1024) / 1024))
                    if self._driver.active:
                        self.announced_at = trio.current_time()
                        self.say(Announce(), None)

    # In

    def _on_packet(self, packet: bytes) -> None:
        try:
            self._heard.send_nowait(packet)
        except trio.WouldBlock:
            self._counts["signals_overflowed"] += 1

    async def _listen(self) -> None:
        number = 0
        async for packet in self._hear:
            number += 1
            if number % _BATCH == 0:
                await trio.lowlevel.checkpoint()
            try:
                heard = self._exchange.receive_untrusted(packet, trio.current_time())
            except RemoteProtocolError as error:
                self._on_error(RoomError("SIGNALING_ERROR", str(error)), None)
                continue
            if heard is not None:
                self._on_signal(*heard)
