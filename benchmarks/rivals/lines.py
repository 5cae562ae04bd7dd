"""A Node.js program of this folder that is talked to in lines of JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from .packages import HERE

__all__ = ["Lines", "run_lines"]


class Lines:
    """Its input and output.

    Attributes:
        pid: of the process.
    """

    def __init__(self, name: str, stdin: IO[str], stdout: IO[str], pid: int) -> None:
        self.pid: Final = pid
        self._name: Final = name
        self._stdin: Final = stdin
        self._stdout: Final = stdout

    def read(self) -> dict[str, Any]:
        """The next line of its output.

        Raises:
            RuntimeError: there is none: it has ended.
        """
        line = self._stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended; its own output says why")
        value: dict[str, Any] = json.loads(line)
        return value

    def write(self, value: dict[str, Any]) -> None:
        """One line of input."""
        self._stdin.write(json.dumps(value) + "\n")
        self._stdin.flush()

    def end(self) -> None:
        """The end of its input."""
        self._stdin.close()


@contextmanager
def run_lines(program: str, *arguments: object) -> Iterator[Lines]:
    """Runs it; it is ended with the block."""
    command = ["node", "--no-deprecation", program, *map(str, arguments)]
    with subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Lines(program, process.stdin, process.stdout, process.pid)
        finally:
            process.kill()
