"""Other programs that forward messages, each as a process that is started and ended here.

The forwarders know nothing but pairs: what comes from ``/N/a`` (any N) goes to ``/N/b``, and back. They do not say who
sent it, do not check anything and have no header of their own, which is all in their favour.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..processes import Relay, certificate, run_program
from .packages import HERE, missing_rivals

__all__ = [
    "HERE",
    "missing_rivals",
    "run_node_forwarder",
    "run_npm_peer",
    "run_peer_relay",
    "run_tcp_forwarder",
    "run_trio_websocket_forwarder",
]


@contextmanager
def run_node_forwarder(*, tls: bool = False) -> Iterator[Relay]:
    """Node.js with `ws` 8, without compression; with `tls`, the certificate of `processes.certificate`."""
    files = [certificate().chain, certificate().key] if tls else []
    with run_program(["node", "forwarder.js", *files], cwd=HERE) as relay:
        yield relay


@contextmanager
def run_peer_relay(*, compression: bool) -> Iterator[Relay]:
    """The original, npm `peer-relay` 0.0.2, with its default compression or with a server that declines it."""
    command = ["node", "--no-deprecation", "relay.js", "default" if compression else "off"]
    with run_program(command, cwd=HERE) as relay:
        yield relay


@contextmanager
def run_npm_peer() -> Iterator[Relay]:
    """The original broker of PeerJS, npm `peer` 1.0.2, with room for many clients."""
    with run_program(["node", "peer.js"], cwd=HERE) as relay:
        yield relay


@contextmanager
def run_trio_websocket_forwarder() -> Iterator[Relay]:
    """The `trio-websocket` package."""
    with run_program([sys.executable, "-m", f"{__name__}.trio_websocket_forwarder"]) as relay:
        yield relay


@contextmanager
def run_tcp_forwarder() -> Iterator[Relay]:
    """Bytes between Trio sockets: no messages at all. Its URL has the scheme ``tcp``."""
    with run_program([sys.executable, "-m", f"{__name__}.tcp_forwarder"]) as relay:
        yield relay
