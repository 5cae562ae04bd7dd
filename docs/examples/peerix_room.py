"""Two members of a Peerix room on this machine: alice sends a file, and bob takes it while it comes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio

from trio_relay import peerix

SIZE = 3_000_000


async def send_file(room: peerix.Room, path: Path) -> None:
    """Sends a file to everybody, and shows how far it is."""
    size = (await trio.Path(path).stat()).st_size
    transfer = room.send(path, info={"name": path.name, "size": size})
    async for progress in transfer:
        if progress.total is not None:
            print(f"\rsent {100 * progress.current // (progress.total or 1)} %", end="")
    print()
    try:
        await transfer
    except peerix.TransferFailed as failure:
        print(f"{failure.member} has not got it: {failure}")


async def take(message: peerix.Message, folder: Path, number: int) -> None:
    """Writes a file while it comes. Its sender's name for it is shown, and not used: it may be any text."""
    info = message.info if isinstance(message.info, dict) else {}
    path = folder / f"{number}.bin"
    try:
        async with await trio.open_file(path, "wb") as file:
            async for chunk in message:
                await file.write(chunk)
    except peerix.TransferFailed as failure:
        print(f"it did not come whole: {failure.reason}")
    else:
        print(f"received {info.get('name')!r} as {path.name}, {message.received} bytes")


async def receive_files(room: peerix.Room, folder: Path) -> None:
    """Takes files until it is cancelled, each in a task of its own."""
    async with trio.open_nursery() as nursery:
        number = 0
        async for message in room:
            if message.type == "blob":
                nursery.start_soon(take, message, folder, number := number + 1)
            else:
                message.cancel()


async def main() -> None:
    driver = peerix.MemoryDriver()  # for members in one program; see docs/howto/rooms.md for brokers
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = trio.Path(name) / "film.mp4"
        await film.write_bytes(bytes(SIZE))
        async with (
            peerix.open_room("friends", driver=driver, metadata={"name": "alice"}) as alice,
            peerix.open_room("friends", driver=driver, metadata={"name": "bob"}) as bob,
            trio.open_nursery() as nursery,
        ):
            alice.open_channel()
            nursery.start_soon(receive_files, bob, folder)
            await alice.wait_members()
            await send_file(alice, Path(film))
            await trio.sleep(0.1)  # bob's last lines
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
