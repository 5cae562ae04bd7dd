"""Presence on the relay server: one peer comes and goes before many watchers, while others exchange messages.

A watcher must be told what is true: never the same state twice, and at the end the last one. A peer that comes and goes
faster than its watchers can be told may be told of less often.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from .ends import TEXT, client_frame, read
from .generator import Shared, receive_timed, send_paced
from .hop import LATENCY_WARM_UP, generators, start, wait_until_drained
from .idle import start_timeout
from .processes import Relay, Watch, raise_descriptor_limit
from .relay_ends import Frames, Routed, address, open_client
from .relay_server import run_relay_server
from .report import Options, Report, Sample
from .workers import start_workers, wait_until

__all__ = ["TITLE", "Fan", "Seen", "Tally", "Watcher", "flapping", "run", "run_fan"]

TITLE: Final = "wsrelay, presence"
_FLAPPER: Final = "the-one-that-flaps"
_WATCHERS: Final = 1000
_FLAPS: Final = 100
_SPAN: Final = 5.0
"""Seconds for all flaps that are paced, at the default length of a run."""
_SIZE: Final = 100
_RATE: Final = 1000.0
"""Messages a second between the two others: all flaps at once take half a second, and there must be a p99."""
_NICE: Final = 19
"""Those who watch take what the others leave of the machine: what is measured is the server."""
_MOST_SECONDS: Final = 60.0
"""Of one run: for so long there is room to note times."""
_PATIENCE: Final = 10.0
"""Seconds until every watcher has been told the last state."""
_CLOSE: Final = client_frame(0x88, b"\x03\xe8", bytes(4))
"""1000."""


@dataclass(frozen=True, slots=True)
class Fan:
    """One run.

    Attributes:
        watchers: of one peer.
        flaps: how often it comes and goes; then it comes once more, and stays.
        pause: seconds from one coming to the next; 0: as fast as it can.
        seconds: for which messages are measured before that.
    """

    watchers: int
    flaps: int
    pause: float
    seconds: float


def flapping(fan: Fan) -> str:
    """The name of its row."""
    return f"{fan.flaps} flaps, {f'{1 / fan.pause:.0f} a second' if fan.pause else 'as fast as it can'}"


def run(report: Report, options: Options) -> None:
    """Messages between two others without flaps, and with them in the same run; then with flaps one upon another."""
    share = min(options.seconds / Options().seconds, 1.0)
    flaps, span = max(int(_FLAPS * share), 1), _SPAN * share
    for fan in (Fan(_WATCHERS, flaps, span / flaps, span), Fan(_WATCHERS, flaps, 0.0, span)):
        runs = [run_fan(fan) for _ in range(options.repeat)]
        names = ("no flaps", flapping(fan))
        samples = {name: [each[number] for each in runs] for number, name in enumerate(names)}
        title = f"{TITLE}, {names[1].partition(', ')[2]}"
        report.table(f"{title}: {fan.watchers:,} watchers", samples)
        report.ratio(title, "p99 us", samples, [(names[1], names[0])])


def run_fan(fan: Fan, warm_up: float = LATENCY_WARM_UP) -> tuple[Sample, Sample]:
    """What it costs others: before the flaps, and from the first until everybody was told of the last."""
    shared, seen, traffic = Shared(int(_MOST_SECONDS * _RATE)), Seen(), Routed(_SIZE)
    with (
        run_relay_server() as relay,
        start_workers(partial(_watch, relay.url, fan.watchers, seen)),
    ):
        wait_until(lambda: seen.ready.value == 1, start_timeout(fan.watchers), "everybody watches")
        with generators(
            shared,
            partial(start, receive_timed, traffic, relay.url, shared),
            partial(start, send_paced, traffic, relay.url, _RATE, shared),
        ):
            time.sleep(warm_up)
            marks, watch = [time.monotonic()], Watch({"relay": relay.pid})
            time.sleep(fan.seconds)
            quiet = watch.stop()
            marks.append(time.monotonic())
            watch = Watch({"relay": relay.pid})
            told = _flap(relay, fan, seen)
            loud = watch.stop()
            marks.append(time.monotonic())
            shared.stop.value = True
            wait_until_drained(shared)
    return (
        _sample(shared, marks[0], marks[1], *quiet, dict.fromkeys(told, 0.0)),
        _sample(shared, marks[1], marks[2], *loud, told),
    )


def _sample(
    shared: Shared, begin: float, end: float, elapsed: float, cpu: dict[str, float], values: dict[str, float]
) -> Sample:
    """The messages that left between two moments."""
    times = [(left, came) for left, came in zip(shared.left, shared.arrived, strict=True) if begin <= left < end]
    delays = sorted((came - left) * 1e6 for left, came in times if came)
    if not delays:
        raise RuntimeError("no message came through while presence was measured")
    own = {
        "p99 us": delays[len(delays) * 99 // 100],
        "p50 us": delays[len(delays) // 2],
        "most us": delays[-1],
        **values,
        "relay %": cpu["relay"] / elapsed * 100,
        "seconds": elapsed,
    }
    return Sample(own, len(times), len(times) - len(delays))


# The peer that flaps


def _flap(relay: Relay, fan: Fan, seen: Seen) -> dict[str, float]:
    """Comes and goes, and waits until everybody knows; returns what they were told.

    Who does not know that it went, or that it came at last, has seen a violation, too.
    """
    begin = time.monotonic()
    for number in range(fan.flaps):
        _sleep_until(begin + number * fan.pause)
        sock, _ = open_client(relay.url, _FLAPPER)
        _sleep_until(begin + (number + 0.5) * fan.pause)
        _leave(sock)
    wrong = _wait_told(seen, 0)
    sock, _ = open_client(relay.url, _FLAPPER)
    with sock:
        wrong += _wait_told(seen, fan.watchers)
        # The first that each was told was the answer to its watch.
        return {"told": seen.told.value / fan.watchers - 1, "violations": float(seen.violations.value + wrong)}


def _wait_told(seen: Seen, online: int) -> int:
    """Waits until so many watchers believe that it is there; returns how many believe something else in the end."""
    deadline = time.monotonic() + _PATIENCE
    while seen.online.value != online and time.monotonic() < deadline:
        time.sleep(0.001)
    return abs(online - seen.online.value)


def _leave(sock: socket.socket) -> None:
    """Closes, and returns when the server has closed, too."""
    with sock:
        sock.sendall(_CLOSE)
        try:
            while True:
                read(sock)
        except ConnectionError:
            return


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0))


# Those who watch


class Seen:
    """What the watchers have seen in all, in shared memory."""

    def __init__(self) -> None:
        self.told = multiprocessing.RawValue(ctypes.c_uint64)
        self.violations = multiprocessing.RawValue(ctypes.c_uint64)
        self.online = multiprocessing.RawValue(ctypes.c_uint64)
        self.ready = multiprocessing.RawValue(ctypes.c_uint64)


@dataclass(slots=True)
class Tally:
    """The same while it is counted.

    Attributes:
        told: states that came, the answers to watches included.
        violations: frames that say what was said before, or something else.
        online: watchers whose last state is that.
    """

    told: int = 0
    violations: int = 0
    online: int = 0

    def publish(self, seen: Seen) -> None:
        """Lets the other process see it."""
        seen.told.value, seen.violations.value, seen.online.value = self.told, self.violations, self.online


class Watcher:
    """What one watcher was told: the answer to its watch is the first state."""

    __slots__ = ("_frames", "_tally", "online")

    def __init__(self, tally: Tally) -> None:
        self._frames: Final = Frames()
        self._tally: Final = tally
        self.online: bool | None = None

    def take(self, data: bytes) -> None:
        """Counts what came, and what is wrong with it."""
        for first, content in self._frames.take(data):
            online = _state(content) if first == TEXT else None
            if online is None or online is self.online:
                self._tally.violations += 1
            if online is not None:
                self._tally.told += 1
                self._tally.online += online - (self.online or False)
                self.online = online

    def lose(self) -> None:
        """The connection is gone: it will not hear of anything."""
        self._tally.violations += 1
        self._tally.online -= self.online or False
        self.online = None


def _encode_status(online: bool) -> bytes:
    value = {"type": "peer-status", "payload": {"address": address(_FLAPPER), "online": online}}
    return json.dumps(value, separators=(",", ":")).encode()


_STATES: Final = {_encode_status(online): online for online in (False, True)}


def _state(content: bytes) -> bool | None:
    """What a frame says of the peer; None if it says anything else."""
    return _STATES.get(content)


def _watch(url: str, watchers: int, seen: Seen) -> None:
    """Watches for ever."""
    os.nice(_NICE)
    raise_descriptor_limit()
    selector, tally, everybody = selectors.DefaultSelector(), Tally(), []
    ask = client_frame(TEXT, json.dumps({"type": "watch", "address": address(_FLAPPER)}).encode(), bytes(4))
    for number in range(watchers):
        sock, rest = open_client(url, f"watcher-{number:06}")
        watcher = Watcher(tally)
        watcher.take(rest)
        everybody.append(watcher)
        selector.register(sock, selectors.EVENT_READ, watcher)
        sock.sendall(ask)
        _hear(selector, tally, seen, 0)
    while _waiting(everybody):
        _hear(selector, tally, seen, 1)
    seen.ready.value = 1
    while True:
        _hear(selector, tally, seen, None)


def _waiting(watchers: Sequence[Watcher]) -> bool:
    return any(watcher.online is None for watcher in watchers)


def _hear(selector: selectors.BaseSelector, tally: Tally, seen: Seen, timeout: float | None) -> None:
    for key, _ in selector.select(timeout):
        watcher, sock = key.data, key.fileobj
        assert isinstance(sock, socket.socket)
        try:
            watcher.take(read(sock))
        except ConnectionError:
            watcher.lose()
            selector.unregister(sock)
    tally.publish(seen)
