"""A STUN and TURN server, coturn, on a host of a test's network."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .hosts import PATIENCE, Host, HostError, find_program

__all__ = ["PORT", "SECRET", "USER", "can_run_turn", "open_turn", "stun_url", "turn_url"]

PORT: Final = 3478
USER: Final = "somebody"
SECRET: Final = "a secret"
LOOK_AGAIN: Final = 0.005


def can_run_turn() -> bool:
    """Whether coturn is installed, and what translates addresses."""
    return find_program("turnserver") is not None and find_program("nft") is not None


def stun_url(address: str) -> str:
    """As the command line takes it."""
    return f"stun:{address}:{PORT}"


def turn_url(address: str) -> str:
    """As the command line takes it, with the credential."""
    return f"turn:{USER}:{SECRET.replace(' ', '%20')}@{address}:{PORT}"


@contextmanager
def open_turn(host: Host, *addresses: str) -> Iterator[None]:
    """Listens on these addresses of a host for the time of the block, and relays from the first of them."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            host.command(find_program("turnserver") or "turnserver", *_options(addresses)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while PORT not in host.ports():
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise HostError(f"no TURN server on {host.name}: {log.read()}")
                time.sleep(LOOK_AGAIN)  # it says nothing when it is ready
            yield
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _options(addresses: tuple[str, ...]) -> list[str]:
    return [
        "-n",  # no configuration file
        "--no-cli",
        "--no-tls",
        "--no-dtls",
        *(f"--listening-ip={address}" for address in addresses),
        f"--relay-ip={addresses[0]}",
        "--lt-cred-mech",
        "--realm=tests",
        f"--user={USER}:{SECRET}",
        "--userdb=/nonexistent",
        "--log-file=stdout",
        "--pidfile=",
    ]
