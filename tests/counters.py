"""The names of all counters that a node, and a relay server, can show, read from the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from trio_relay.transports.admission import Ending
from trio_relay.wire.hello import Reason

PACKAGE: Final = Path(__file__).parent.parent / "trio_relay"
TRANSPORT: Final = "transport_"


@cache
def counted() -> frozenset[str]:
    """Those of a node; a part that is computed is a reason's name, see `expand`."""
    found = {f"{TRANSPORT}{name}" for name in ("accepted", "upgraded", "requests", *(e.value for e in Ending))}
    for path in PACKAGE.rglob("*.py"):
        if not {"testing", "wsrelay"} & set(path.parts) and not path.name.startswith("memory"):
            found.update(_literal_keys(path))
    return frozenset(found)


@cache
def counted_by_relay() -> frozenset[str]:
    """Those of a relay server."""
    files = [path for path in PACKAGE.joinpath("wsrelay").glob("*.py")]
    names = {name for path in files for name in _literal_keys(path)}
    refusals = {name for path in files for name in _refusals(path)}
    return frozenset(names | refusals)


def _literal_keys(path: Path) -> Iterator[str]:
    """Literal keys of every mapping named ``counts``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("counts"):
            yield from _keys(node.slice)


def _refusals(path: Path) -> Iterator[str]:
    """The counters in ``_Refused(ending, counter)`` and ``_undelivered(sender, to, counter, reason)``."""
    places = {"_Refused": 1, "self._undelivered": 2}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and (place := places.get(ast.unparse(node.func))) is not None:
            yield from _keys(node.args[place])


def _keys(key: ast.expr) -> Iterator[str]:
    match key:
        case ast.Constant(value=str(name)):
            yield name
        case ast.IfExp(body=one, orelse=other):
            yield from _keys(one)
            yield from _keys(other)
        case ast.JoinedStr(values=[ast.Constant(value=str(start)), ast.FormattedValue()]):
            yield f"{start}REASON"


def expand(name: str) -> set[str]:
    """What a name with REASON in it stands for."""
    if "REASON" not in name:
        return {name}
    return {name.replace("REASON", reason.name.lower()) for reason in Reason}
