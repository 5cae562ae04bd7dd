"""PeerServer of npm `peer` as a process, and our broker under the same options."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from tests.peerjs.broker.support import Clients, brokering

FOLDER: Final = Path(__file__).parent.parent
PATIENCE: Final = 20.0
"""Seconds that anything may take on a machine that is busy with other things."""

_SECONDS: Final = {
    "expire_timeout": "expire_timeout",
    "alive_timeout": "alive_timeout",
    "cleanup_out_msgs": "cleanup_interval",
}
"""Options of the original in milliseconds, and their names here."""


class OriginalServer:
    """A process in which PeerServers run."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process: Final = process

    def _do(self, **command: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def listen(self, options: dict[str, Any]) -> int:
        """Starts a PeerServer with the original's options; returns its port."""
        return int(self._do(do="listen", options=options)["port"])

    def errors(self) -> int:
        """Events `error` since the last call."""
        return int(self._do(do="errors")["errors"])


@contextmanager
def original_server() -> Iterator[OriginalServer]:
    """One that must not crash."""
    command = ["node", "peerjs/server.mjs"]
    with subprocess.Popen(command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield OriginalServer(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@asynccontextmanager
async def clients_of(server: OriginalServer | None, options: dict[str, Any]) -> AsyncIterator[Clients]:
    """Clients of a PeerServer with these options: of ours if there is no other server."""
    path = options.get("path", "/").rstrip("/") + "/"
    if server is None:
        ours = {
            _SECONDS.get(name, name): value / 1000 if name in _SECONDS else value for name, value in options.items()
        }
        async with brokering(**ours) as running:
            yield running
        return
    port = server.listen(options)
    clients = Clients(partial(trio.open_tcp_stream, "127.0.0.1", port), path)
    try:
        yield clients
    finally:
        await clients.abort()
