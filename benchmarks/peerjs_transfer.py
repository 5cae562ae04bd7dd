"""One large value from a peer in one process to a peer in another: how fast, and how much memory both take."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import trio

from trio_relay import NegotiationFailed, WebRTCConfig, peerjs

from .endurance import said, started
from .memory import MIB, peak, resident
from .peerjs_server import run_broker
from .report import Options, Report, Sample

__all__ = ["CASES", "Side", "run", "transfer", "transferred"]

_MB: Final = 1_000_000
_TIMEOUT: Final = 60.0
_SLOWEST: Final = 200_000.0
"""Bytes a second: a transfer that is slower is given up."""

Way = Literal["webrtc", "relay"]
CASES: Final[tuple[tuple[str, Way], ...]] = (("binary", "webrtc"), ("MsgPack", "webrtc"), ("binary", "relay"))


@dataclass(frozen=True, slots=True)
class Side:
    """What a process says when the transfer is over.

    Attributes:
        at: when sending began, or everything had arrived, on the clock that all processes share.
        before, peak: bytes of memory, before the value left or came, and at most.
        transport: how it travelled.
    """

    at: float
    digest: str
    before: int
    peak: int
    transport: str


def run(report: Report, options: Options) -> None:
    """A value of `options.transfer` MB, once in each of `CASES`."""
    samples = {
        f"{serialization}, {way}": [transfer(options.transfer * _MB, serialization, way)]
        for serialization, way in CASES
    }
    report.table(f"webrtc, PeerJS, one value of {options.transfer:,} MB", samples)


def transfer(size: int, serialization: str, way: Way) -> Sample:
    """One value of `size` bytes.

    Raises:
        RuntimeError: it took too long, is not what was sent, or travelled in another way.
    """
    with run_broker() as broker:
        port = urlsplit(broker.url).port
        with started(_receive, port, way) as receiver:
            said(receiver, _TIMEOUT)
            with started(_send, port, way, serialization, size) as sender:
                sent: Side = said(sender, _TIMEOUT + size / _SLOWEST)
                came: Side = said(receiver, _TIMEOUT)
    return transferred(size, way, sent, came)


def transferred(size: int, way: Way, sent: Side, came: Side) -> Sample:
    """What the two say.

    Raises:
        RuntimeError: it is not what was sent, or travelled in another way.
    """
    if came.digest != sent.digest:
        raise RuntimeError("the value arrived, but the digests differ")
    if {sent.transport, came.transport} != {way}:
        raise RuntimeError(f"expected a connection over {way}, not {sent.transport} and {came.transport}")
    elapsed = came.at - sent.at
    values = {"MB/s": size / elapsed / _MB, "seconds": elapsed}
    for name, side in (("sender", sent), ("receiver", came)):
        values |= {f"{name} peak MiB": side.peak / MIB, f"{name} before MiB": side.before / MIB}
    return Sample(values, 1)


def _receive(pipe: Pipe, port: int, way: Way) -> None:
    trio.run(_receive_value, pipe, port, way)


async def _receive_value(pipe: Pipe, port: int, way: Way) -> None:
    async with _peer("receiver", port, way) as peer:
        pipe.send("registered")
        connection = await peer.accept()
        assert isinstance(connection, peerjs.DataConnection)
        before = resident(os.getpid())
        value = await connection.receive()
        at, most = time.monotonic(), peak(os.getpid())
        pipe.send(Side(at, hashlib.sha256(value).hexdigest(), before, most, connection.transport))
        await trio.sleep_forever()


def _send(pipe: Pipe, port: int, way: Way, serialization: str, size: int) -> None:
    trio.run(_send_value, pipe, port, way, serialization, size)


async def _send_value(pipe: Pipe, port: int, way: Way, serialization: str, size: int) -> None:
    async with _peer("sender", port, way) as peer:
        connection = await peer.connect("receiver", serialization=serialization, reliable=True)
        value = os.urandom(size)
        digest, before, at = hashlib.sha256(value).hexdigest(), resident(os.getpid()), time.monotonic()
        await connection.send(value)
        pipe.send(Side(at, digest, before, peak(os.getpid()), connection.transport))
        await trio.sleep_forever()


@asynccontextmanager
async def _peer(id: str, port: int, way: Way) -> AsyncIterator[peerjs.Peer]:
    config = WebRTCConfig(factory=_blocked) if way == "relay" else WebRTCConfig()
    fallback: Literal["relay"] | None = "relay" if way == "relay" else None
    async with peerjs.open_peer(id, host="127.0.0.1", port=port, config=config, fallback=fallback) as peer:
        yield peer


class _Blocked:
    """Implements `PeerConnection` as where no packet gets through."""

    async def create_offer(self, label: str, *, protocol: str = "", ordered: bool = True) -> str:
        return "v=0\r\n"

    async def create_answer(self, offer: str) -> str:
        return "v=0\r\n"

    async def accept_answer(self, answer: str) -> None:
        pass

    async def add_candidate(self, candidate: Any) -> None:
        pass

    async def channel(self) -> Any:
        raise NegotiationFailed("nothing gets through")

    def selected_pair(self) -> None:
        return None


@asynccontextmanager
async def _blocked(config: WebRTCConfig) -> AsyncIterator[_Blocked]:
    yield _Blocked()
