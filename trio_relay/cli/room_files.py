"""Files that come in a room: written beside others, never over one, never outside of their folder."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Final

import trio

from ..exceptions import TransferFailed
from ..peerix import Message
from .room_text import safe_name

__all__ = ["save"]

_BLOCK: Final = 256 * 1024
"""Bytes that are written at once."""
_TRIES: Final = 1000
_UNFINISHED: Final = ".part"

Watch = Callable[[int], Awaitable[None]]


async def save(message: Message, folder: Path, name: str, most: int, watch: Watch) -> Path:
    """Writes a file into a folder while it comes; returns where. If it does not come whole, nothing is left of it.

    Args:
        name: as its sender calls it; a number is put behind it where there is such a file.
        most: bytes; a larger one is given up.
        watch: told how many bytes have come.

    Raises:
        TransferFailed: the rest of it does not come, or it is ``too-large``.
        OSError: it can't be written.
    """
    safe = safe_name(name)
    part, file = await trio.to_thread.run_sync(_create, folder, f"{safe}{_UNFINISHED}")
    try:
        with file:
            await _write(message, file, most, watch)
        return await trio.to_thread.run_sync(_put, part, folder, safe)
    except BaseException:
        message.cancel()
        part.unlink(missing_ok=True)
        raise


async def _write(message: Message, file: IO[bytes], most: int, watch: Watch) -> None:
    waiting: list[bytes] = []
    size = held = 0
    async for chunk in message:
        size += len(chunk)
        held += len(chunk)
        if size > most:
            raise TransferFailed(message.member, "too-large", f"it has more than {most} bytes")
        waiting.append(chunk)
        if held >= _BLOCK:
            await trio.to_thread.run_sync(file.write, b"".join(waiting))
            waiting.clear()
            held = 0
            await watch(size)
    await trio.to_thread.run_sync(file.write, b"".join(waiting))
    await watch(size)


def _create(folder: Path, name: str) -> tuple[Path, IO[bytes]]:
    """A new file, by this name or one with a number; a link that somebody put there is not followed."""
    stem, suffix = os.path.splitext(name.removesuffix(_UNFINISHED))
    end = _UNFINISHED if name.endswith(_UNFINISHED) else ""
    for number in range(_TRIES):
        path = folder / f"{stem}{f' ({number})' if number else ''}{suffix}{end}"
        try:
            return path, path.open("xb")
        except FileExistsError:
            continue
    raise FileExistsError(f"there are {_TRIES} files like {name!a} in {folder}")


def _put(part: Path, folder: Path, name: str) -> Path:
    """Gives a complete file its name. The name is taken first, so that nobody's file is replaced but this one."""
    path, file = _create(folder, name)
    file.close()
    try:
        part.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path
