"""What strangers in a room write, made fit for a terminal and for a disk. Pure."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any, Final

__all__ = ["as_json", "clean", "file_info", "nick_of", "readable_size", "safe_name", "said"]

_JOINER: Final = "\u200d"
"""Joins emoji; all other characters without a form of their own are shown as escapes."""
_MAX_NICK: Final = 32
_MAX_LINES: Final = 40
_MAX_NAME: Final = 180
"""Bytes of a file's name, so that a number fits behind it: most systems take 255."""
_UNNAMED: Final = "unnamed"
_FORBIDDEN: Final = frozenset('<>:"|?*')
_DEVICES: Final = frozenset({"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10))})


def clean(text: str) -> str:
    """One line in which nothing controls a terminal: control characters, also those of direction, become escapes."""
    return "".join(one if one.isprintable() or one == _JOINER else _escape(one) for one in text)


def _escape(character: str) -> str:
    return " " if character == "\t" else character.encode("unicode_escape").decode()


def said(name: str, text: str) -> str:
    """A message of somebody: its further lines are marked, so that none looks like another's message."""
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    shown = lines if len(lines) <= _MAX_LINES else [*lines[:_MAX_LINES], f"({len(lines) - _MAX_LINES} more lines)"]
    return f"\n{' ' * len(name)}| ".join([f"{name}: {clean(shown[0])}", *map(clean, shown[1:])])


def nick_of(metadata: Any) -> str:
    """How a member calls itself, in its metadata; empty if it does not."""
    name = metadata.get("name") if isinstance(metadata, dict) else metadata
    return " ".join(clean(name[: 4 * _MAX_NICK]).split())[:_MAX_NICK] if isinstance(name, str) else ""


def readable_size(size: int) -> str:
    """For people: ``5.2 MB``."""
    if size < 1000:
        return f"{size} bytes"
    units = ("kB", "MB", "GB", "TB")
    power = next((power for power in range(1, 4) if size / 1000**power < 999.95), 4)
    return f"{size / 1000**power:.1f} {units[power - 1]}"


def file_info(info: Any) -> tuple[str, int | None]:
    """The name and the size that a sender tells of a file; the size is a claim, and the name not safe yet."""
    if not isinstance(info, dict):
        return "", None
    names = (info.get(key) for key in ("name", "filename", "fileName"))
    size = info.get("size")
    good = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63
    return next((name for name in names if isinstance(name, str)), ""), size if good else None


def safe_name(name: str) -> str:
    """The name of a file in a folder, whatever a stranger says: no path, not hidden, nothing that cannot be seen."""
    last = name[-4 * _MAX_NAME :].replace("\\", "/").rpartition("/")[2]
    visible = "".join(one if one.isprintable() else "_" for one in last)
    plain = "".join("_" if one in _FORBIDDEN else one for one in visible).strip(" .")
    if plain.partition(".")[0].rstrip().lower() in _DEVICES:
        plain = f"_{plain}"
    return _cut(plain) or _UNNAMED


def _cut(name: str) -> str:
    """At most `_MAX_NAME` bytes, with its suffix."""
    if len(name.encode()) <= _MAX_NAME:
        return name
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= _MAX_NAME // 4 else ""
    stem = name.removesuffix(suffix).encode()[: _MAX_NAME - len(suffix.encode())]
    return stem.decode(errors="ignore").rstrip(" .") + suffix


def as_json(value: Any) -> str:
    """A JSON value in one line."""
    return json.dumps(value, ensure_ascii=False)
