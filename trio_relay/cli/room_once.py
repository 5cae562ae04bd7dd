"""``room --send`` and ``room --receive``: one thing is done, and its outcome is the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trio

from ..exceptions import RelayError
from ..peerix import Room
from .room_chat import Chat
from .room_commands import RoomCommand
from .room_sending import Sending

__all__ = ["receive_one", "send_files"]


async def send_files(sending: Sending, chat: Chat, files: Sequence[Path]) -> None:
    """Sends files to all; `Sending.failures` tells how it went."""
    for file in files:
        await sending.execute(RoomCommand("file", path=str(file)))
    await chat.settle()


async def receive_one(room: Room, chat: Chat, timeout: float | None) -> bool:
    """Takes the first message that comes: shows a text, saves a file; returns whether all of it came.

    Raises:
        RelayError: nothing came in time.
    """
    try:
        with trio.fail_after(timeout if timeout is not None else float("inf")):
            message = await room.receive()
    except trio.TooSlowError:
        raise RelayError("nothing came in time") from None
    return await chat.take_at_once(message)
