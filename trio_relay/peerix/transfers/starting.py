"""A message is given to the channels of the members that it goes to."""

from __future__ import annotations

import io
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol, TypeGuard

import trio

from ...wire.json import JSONValue, encode
from ..packets.transfer import PayloadType, first_chunk
from .files import FileSource, PipeBlocks
from .limits import TransferLimits
from .sources import MemorySource, Source
from .transfer import Part, Transfer
from .window import WindowSource

__all__ = ["Sink", "make_source", "start_transfer"]


class Sink(Protocol):
    """What takes a member's part of a transfer; a `ChannelLink`, for example."""

    @property
    def full(self) -> bool:
        """Whether no more can wait there."""
        ...

    def send(self, part: Part) -> None:
        """Sends it when it is its turn; whatever becomes of it, the part tells. It is not `full`."""
        ...


def start_transfer(
    message: Any,
    links: Mapping[str, Sink | None],
    *,
    label: str,
    limits: TransferLimits,
    start_soon: Callable[[Callable[[], Awaitable[object]]], None],
    info: JSONValue = None,
    cancel_scope: trio.CancelScope | None = None,
) -> Transfer:
    """Sends a message over the channels of some members; returns at once. With no members it is done.

    A member whose queue is full fails at once (``timeout``: it is far behind), so that it does not keep the others from
    getting the message.

    Args:
        message: see `make_source`.
        links: member's id -> its channel; None: it has none, and fails as ``no-channel``.
        label: of the channel.
        start_soon: of a nursery that lasts as long as the links.
        info: goes with the message; None: nothing.
        cancel_scope: entered by a task of the transfer: cancelled, or at its deadline, it cancels the transfer.

    Raises:
        LocalProtocolError: the message, or the info, is something that can not be sent.
        PayloadTooLarge: the info has 16,320 bytes or more as JSON.
        trio.WouldBlock: `TransferLimits.queue` messages wait at every member that it goes to; nothing is sent.
    """
    encoded = None if info is None else encode(info)
    first_chunk(encoded)
    source = make_source(message, limits)
    present = [link for link in links.values() if link is not None]
    if present and all(link.full for link in present):
        source.close()
        raise trio.WouldBlock(f"{limits.queue} messages wait to be sent on {label!r}")
    transfer = Transfer(source, label, encoded, cancel_scope)
    for member, link in links.items():
        part = transfer.part(member)
        if link is None:
            part.fail("no-channel", f"there is no channel {label!r} to the member")
        elif link.full:
            part.fail("timeout", f"{limits.queue} messages wait to be sent to the member")
        else:
            link.send(part)
    transfer.seal()
    if transfer.runs:
        start_soon(transfer.run)
    return transfer


def make_source(message: Any, limits: TransferLimits) -> Source:
    """What is sent for a message.

    `str` goes as text; bytes-like objects and asynchronous iterables of them as bytes; a `Path` and open binary files
    as a blob; everything else as JSON, None too.

    Raises:
        LocalProtocolError: it is none of these.
    """
    if isinstance(message, str):
        return MemorySource(PayloadType.TEXT, _encode_text(message))
    if isinstance(message, bytes):
        return MemorySource(PayloadType.BYTES, message)
    if isinstance(message, trio.Path):
        return FileSource(Path(message))
    if isinstance(message, Path):
        return FileSource(message)
    # Trio's files are an iteration over lines; what is in them is better read in blocks.
    file = getattr(message, "wrapped", None) if isinstance(message, AsyncIterable) else message
    if _is_binary_file(file):
        return FileSource(file) if file.seekable() else WindowSource(PayloadType.BLOB, PipeBlocks(file), limits)
    if isinstance(message, AsyncIterable):
        return WindowSource(PayloadType.BYTES, message, limits)
    try:
        view = memoryview(message)
    except TypeError:
        return MemorySource(PayloadType.JSON, encode(message))
    return MemorySource(PayloadType.BYTES, bytes(view))


def _is_binary_file(file: Any) -> TypeGuard[IO[bytes]]:
    """Also one that is only like a file, as temporary files are."""
    if isinstance(file, io.RawIOBase | io.BufferedIOBase):
        return True
    return callable(getattr(file, "seekable", None)) and "b" in str(getattr(file, "mode", ""))


def _encode_text(text: str) -> bytes:
    """UTF-8; a lone surrogate becomes U+FFFD, as in browsers."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
