"""WebRTC links with original nodes: carries out the attempts that the gateway begins, answers and ends."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from ..exceptions import NegotiationFailed
from ..transports.connection import Connection
from ..transports.data_channel import TextChannelConnection
from ..wire.ids import short
from .legacy.actions import (
    AnsweredLegacy,
    CandidateLegacy,
    EndLegacyNegotiation,
    NegotiateLegacy,
    NegotiationAction,
)
from .negotiation import Negotiation
from .runtime import Runtime

__all__ = ["LegacyNegotiator"]

logger = logging.getLogger("trio_relay")

RunLink = Callable[[Connection, NegotiateLegacy], Awaitable[None]]


class LegacyNegotiator:
    """One task an attempt; it becomes the reader of the link.

    Args:
        described: is told our own description of an attempt.
        failed: is told why an attempt came to nothing.
        run_link: runs a link to its end.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        described: Callable[[int, str], None],
        failed: Callable[[int, str], None],
        run_link: RunLink,
    ) -> None:
        self._runtime: Final = runtime
        self._described: Final = described
        self._failed: Final = failed
        self._run_link: Final = run_link
        self._attempts: Final = dict[int, Negotiation]()

    def __len__(self) -> int:
        return len(self._attempts)

    def act(self, action: NegotiationAction) -> None:
        """Carries out what the gateway wants; does not wait."""
        match action:
            case NegotiateLegacy():
                self._begin(action)
            case AnsweredLegacy():
                attempt = self._attempts.get(action.number)
                if attempt is not None:
                    attempt.answer(action.answer)
            case CandidateLegacy():
                self._add(action)
            case EndLegacyNegotiation():
                attempt = self._attempts.get(action.number)
                if attempt is not None:
                    attempt.cancel(action.reason)

    def _begin(self, action: NegotiateLegacy) -> None:
        webrtc = self._runtime.webrtc
        if webrtc is None or self._runtime.desk.closed:
            return
        # simple-peer names its channels like this.
        label = os.urandom(20).hex() if action.offer is None else ""
        attempt = Negotiation(webrtc, action.offer, partial(self._described, action.number), label=label)
        self._attempts[action.number] = attempt
        for candidate in action.candidates:
            self._add(CandidateLegacy(action.number, candidate))
        self._runtime.services.start_soon(self._run, action, attempt)

    def _add(self, action: CandidateLegacy) -> None:
        attempt = self._attempts.get(action.number)
        if attempt is None or not attempt.candidate(action.candidate):
            self._runtime.counts["legacy_signals_dropped"] += 1

    async def _run(self, action: NegotiateLegacy, attempt: Negotiation) -> None:
        """An attempt from its beginning, and the link that comes of it to its end."""
        runtime = self._runtime
        try:
            async with attempt.run() as opened:
                del self._attempts[action.number]
                connection = TextChannelConnection(opened.channel, opened.pair, runtime.limits, runtime.counts)
                await self._run_link(connection, action)
        except NegotiationFailed as error:
            logger.debug("no WebRTC link with original %s: %s", short(action.peer), error)
            self._failed(action.number, str(error))
        finally:
            self._attempts.pop(action.number, None)
