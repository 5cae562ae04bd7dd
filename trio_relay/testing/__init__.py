"""For tests of programs that embed a node: a network inside the process, with seeded faults; many nodes in one call; a
simulator of thousands; checks for whoever writes a transport, or a driver for rooms."""

from __future__ import annotations

from ..transports.memory import MemoryFaults, MemoryNetwork
from ..transports.memory_host import MemoryHost
from .conformance import (
    CONNECTION_CHECKS,
    TRANSPORT_CHECKS,
    ConnectionCheck,
    MakeConnections,
    MakeTransports,
    TransportCheck,
    check_connection,
    check_transport,
)
from .driver_checks import DRIVER_CHECKS, DriverCheck, MakeDrivers, check_driver
from .measurement import Measurement, Statistics, Traffic
from .simulated_peer import SimulatedPeer
from .simulator import Simulator
from .testnet import Testnet, open_testnet

__all__ = [
    "CONNECTION_CHECKS",
    "DRIVER_CHECKS",
    "TRANSPORT_CHECKS",
    "ConnectionCheck",
    "DriverCheck",
    "MakeConnections",
    "MakeDrivers",
    "MakeTransports",
    "Measurement",
    "MemoryFaults",
    "MemoryHost",
    "MemoryNetwork",
    "SimulatedPeer",
    "Simulator",
    "Statistics",
    "Testnet",
    "Traffic",
    "TransportCheck",
    "check_connection",
    "check_driver",
    "check_transport",
    "open_testnet",
]
