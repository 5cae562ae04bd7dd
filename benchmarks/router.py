"""The pure core: how many frames a second `Router.receive` moves from one link to another."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Final

from trio_relay.identity import Identity, verify
from trio_relay.limits import Limits
from trio_relay.overlay.actions import Action, LinkHandle, Transmit
from trio_relay.overlay.router import Router
from trio_relay.wire.frame import Flag, Kind, build_frame
from trio_relay.wire.record import build_record

from .report import Case, Options, Report, Sample, measure

__all__ = ["run"]

_FRAMES: Final = 64
"""Frames of one read: in one message, or each in its own."""
_READS: Final = 256
"""Reads made beforehand and timed together; each is used once, since the router writes into it."""
_PAYLOAD: Final = 100
_SEALED: Final = "64 messages a read, 1 pair, sealed"
_WALL: Final = 1_700_000_000.0
_URL: Final = "ws://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class _Read:
    """What one read of a link gives the router."""

    link: LinkHandle
    messages: Sequence[bytes]


def run(report: Report, options: Options) -> None:
    """One line for each shape of traffic."""
    seconds = options.seconds
    cases = [
        Case(f"{name}, {pairs} pair{'s' * (pairs > 1)}", partial(_forward, pairs, joined, together, seconds))
        for name, joined, together in (
            ("lone frames", 1, 1),
            ("64 messages a read", 1, _FRAMES),
            ("64 frames a message", _FRAMES, _FRAMES),
        )
        for pairs in (1, 100)
    ]
    cases.append(Case("64 frames a message, 100 receivers", partial(_scatter, 100, seconds)))
    plain = "64 messages a read, 1 pair"
    cases.append(Case(_SEALED, partial(_forward, 1, 1, _FRAMES, seconds, Flag.SEALED)))
    samples = measure(cases, options.repeat)
    report.table("router", samples)
    report.ratio("router, equal frames", "us/frame", samples, [(_SEALED, plain)])


def _forward(pairs: int, joined: int, together: int, seconds: float, flags: int = 0) -> Sample:
    """Every pair has its turn, with a read of `together` frames, `joined` in one message."""
    router, senders, receivers = _network(pairs)
    reads = []
    for sender, receiver in zip(senders, receivers, strict=True):
        message = b"".join(_data(sender, receiver, number, flags) for number in range(joined))
        reads.append(_Read(sender, [message] * (together // joined)))
    return _time(router, reads, together, seconds)


def _scatter(receivers: int, seconds: float) -> Sample:
    """One sender, and each frame of a message for another receiver than the one before."""
    router, (sender, *_), to = _network(receivers)
    targets = cycle(to)
    reads = [
        _Read(sender, [b"".join(_data(sender, target, 0) for target in islice(targets, _FRAMES))])
        for _ in range(receivers)
    ]
    return _time(router, reads, _FRAMES, seconds)


def _data(source: Identity, to: Identity, number: int, flags: int = 0) -> bytes:
    return build_frame(Kind.DATA, to.id, source.id, number.to_bytes(8, "big"), bytes(_PAYLOAD), flags=flags)


def _network(pairs: int) -> tuple[Router, list[Identity], list[Identity]]:
    """A relay with leaves that trust it; their identities stand for their links."""
    own = Identity.generate()
    router = Router(
        own.id,
        own.public_key,
        sign=own.sign,
        verify=verify,
        rng=random.Random(1),
        token=lambda: os.urandom(8),
        now=0.0,
        wall_offset=_WALL,
        limits=Limits(),
    )
    router.advertise([_URL], 0.0)
    leaves = [Identity.generate() for _ in range(2 * pairs)]
    for leaf in leaves:
        router.link_up(leaf, leaf.id, 0.0, dialled=False, authority=_URL.removeprefix("ws://"))
        record = build_record(leaf.public_key, leaf.sign, sequence=1, expiry=int(_WALL) + 3600).raw
        status = build_frame(Kind.STATUS, own.id, leaf.id, bytes(8), b"\x01" + record, hop_limit=0)
        router.receive(leaf, [status], 0.0)
    return router, leaves[:pairs], leaves[pairs:]


def _time(router: Router, reads: Sequence[_Read], frames: int, seconds: float) -> Sample:
    """Gives the reads to the router, in turn, until it has worked so long."""
    turns = cycle(reads)
    spent, sent, forwarded = 0.0, 0, 0
    while spent < seconds:
        prepared = [(read.link, read.messages) for read in islice(turns, _READS)]
        results: list[list[Action]] = []
        start = time.thread_time()
        for link, messages in prepared:
            results.append(router.receive(link, messages, 0.0))
        spent += time.thread_time() - start
        sent += frames * _READS
        forwarded += sum(
            action.frames for actions in results for action in actions if isinstance(action, Transmit) and action.via
        )
    return Sample({"frames/s": forwarded / spent, "us/frame": spent / max(forwarded, 1) * 1e6}, sent, sent - forwarded)
