"""``python -m benchmarks.peerjs_server``: our broker of PeerJS with limits lifted, until the end of its input.

It prints ``{"urls": [...]}`` when it listens; paths are those of the original with ``path: '/'``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import trio

from trio_relay.peerjs.broker.config import BrokerConfig
from trio_relay.peerjs.broker.serving import serve_broker

from .processes import Relay, run_program
from .relay_server import changed

__all__ = ["LIFTED", "lifted", "make_config", "run_broker"]

LIFTED: Final[Mapping[str, int]] = {
    "concurrent_limit": 100_000,
    "max_connections_per_ip": 100_000,
    "alive_timeout": 3600,
}
"""What keeps a broker from strangers and from the dead: all clients have one address, and few say that they live."""


def lifted() -> str:
    """The options that are not the defaults, for the reader of a report."""
    return changed(BrokerConfig(), LIFTED)


def make_config() -> BrokerConfig:
    """The defaults, but for `LIFTED`."""
    return BrokerConfig(
        listen="127.0.0.1:0",
        concurrent_limit=LIFTED["concurrent_limit"],
        max_connections_per_ip=LIFTED["max_connections_per_ip"],
        alive_timeout=LIFTED["alive_timeout"],
    )


@contextmanager
def run_broker() -> Iterator[Relay]:
    """This module as a process."""
    with run_program([sys.executable, "-m", __name__]) as relay:
        yield relay


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        broker = await nursery.start(serve_broker, make_config())
        urls = [f"ws://{urlsplit(url).netloc}" for url in broker.urls]
        print(json.dumps({"urls": urls}), flush=True)
        await trio.lowlevel.wait_readable(sys.stdin)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_serve)
