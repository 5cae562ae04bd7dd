"""For tests of programs that embed a node: a network inside the process, with seeded faults; many nodes in one call; a
simulator of thousands."""

from __future__ import annotations

from ..transports.memory import MemoryFaults, MemoryNetwork
from ..transports.memory_host import MemoryHost
from .simulator import Measurement, SimulatedPeer, Simulator, Statistics
from .testnet import Testnet, open_testnet

__all__ = [
    "Measurement",
    "MemoryFaults",
    "MemoryHost",
    "MemoryNetwork",
    "SimulatedPeer",
    "Simulator",
    "Statistics",
    "Testnet",
    "open_testnet",
]
