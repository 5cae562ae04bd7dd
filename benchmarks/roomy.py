"""``python -m benchmarks.roomy LINKS [CHAIN KEY]``: a relay of ours with room for so many leaves.

`trio-relay node --limit` gives as much room and writes a line about each link, which nobody reads here. Nothing but
two limits differs from the defaults; there is no limit on how often somebody connects.
"""

from __future__ import annotations

import json
import resource
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from trio_relay import Limits, open_node

from .processes import Relay, certificate, run_program

__all__ = ["SPARE", "main", "raise_descriptor_limit", "run_roomy_relay"]

SPARE: Final = 256
"""Descriptors and sockets for anything else."""


@contextmanager
def run_roomy_relay(links: int, *, tls: bool = False) -> Iterator[Relay]:
    """The relay as a process; with `tls`, the certificate of `processes.certificate`."""
    files = [certificate().chain, certificate().key] if tls else []
    with run_program([sys.executable, "-m", __name__, str(links), *files]) as relay:
        yield relay


def raise_descriptor_limit() -> int:
    """Raises the soft limit on descriptors of this process, and of those that it starts, to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


async def _serve(links: int, context: ssl.SSLContext | None) -> None:
    default = Limits()
    room = links + SPARE
    limits = Limits(leaves=max(room, default.leaves), connections=max(room, default.connections))
    async with open_node("127.0.0.1:0", tls=context, limits=limits) as node:
        print(json.dumps({"urls": node.urls}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


def main() -> None:
    """Runs until the end of input."""
    context = None
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(sys.argv[2], sys.argv[3])
    trio.run(_serve, int(sys.argv[1]), context)


if __name__ == "__main__":
    main()
