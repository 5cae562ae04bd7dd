"""How a failure of the application's code is logged: whole, but for access keys."""

from __future__ import annotations

import logging
import traceback
from typing import Final

__all__ = ["log_failure"]

_log: Final = logging.getLogger("trio_relay.serving")


def log_failure(what: str, error: BaseException, secret: str | None = None) -> None:
    """Logs an error with its traceback; where `secret` is in it, there are stars."""
    text = "".join(traceback.format_exception(error)).rstrip()
    if secret is not None and secret in text:
        _log.error("%s\n%s", what, text.replace(secret, "***"))
    else:
        _log.error("%s", what, exc_info=error)
