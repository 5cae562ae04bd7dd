"""What every transport promises, as checks for whoever writes one.

A check that fails raises `AssertionError` and says what it expected and what came.

```python
@asynccontextmanager
async def make():
    yield MyTransport(...), MyTransport(...), "127.0.0.1:0"  # who dials, who listens, and where


@pytest.mark.parametrize("check", TRANSPORT_CHECKS)
async def test_my_transport(check):
    await check(make)
```

Whoever has connections and no transport (over an object that the program opened, say) uses `CONNECTION_CHECKS` with a
`make` that yields both ends of a new connection. Checks open several connections, and do their part from either end.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from .checking import ConnectionCheck, MakeConnections
from .closing_checks import CLOSING_CHECKS
from .message_checks import MESSAGE_CHECKS
from .transport_checks import SERVING_CHECKS, MakeTransports, TransportCheck, connections_of

__all__ = [
    "CONNECTION_CHECKS",
    "TRANSPORT_CHECKS",
    "ConnectionCheck",
    "MakeConnections",
    "MakeTransports",
    "TransportCheck",
    "check_connection",
    "check_transport",
    "named",
]

_Make = TypeVar("_Make")


def _first(error: Exception) -> Exception:
    """What a group of errors is about: the first failed check, else the first error."""
    if not isinstance(error, ExceptionGroup):
        return error
    leaves = [_first(inner) for inner in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, AssertionError)), leaves[0])


def named(check: Callable[[_Make], Awaitable[None]]) -> Callable[[_Make], Awaitable[None]]:
    """The check, with one plain AssertionError for whatever goes wrong in it."""

    @functools.wraps(check)
    async def run(make: _Make) -> None:
        try:
            await check(make)
        except Exception as error:
            first = _first(error)
            what = str(first) if isinstance(first, AssertionError) else f"expected no error, got {first!r}"
            raise AssertionError(f"{check.__name__}: {what}") from error

    return run


def _over_transports(check: ConnectionCheck) -> TransportCheck:
    @functools.wraps(check)
    async def run(make: MakeTransports) -> None:
        await check(connections_of(make))

    return run


_OF_CONNECTIONS: Final[tuple[ConnectionCheck, ...]] = (*MESSAGE_CHECKS, *CLOSING_CHECKS)
_OF_TRANSPORTS: Final[tuple[TransportCheck, ...]] = (*SERVING_CHECKS, *map(_over_transports, _OF_CONNECTIONS))

CONNECTION_CHECKS: Final[tuple[ConnectionCheck, ...]] = tuple(named(check) for check in _OF_CONNECTIONS)
"""What `Connection` promises; each takes a `MakeConnections`."""
TRANSPORT_CHECKS: Final[tuple[TransportCheck, ...]] = tuple(named(check) for check in _OF_TRANSPORTS)
"""What `Transport` promises, and its connections; each takes a `MakeTransports`."""


async def check_connection(make: MakeConnections) -> None:
    """Every one of `CONNECTION_CHECKS`, one after another."""
    for check in CONNECTION_CHECKS:
        await check(make)


async def check_transport(make: MakeTransports) -> None:
    """Every one of `TRANSPORT_CHECKS`, one after another."""
    for check in TRANSPORT_CHECKS:
        await check(make)
