"""A small HTTP server for the pages of tests: folders of this repository, in a thread."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["serve_folders"]


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, folders: Mapping[str, Path], *arguments: object) -> None:
        self._folders = folders
        super().__init__(*arguments)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        _, prefix, rest = urlsplit(path).path.split("/", 2)
        folder = self._folders.get(prefix, Path("/nowhere"))
        return str(folder / (rest or "index.html"))

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serve_folders(folders: Mapping[str, Path]) -> Iterator[str]:
    """Serves each folder below its name for the time of the block; gives the URL above them, without a slash."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, folders)) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.05))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
