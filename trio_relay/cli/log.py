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
_KEY_IN_JSON: Final = re.compile(r"([?&](?:key|access_key|token)=)(?:[^&\s\"'#\\]|\\\\|\\u[0-9a-f]{4})+")
"""The same inside a JSON string: a backslash is part of an escape."""


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
    """``TIME LEVEL LOGGER: MESSAGE``, and the lines of an exception; what is not printable is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or more with an exception."""
        line = f"{_time(record)} {record.levelname} {record.name}: {_escape(_blot(record.getMessage()))}"
        if not record.exc_info:
            return line
        trace = _blot(self.formatException(record.exc_info))
        return "\n".join([line, *map(_escape, trace.split("\n"))])


class JsonFormatter(logging.Formatter):
    """``time``, ``level``, ``logger``, ``message``, then what the caller added, and ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _KNOWN and name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _KEY_IN_JSON.sub(r"\1***", json.dumps(line, default=str))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _blot(text: str) -> str:
    return _KEY.sub(r"\1***", text)


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
