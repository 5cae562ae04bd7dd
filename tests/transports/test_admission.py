from __future__ import annotations

import trio

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.limits import Limits
from trio_relay.transports.admission import Admission, Ending, Ticket, TransportStatistics, ending_of
from trio_relay.transports.memory import MemoryNetwork


class Doors:
    """Which of the numbered sockets were closed."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.closed: list[int] = []

    def open(self, number: int) -> Ticket | None:
        return self.admission.admit(lambda: self.closed.append(number))


def make(**limits: int) -> Doors:
    return Doors(Admission(Limits(**limits), TransportStatistics()))


def test_the_newest_socket_finds_no_room() -> None:
    doors = make(connections=2)
    first, second = doors.open(1), doors.open(2)
    assert first is not None
    assert second is not None
    assert doors.open(3) is None
    assert doors.admission.statistics[Ending.CONNECTIONS_FULL] == 1
    doors.admission.release(first)
    assert doors.open(4) is not None
    assert doors.admission.admitted == 2
    assert doors.closed == []


def test_the_oldest_unproven_socket_makes_room() -> None:
    doors = make(unproven_connections=2)
    tickets = [doors.open(number) for number in range(5)]
    assert doors.closed == [0, 1, 2]
    assert [ticket is not None and ticket.evicted for ticket in tickets] == [True, True, True, False, False]
    assert doors.admission.statistics[Ending.UNPROVEN_EVICTED] == 3
    assert doors.admission.unproven == 2
    for ticket in tickets:
        assert ticket is not None
        doors.admission.release(ticket)
    assert doors.admission.admitted == doors.admission.unproven == 0


async def test_a_proven_connection_is_never_evicted_and_an_unproven_one_is_aborted() -> None:
    doors = make(unproven_connections=1)
    network = MemoryNetwork()
    honest, _ = network.connect("a", "b", subprotocol=True)
    silent, _ = network.connect("c", "b", subprotocol=True)
    for number, connection in enumerate((honest, silent)):
        ticket = doors.open(number)
        assert ticket is not None
        doors.admission.upgraded(ticket, connection)
        if connection is honest:
            doors.admission.proven(connection)
            doors.admission.proven(connection)
    doors.open(2)
    assert honest.is_open
    assert not silent.is_open
    assert doors.closed == []
    assert doors.admission.statistics.snapshot() == {
        "accepted": 3, "upgraded": 2, "requests": 0, "unproven_evicted": 1
    }  # fmt: skip


def test_proving_a_foreign_connection_does_nothing() -> None:
    doors = make()
    connection, _ = MemoryNetwork().connect("a", "b", subprotocol=True)
    doors.admission.proven(connection)
    assert doors.admission.unproven == 0


def test_endings_are_named_after_the_cause() -> None:
    def ending(*causes: Exception) -> Ending:
        return ending_of(ExceptionGroup("", [ExceptionGroup("", causes)]))

    assert ending(RemoteProtocolError("x")) is Ending.PROTOCOL_ERROR
    assert ending(trio.ClosedResourceError(), trio.BrokenResourceError()) is Ending.BROKEN
    assert ending(trio.TooSlowError()) is Ending.TIMEOUT
    assert ending(ConnectionResetError()) is Ending.BROKEN
