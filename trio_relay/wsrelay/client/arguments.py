"""Whether the arguments of `open_relay_client` are usable. Pure."""

from __future__ import annotations

import math
import ssl
from collections.abc import Mapping
from typing import Any, Final

from ...transports.streams import check_tls
from ..stores.keys import KEY_RULE, is_key_format

__all__ = ["check_arguments"]

_SECONDS: Final = ("max_reconnect_delay", "stable_after", "connect_timeout", "idle_timeout")
_COUNTS: Final = (
    *("max_message", "queue_messages", "queue_bytes"),
    *("inbox_messages", "inbox_bytes", "event_buffer"),
)


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Looks at all but the target, which `make_target` looks at.

    Raises:
        TypeError: an argument is of another type than its annotation says.
        ValueError: one is unusable.
    """
    if arguments["key"] is not None and not is_key_format(arguments["key"]):
        raise ValueError(f"expected an access key of {KEY_RULE}")
    if arguments["when_disconnected"] not in ("queue", "raise"):
        raise ValueError(f'expected when_disconnected "queue" or "raise", not {arguments["when_disconnected"]!r}')
    context = arguments["ssl_context"]
    if context is not None:
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"expected an ssl.SSLContext as ssl_context, not {type(context).__name__}")
        check_tls(context)
    for name in _COUNTS:
        if not isinstance(arguments[name], int) or isinstance(arguments[name], bool):
            raise TypeError(f"expected an int as {name}, not {arguments[name]!r}")
    for name in _SECONDS:
        if not isinstance(arguments[name], int | float) or isinstance(arguments[name], bool):
            raise TypeError(f"expected a number of seconds as {name}, not {arguments[name]!r}")
        if not math.isfinite(arguments[name]):
            raise ValueError(f"expected a finite {name}, not {arguments[name]!r}")
    for name in (*_COUNTS, *_SECONDS):
        if not arguments[name] > 0:
            raise ValueError(f"expected a positive {name}, not {arguments[name]!r}")
