"""BinaryPack, the default serialization of PeerJS: ours beside npm ``peerjs-js-binarypack``, each on one core."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

from trio_relay.peerjs.serialization.binarypack import pack, unpack_untrusted

from .report import Case, Options, Report, Sample, measure
from .rivals import missing_rivals
from .rivals.lines import Lines, run_lines

__all__ = ["NPM", "SHAPES", "TITLE", "run", "time_ours"]

NPM: Final = "peerjs-js-binarypack"
TITLE: Final = "peerjs, BinaryPack"
_OURS: Final = "trio_relay"
_SHARE: Final = 0.1
"""Of the length of a run: there are many cases, and nothing in them but one loop."""
_BATCH: Final = 64
"""Calls between two looks at the clock."""
_CHUNK: Final = 16_300
"""Bytes of a slice of a longer message."""
SHAPES: Final[Mapping[str, Any]] = {
    "chat message": {"kind": "chat", "from": "alice", "text": "Good morning, everybody. Café at nine?", "id": 1234},
    "position": {"x": 12.75, "y": -3.5, "z": 0.1, "heading": 271.3, "frame": 86_400, "jumping": False},
    "1,000 integers": list(range(-500, 500)),
    "text of 4,096 characters": "The quick brown fox jumps over the lazy dog. " * 91 + "t",
    "100 records": [{"id": each, "name": f"item {each}", "tags": ["a", "b"], "price": 0.99} for each in range(100)],
    "one chunk": bytes(_CHUNK),
}
"""What programs send; bytes are zeros."""


def run(report: Report, options: Options) -> None:
    """How often a value is packed and unpacked in a second."""
    seconds, rivals = options.seconds * _SHARE, options.rivals and missing_rivals() is None
    with run_lines("binarypack.js") if rivals else nullcontext() as npm:
        cases = []
        for shape, value in SHAPES.items():
            cases.append(Case(f"{shape}, {_OURS}", partial(time_ours, value, seconds)))
            if npm is not None:
                cases.append(Case(f"{shape}, {NPM}", partial(_time_npm, npm, shape, seconds)))
        samples = measure(cases, options.repeat)
    report.table(TITLE, samples)
    pairs = [(f"{shape}, {_OURS}", f"{shape}, {NPM}") for shape in SHAPES] if rivals else []
    report.compare(TITLE, ("packs/s", "unpacks/s"), samples, pairs)


def _sample(packs: float, unpacks: float, size: int) -> Sample:
    return Sample({"packs/s": packs, "unpacks/s": unpacks, "bytes": size})


def time_ours(value: Any, seconds: float) -> Sample:
    """Packs it for so long, then unpacks it for so long."""
    packed = b"".join(pack(value))
    if unpack_untrusted(packed) != value:
        raise RuntimeError(f"{value!r:.100} did not come back")
    return _sample(_rate(partial(pack, value), seconds), _rate(partial(unpack_untrusted, packed), seconds), len(packed))


def _rate(call: Callable[[], object], seconds: float) -> float:
    calls, start, now = 0, time.perf_counter(), 0.0
    end = start + seconds
    while now < end:
        for _ in range(_BATCH):
            call()
        calls += _BATCH
        now = time.perf_counter()
    return calls / (now - start)


def _time_npm(lines: Lines, shape: str, seconds: float) -> Sample:
    value = SHAPES[shape]
    what = {"binary": len(value)} if isinstance(value, bytes) else {"value": value}
    lines.write({**what, "seconds": seconds})
    answer = lines.read()
    expected = len(b"".join(pack(value)))
    if answer["bytes"] != expected:
        raise RuntimeError(f"{shape}: {NPM} has made {answer['bytes']} bytes of it, and ours {expected}")
    return _sample(answer["packs"], answer["unpacks"], answer["bytes"])
