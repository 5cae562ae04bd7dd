"""The names of all counters that `Node.statistics` can show, read from the code."""

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
    """Literal keys of every mapping named ``counts``; a part that is computed is a reason's name, see `expand`."""
    found = {f"{TRANSPORT}{name}" for name in ("accepted", "upgraded", "requests", *(e.value for e in Ending))}
    for path in PACKAGE.rglob("*.py"):
        if "testing" not in path.parts and not path.name.startswith("memory"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("counts"):
                    found.update(_keys(node.slice))
    return frozenset(found)


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
