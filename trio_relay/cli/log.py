"""Logs of ``trio-relay serve`` on standard error: lines for people, or one JSON object a line.

Times are RFC 3339, in UTC. What looks like a key in a URL is blotted out; nothing should log one in the first place.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final

__all__ = ["LEVELS", "JsonFormatter", "TextFormatter", "start_logging"]

LEVELS: Final = ("debug", "info", "warning", "error")

_KNOWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes of every record; others are what a caller gave as `extra`."""
_KEY: Final = re.compile(r"([?&](?:key|access_key|token)=)[^&\s\"'#]+")


def start_logging(*, as_json: bool, level: str) -> None:
    """Sends what the package logs to standard error, from this level on; may be called again with other arguments."""
    logger = logging.getLogger("trio_relay")
    for old in list(logger.handlers):
        logger.removeHandler(old)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False


class TextFormatter(logging.Formatter):
    """``TIME LEVEL LOGGER: MESSAGE``, and the lines of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or more with an exception."""
        message = _blot(record.getMessage()).replace("\r", "\\r").replace("\n", "\\n")
        line = f"{_time(record)} {record.levelname} {record.name}: {message}"
        return f"{line}\n{_blot(self.formatException(record.exc_info))}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """``time``, ``level``, ``logger``, ``message``, then what the caller added, and ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _blot(record.getMessage()),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _KNOWN and name not in line}
        if record.exc_info:
            line["exception"] = _blot(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _blot(text: str) -> str:
    return _KEY.sub(r"\1***", text)
