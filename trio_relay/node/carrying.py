"""Gives originals' envelopes to nodes of ours, confirmed, and tells how each of them fared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

import trio

from ..wire.frame import Flag
from .legacy.actions import SendCarried
from .runtime import Runtime

__all__ = ["carry"]

_OVERHEAD: Final = 1024
"""What an envelope may add to a payload: a frame has room for it."""
_TIMEOUT: Final = 5.0

Ended: TypeAlias = Callable[[SendCarried, object], None]


def carry(runtime: Runtime, counts: Counter[str], action: SendCarried, ended: Ended) -> None:
    """Gives an envelope to one of our nodes; `ended` gets the `Receipt` or the error. No room: counted."""
    count, size = runtime.router.pending_deliveries
    limits = runtime.limits
    if len(action.payload) > limits.payload + _OVERHEAD:
        counts["legacy_too_large"] += 1
    elif count >= limits.pending_deliveries or size + len(action.payload) > limits.pending_deliveries_bytes:
        counts["legacy_carry_full"] += 1
    else:
        now = trio.current_time()
        message_id, actions = runtime.router.deliver(action.to, action.payload, _TIMEOUT, now, flags=Flag.LEGACY)
        runtime.desk.deliveries[message_id] = _Carried(ended, action)
        runtime.act(actions)


class _Carried:
    """Stands where a waiting application would: told how a carried envelope fared."""

    def __init__(self, ended: Ended, action: SendCarried) -> None:
        self._ended = ended
        self._action = action

    def put(self, result: object) -> None:
        with suppress(trio.ClosedResourceError):
            self._ended(self._action, result)
