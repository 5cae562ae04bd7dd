"""``python -m benchmarks.relay_server``: the relay server under test, with limits lifted, until the end of its input.

It prints ``{"urls": [...]}`` when it listens. What a server does for its clients is on: access keys that are checked
when a client comes and every second after, metering by key, the check of senders, counters.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import trio

from trio_relay.limits import Limits
from trio_relay.wsrelay import EnvKeyStore, RelayConfig, serve_relay

from .processes import Relay, certificate, run_program

__all__ = ["ACCESS_KEY", "CHANNEL", "LIFTED", "NO_PINGS", "changed", "lifted", "make_config", "run_relay_server"]

CHANNEL: Final = "bench"
ACCESS_KEY: Final = "benchmark-key"
"""Of all clients."""
NO_PINGS: Final = 3600.0
"""Seconds between pings where clients only count bytes and answer nothing."""
LIFTED: Final[Mapping[str, int]] = {
    "rate_limit_max_connections": 100_000,
    "rate_limit_max_messages": 10**12,
    "limits.connections": 100_000,
}
"""What keeps a server from strangers, and would keep us from measuring it: all clients have one address."""
_VARIABLE: Final = "TRIO_RELAY_BENCHMARK_KEYS"


def lifted() -> str:
    """The limits that are not the defaults, for the reader of a report."""
    return changed(RelayConfig(channels=[CHANNEL], key_store=False), LIFTED)


def changed(default: object, lifted: Mapping[str, int]) -> str:
    """Names of options (``limits.connections``: of an option) with their values, and what they are by default."""
    changes = []
    for name, value in lifted.items():
        owner, _, attribute = name.rpartition(".")
        before = getattr(getattr(default, owner) if owner else default, attribute)
        changes.append(f"{name} {value:,} (default {before:,})")
    return ", ".join(changes)


def make_config(tls: ssl.SSLContext | None, heartbeat: float) -> RelayConfig:
    """The defaults, but for what is named here and in `LIFTED`."""
    os.environ[_VARIABLE] = ACCESS_KEY
    return RelayConfig(
        channels=[CHANNEL],
        key_store=EnvKeyStore(_VARIABLE),
        listen="127.0.0.1:0",
        tls=tls,
        heartbeat_interval=heartbeat,
        rate_limit_max_connections=LIFTED["rate_limit_max_connections"],
        rate_limit_max_messages=LIFTED["rate_limit_max_messages"],
        limits=Limits(connections=LIFTED["limits.connections"]),
    )


@contextmanager
def run_relay_server(*, tls: bool = False, heartbeat: float = NO_PINGS) -> Iterator[Relay]:
    """This module as a process; with `tls`, the certificate of `processes.certificate`."""
    options = ["--tls-cert", certificate().chain, "--tls-key", certificate().key] if tls else []
    options += ["--heartbeat", str(heartbeat)]
    with run_program([sys.executable, "-m", __name__, *options]) as relay:
        yield relay


async def _serve(config: RelayConfig) -> None:
    async with trio.open_nursery() as nursery:
        relay = await nursery.start(serve_relay, config)
        print(json.dumps({"urls": relay.urls}), flush=True)
        await trio.lowlevel.wait_readable(sys.stdin)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Serves until the end of the input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relay_server", description=__doc__)
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument("--heartbeat", type=float, default=NO_PINGS, metavar="SECONDS")
    arguments = parser.parse_args()
    context: ssl.SSLContext | None = None
    if arguments.tls_cert is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(arguments.tls_cert, arguments.tls_key)
    trio.run(_serve, make_config(context, arguments.heartbeat))


if __name__ == "__main__":
    main()
