"""``trio-relay serve``: a relay server, a PeerJS broker and a peer of the overlay on one port, in the foreground.

What it has to say, it logs; nothing is written to standard output.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from ..server import Server, ServerConfig, open_server
from ..wsrelay.stores.blobs import BlobStoreError
from .log import start_logging
from .options import UsageError
from .serve_options import Configuration, Settings, option_name

__all__ = ["run"]

_log: Final = logging.getLogger("trio_relay.serve")


class _Signals:
    """What the process was told to do.

    Attributes:
        ending: set by the first SIGTERM or Ctrl-C; the next one ends the process at once.
        interrupted: whether that was Ctrl-C.
    """

    def __init__(self) -> None:
        self.ending: Final = trio.Event()
        self.interrupted = False
        self._hang_up, self._hang_ups = trio.open_memory_channel[None](1)

    async def receive(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Heeds signals up to the one that ends the process."""
        # A shell without job control starts background jobs with SIGINT ignored: Ctrl-C is meant for others then.
        ends = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) is not signal.SIG_IGN]
        wanted = list(ends)
        if sys.platform != "win32":
            # One that comes too late must not end the process in the middle of an orderly end.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            wanted.append(signal.SIGHUP)
        with trio.open_signal_receiver(*wanted) as signals:
            task_status.started()
            async for number in signals:
                if number in ends:
                    self.interrupted = number == signal.SIGINT
                    break
                with contextlib.suppress(trio.WouldBlock):  # one that waits already is enough
                    self._hang_up.send_nowait(None)
        for end in ends:
            signal.signal(end, signal.SIG_DFL)
        self.ending.set()

    async def wait_hang_up(self) -> None:
        """Returns when there was a SIGHUP; those that came together are one."""
        await self._hang_ups.receive()


async def run(configuration: Configuration, settings: Settings) -> int:
    """Serves until terminated; raises KeyboardInterrupt after an orderly end by Ctrl-C."""
    start_logging(as_json=settings.log_json, level=settings.log_level)
    signals = _Signals()
    async with trio.open_nursery() as nursery:
        await nursery.start(signals.receive)
        async with _open(settings.config) as server, trio.open_nursery() as reloads:
            reloads.start_soon(_reload_for_ever, configuration, settings, server, signals)
            await signals.ending.wait()
            reloads.cancel_scope.cancel()
    if signals.interrupted:
        raise KeyboardInterrupt
    return 0


@asynccontextmanager
async def _open(config: ServerConfig) -> AsyncIterator[Server]:
    """Opens the server.

    Raises:
        UsageError: it can't listen where it should, a file can't be opened, or WebRTC is not installed.
    """
    opened = False
    try:
        async with open_server(config) as server:
            opened = True
            yield server
    except (OSError, ValueError, BlobStoreError, ImportError) as error:
        if opened:
            raise
        if not isinstance(error, OSError):
            raise UsageError(str(error)) from error
        what = f"open {error.filename}" if error.filename else f"listen on {' and '.join(config.listen_addresses)}"
        raise UsageError(f"can't {what}: {error.strerror or error}") from error


async def _reload_for_ever(configuration: Configuration, settings: Settings, server: Server, signals: _Signals) -> None:
    while True:
        await signals.wait_hang_up()
        await _reload(configuration, settings, server)


async def _reload(configuration: Configuration, settings: Settings, server: Server) -> None:
    """Reads the certificate, the configuration and the keys again; what is bad stays as it was, and the log says so."""
    if settings.certificate is not None:
        try:
            settings.certificate.reload()
        except UsageError as error:
            _log.error("certificate not reloaded: %s", error, extra={"event": "reload_failed"})
        else:
            _log.info("certificate reloaded", extra={"event": "certificate"})
    try:
        found = await trio.to_thread.run_sync(configuration.load)
        reloaded = await server.reload(found.config)
    except (UsageError, ValueError, ImportError) as error:
        _log.error("not reloaded, everything stays as it was: %s", error, extra={"event": "reload_failed"})
        return
    start_logging(as_json=found.log_json, level=found.log_level)
    changed, kept = ([option_name(name) for name in names] for names in (reloaded.changed, reloaded.kept))
    _log.info("reloaded; changed: %s", ", ".join(changed) or "nothing", extra={"event": "reload", "changed": changed})
    if kept:
        detail = {"event": "reload_kept", "kept": kept}
        _log.warning("stay as they were until a restart: %s", ", ".join(kept), extra=detail)
