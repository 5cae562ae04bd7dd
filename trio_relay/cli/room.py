"""``trio-relay room``: a Peerix room on a terminal, in a pipe, or (``--jsonl``) for programs.

Nested from the outside: output, signals, driver, room. So what is told at the end is still written, and who ends the
command with Ctrl-C leaves the room first.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from ..exceptions import RelayError
from ..peerix import Driver, Room, RoomLimits, TransferLimits, open_room
from ..transports.bundle import BundleFactory
from ..transports.webrtc import IceServer
from .commands import BadInput
from .options import UsageError
from .room_chat import Chat, Receiving
from .room_commands import RoomCommand, parse_json_line, parse_line
from .room_driver import Broker, open_driver, read_secret
from .room_once import receive_one, send_files
from .room_report import JsonRoomReport, PlainRoomReport, RoomReport
from .room_sending import Sending
from .room_terminal import open_terminal
from .signals import stop_on_signal
from .stdio import LineReader, open_output, wait_reader_gone
from .tls import client_context
from .webrtc import parse_stun, parse_turn

__all__ = ["RoomSettings", "converse", "make_settings", "run"]

MEGABYTE: Final = 1_000_000
MIB: Final = 1024 * 1024
_LINE_SIZE: Final = 1024 * 1024
_LAST_WORDS: Final = 5.0
"""Seconds that ``/quit`` gives to what is under way."""
_PATIENCE: Final = 40.0
"""Seconds that a file may wait for somebody to accept it: a little longer than `Chat` gives it."""

LIMITS: Final = RoomLimits(
    transfers=TransferLimits(
        message_bytes=8 * MIB,
        member_bytes=16 * MIB,
        total_bytes=128 * MIB,
        ack_timeout=_PATIENCE,
        stall_timeout=_PATIENCE,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSettings:
    """The arguments, checked and loaded.

    Attributes:
        send: files to send to all; then that is all.
        receive: one message; then that is all.
        interactive: somebody types on a terminal.
        options: for `open_room`.
    """

    room: str
    broker: Broker
    receiving: Receiving
    label: str = "default"
    send: tuple[Path, ...] = ()
    receive: bool = False
    wait_members: int = 0
    timeout: float | None = None
    machine: bool = False
    options: dict[str, Any]


class Lines(Protocol):
    """Where input comes from: a `LineReader`."""

    async def receive(self) -> list[bytes | None]:
        """At least one line; none: the input has ended."""
        ...


def make_settings(options: argparse.Namespace) -> RoomSettings:
    """Loads the files that the arguments name.

    Raises:
        UsageError: something in them can not be.
    """
    folder = Path(options.download_dir).expanduser()
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder that files could be written to")
    files = tuple(Path(file).expanduser() for file in options.send or ())
    for file in files:
        if not file.is_file():
            raise UsageError(f"can't send {file}: it is no file")
    typed = sys.stdin is not None and sys.stdin.isatty()
    waits = bool(files) or not (typed or options.receive or options.jsonl)
    broker = Broker(
        url=options.driver,
        bootstrap=tuple(options.bootstrap or ()),
        prefix=options.prefix,
        user=options.user,
        secret=read_secret(options.secret_file),
        tls=client_context(options.ca) if options.ca is not None else None,
    )
    return RoomSettings(
        room=options.room,
        broker=broker,
        receiving=Receiving(folder, options.max_size * MEGABYTE, options.accept_all),
        label=options.channel,
        send=files,
        receive=options.receive,
        wait_members=options.wait_members or int(waits),
        timeout=options.timeout,
        machine=options.jsonl,
        options=_room_options(options),
    )


def _room_options(options: argparse.Namespace) -> dict[str, Any]:
    """For `open_room`."""
    servers: tuple[IceServer, ...] = (*map(parse_stun, options.stun or ()), *map(parse_turn, options.turn or ()))
    if options.relay_only and not options.turn:
        raise UsageError("expected --turn beside --relay-only")
    return {
        "metadata": {"name": options.name} if options.name else None,
        "ice_servers": servers,
        "ice_transport_policy": "relay" if options.relay_only else "all",
        "namespace_hashing": not options.no_namespace_hashing,
        "signaling_encryption": not options.no_encryption,
        "limits": LIMITS,
    }


async def run(settings: RoomSettings) -> int:
    """Runs until it is ended; raises KeyboardInterrupt after an orderly end by Ctrl-C."""
    received: list[int] = []
    code = int(bool(settings.send) or settings.receive)
    async with open_report(settings) as report, trio.open_nursery() as services:
        stop = services.cancel_scope
        await services.start(stop_on_signal, stop, received)
        services.start_soon(wait_reader_gone)
        async with enter(settings, lambda: open_driver(settings.broker)) as room:
            code = await converse(room, report, settings, LineReader(_LINE_SIZE))
        stop.cancel()
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    return code


@asynccontextmanager
async def open_report(settings: RoomSettings) -> AsyncIterator[RoomReport]:
    """Where everything is told: a terminal, if standard output is one, else lines."""
    if not settings.machine and sys.stdout is not None and sys.stdout.isatty():
        async with open_terminal(sys.stdout.fileno(), sys.stdout.encoding) as terminal:
            yield terminal
        return
    async with open_output() as (out, _):
        if settings.machine:
            yield JsonRoomReport(out)
        else:
            yield PlainRoomReport(out, sys.stdout.encoding, bare=settings.receive)


@asynccontextmanager
async def enter(
    settings: RoomSettings, make_driver: Callable[[], Any], factory: BundleFactory | None = None
) -> AsyncIterator[Room]:
    """Enters the room.

    Raises:
        UsageError: WebRTC is not installed, or an option has a value that can not be.
    """
    entered = False
    try:
        driver: Driver
        async with (
            make_driver() as driver,
            open_room(settings.room, driver=driver, factory=factory, **settings.options) as room,
        ):
            room.open_channel(settings.label)
            entered = True
            yield room
    except (ValueError, ImportError) as error:
        if entered:
            raise
        raise UsageError(str(error)) from error


async def converse(room: Room, report: RoomReport, settings: RoomSettings, lines: Lines) -> int:
    """Does what the command is for, until the input ends; returns the exit code."""
    me = room.me
    await report.tell(None, "joined", room=room.id, id=me.id if me is not None else None)
    good = True
    async with trio.open_nursery() as jobs:
        chat = Chat(room, report, settings.receiving, jobs)
        sending = Sending(room, report, chat, settings.label, jobs)
        await jobs.start(chat.watch)
        jobs.start_soon(chat.watch_driver)
        if settings.receive:
            good = await receive_one(room, chat, settings.timeout)
        else:
            jobs.start_soon(chat.receive)
            await _wait_members(room, settings)
            if settings.send:
                await send_files(sending, chat, settings.send)
            else:
                await _execute_lines(lines, sending, chat, settings.machine)
        await chat.linger()
        jobs.cancel_scope.cancel()
    programs = settings.machine and not settings.send
    return int(not good or (bool(sending.failures) and not programs))


async def _wait_members(room: Room, settings: RoomSettings) -> None:
    wanted = settings.wait_members
    if not wanted:
        return
    try:
        with trio.fail_after(settings.timeout if settings.timeout is not None else float("inf")):
            await room.wait_members(wanted)
    except trio.TooSlowError:
        raise RelayError(f"{room.statistics().members} of {wanted} members came in time") from None


async def _execute_lines(lines: Lines, sending: Sending, chat: Chat, machine: bool) -> None:
    """Until the end of input, and of what it has begun; after ``/quit`` that has a few seconds."""
    going = True
    while going and (some := await lines.receive()):
        for line in some:
            try:
                command = _parse(line, machine)
            except BadInput as error:
                await sending.refuse(error, error.ref)
                continue
            if command is not None and not await sending.execute(command):
                going = False
                break
    with trio.move_on_after(float("inf") if going else _LAST_WORDS):
        await chat.settle()


def _parse(line: bytes | None, machine: bool) -> RoomCommand | None:
    if line is None:
        raise BadInput(f"expected a line of at most {_LINE_SIZE} bytes")
    if machine:
        return parse_json_line(line)
    return parse_line(line.decode(sys.stdin.encoding or "utf-8", "replace").rstrip("\r"))
