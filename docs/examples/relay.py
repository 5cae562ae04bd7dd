"""A relay for invited peers: only ids of a list may link with it. It ends in order on SIGTERM and Ctrl-C."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import trio

import trio_relay


def invited(file: str) -> set[trio_relay.NodeId]:
    """Ids of 40 hexadecimal digits, one a line."""
    return {trio_relay.parse_node_id(line) for line in Path(file).read_text().split()}


async def main(key: str, guests: str, listen: str, advertise: list[str]) -> None:
    identity = trio_relay.Identity.load(key)
    admit = trio_relay.Admit(links=invited(guests), messages=())  # nobody writes to the relay itself
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio_relay.open_node(listen, identity=identity, advertise=advertise or None, admit=admit) as node:
            print("relay", node.id.hex(), *node.urls, flush=True)
            await anext(signals)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
