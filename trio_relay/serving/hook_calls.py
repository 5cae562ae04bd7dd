"""How the application's code is called inside a server: a function or a coroutine function, with a deadline."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import trio

from .failures import log_failure

__all__ = ["HookFailed", "call_hook"]

_log: Final = logging.getLogger("trio_relay.serving")


class HookFailed(Exception):
    """A hook raised or took too long; it was logged and counted."""


async def call_hook(
    name: str,
    counts: Counter[str],
    timeout: float,
    hook: Callable[..., Any],
    *arguments: object,
    secret: str | None = None,
) -> Any:
    """What a hook returns, at last.

    Args:
        secret: an access key, which is not logged.

    Raises:
        HookFailed: it raised an `Exception`, or did not return in `timeout` seconds.
    """
    try:
        result = hook(*arguments)
        if inspect.isawaitable(result):
            with trio.fail_after(timeout):
                result = await result
        return result
    except Exception as error:
        counts["hook_failed"] += 1
        if isinstance(error, trio.TooSlowError):
            _log.error("hook %s did not return within %g s", name, timeout)
        else:
            log_failure(f"hook {name} failed", error, secret)
        raise HookFailed(name) from error
