"""Whether the other side still answers (consent, RFC 7675): aioice finds out, and tells it when all is over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import aioice.ice
import aioice.stun
from aiortc import RTCIceTransport

__all__ = ["Consent"]

_FAILURES: Final = 3
"""Checks without an answer, one after the other, until the other side counts as silent: each is one datagram."""
_HASTE: Final = 5
"""Times as often is it asked, when it has not answered."""


class Consent:
    """In place of aioice's own checks, which keep to themselves how many have failed.

    They end the connection after the same time without an answer. In asyncio context.

    Args:
        on_change: callback.

    Attributes:
        silent: whether the other side has not answered for 2 to 10 s.
    """

    def __init__(self, ice: RTCIceTransport, on_change: Callable[[], object]) -> None:
        self.silent = False
        agent: Any = ice._connection
        agent.query_consent = self._query
        self._agent: Final = agent
        self._on_change: Final = on_change

    async def _query(self) -> None:
        """asyncio. Runs from when ICE has found a pair of addresses to when aioice closes."""
        agent, interval = self._agent, aioice.ice.CONSENT_INTERVAL
        time = asyncio.get_running_loop().time
        failures, answered_at = 0, time()
        while time() - answered_at < interval * aioice.ice.CONSENT_FAILURES:
            await asyncio.sleep(random.uniform(0.8, 1.2) * (interval / _HASTE if failures else interval))
            if all([await self._is_answered(pair) for pair in list(agent._nominated.values())]):
                failures, answered_at = 0, time()
            else:
                failures += 1
            self._tell(failures >= _FAILURES)
        agent._query_consent_task = None
        await agent.close()

    async def _is_answered(self, pair: Any) -> bool:
        agent = self._agent
        request = agent.build_request(pair, nominate=False)
        key = agent.remote_password.encode()
        try:
            await pair.protocol.request(request, pair.remote_addr, integrity_key=key, retransmissions=0)
        except aioice.stun.TransactionError:
            return False
        return True

    def _tell(self, silent: bool) -> None:
        if silent != self.silent:
            self.silent = silent
            self._on_change()
