"""What a process takes of the machine's memory (Linux)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

__all__ = ["KIB", "MIB", "peak", "resident"]

KIB: Final = 1024
MIB: Final = 1024 * KIB
_LINE: Final = re.compile(r"^Rss:\s+(\d+) kB$", re.MULTILINE)
_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def resident(pid: int) -> int:
    """Bytes of a process that are in memory now. What the kernel keeps for its sockets is not in it.

    The sum over its pages, which is exact; `VmRSS` is a count that may lag behind by some hundred KiB.
    """
    found = _LINE.search(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))
    if found is None:
        raise RuntimeError(f"no Rss in /proc/{pid}/smaps_rollup")
    return int(found[1]) * KIB


def peak(pid: int) -> int:
    """The most that `resident` has been, give or take some hundred KiB."""
    found = _PEAK.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    if found is None:
        raise RuntimeError(f"no VmHWM in /proc/{pid}/status")
    return int(found[1]) * KIB
