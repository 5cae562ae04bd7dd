"""For tests of programs that embed a node: a network inside the process, with seeded faults."""

from __future__ import annotations

from ..transports.memory import MemoryFaults, MemoryNetwork
from ..transports.memory_host import MemoryHost

__all__ = ["MemoryFaults", "MemoryHost", "MemoryNetwork"]
