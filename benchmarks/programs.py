"""What is measured as process R between raw generators: this package's relay, and its rivals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final

from trio_relay.wire.frame import Flag

from .ends import Bytes, Forwarder, Traffic
from .original import Original
from .ours import Ours
from .processes import WARM_UP, Relay, run_relay
from .report import Options, Report
from .rivals import (
    missing_rivals,
    run_node_forwarder,
    run_peer_relay,
    run_tcp_forwarder,
    run_trio_websocket_forwarder,
)

__all__ = [
    "FORWARDER",
    "ORIGINAL_WARM_UP",
    "OURS",
    "SEALED",
    "SECURE_FORWARDER",
    "SECURE_OURS",
    "Program",
    "choose_rivals",
]

ORIGINAL_WARM_UP: Final = 1.0
"""CPU seconds until the original is as fast as it gets: Node.js compiles its JavaScript step by step."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is measured.

    Attributes:
        name: as it is in tables.
        run: starts and ends it.
        traffic: what one size of payload is to it.
        warm_up: CPU seconds for which it works before it is measured.
    """

    name: str
    run: Callable[[], AbstractContextManager[Relay]]
    traffic: Callable[[int], Traffic]
    warm_up: float = WARM_UP


def _original(name: str, *, compression: bool) -> Program:
    run = partial(run_peer_relay, compression=compression)
    return Program(name, run, partial(Original, compression=compression), ORIGINAL_WARM_UP)


OURS: Final = Program("trio_relay", run_relay, Ours)
SEALED: Final = Program("trio_relay, sealed", run_relay, partial(Ours, flags=Flag.SEALED))
FORWARDER: Final = Program("ws forwarder", run_node_forwarder, Forwarder)
SECURE_OURS: Final = Program("trio_relay, TLS", partial(run_relay, tls=True), Ours)
SECURE_FORWARDER: Final = Program("ws forwarder, TLS", partial(run_node_forwarder, tls=True), Forwarder)
_NODE: Final = (
    _original("peer-relay", compression=True),
    _original("peer-relay, no compression", compression=False),
    FORWARDER,
)
_PYTHON: Final = (
    Program("trio-websocket forwarder", run_trio_websocket_forwarder, Forwarder),
    Program("TCP forwarder", run_tcp_forwarder, Bytes),
)


def choose_rivals(report: Report, options: Options) -> Sequence[Program]:
    """Those that can run here; what is missing for the others is noted in the report."""
    if not options.rivals:
        return ()
    missing = missing_rivals()
    if missing is None:
        return _NODE + _PYTHON
    report.note(f"{', '.join(rival.name for rival in _NODE)}: not measured: {missing}")
    return _PYTHON
