"""The layer map of the package: a file imports only from its own room and from rooms below; and the sizes.

A room is a folder of `trio_relay/`, or a file that lies in it directly.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

PACKAGE: Final = "trio_relay"
ROOT: Final = Path(__file__).parent.parent / PACKAGE
FILES: Final = sorted(PurePosixPath(path.relative_to(ROOT).as_posix()) for path in ROOT.rglob("*.py"))

GROUND: Final = frozenset({"exceptions", "limits", "_bounded"})
NODE: Final = GROUND | {"wire", "identity", "overlay", "transports", "node"}
SLICES: Final = frozenset({"wsrelay", "peerjs", "peerix"})

BELOW: Final[dict[str, frozenset[str]]] = {
    "exceptions": GROUND,
    "limits": GROUND,
    "_bounded": GROUND,
    "wire": GROUND,
    "identity": GROUND | {"wire"},
    "overlay": GROUND | {"wire", "identity"},
    "transports": GROUND | {"wire", "identity"},
    "node": NODE,
    "serving": GROUND | {"wire", "transports"},
    "wsrelay": NODE | {"serving"},
    "peerjs": NODE | {"serving"},
    "peerix": NODE | {"serving"},
    "testing": NODE | SLICES,
    "server": NODE | SLICES,
    "cli": NODE | SLICES | {"server"},
    "__main__": frozenset({"cli"}),
    "__init__": NODE | SLICES | {"server"},
}
"""Room -> the rooms that its files may import from, besides their own."""

PURE_ROOMS: Final = frozenset({"_bounded", "wire", "overlay"})
IMPURE_MODULES: Final = frozenset(
    {"trio", "asyncio", "threading", "subprocess", "socket", "ssl", "select", "selectors"}
    | {"time", "datetime", "random", "secrets", "os"}
)
"""Whatever waits, tells the time, makes random bytes or touches the machine."""
ASYNCIO_ROOM: Final = PurePosixPath("transports/aio")
ASYNCIO_MODULES: Final = frozenset({"asyncio", "trio_asyncio", "aiortc", "aioice"})

MAX_FILE_LINES: Final = 380
MAX_FUNCTION_LINES: Final = 50
"""Less the docstring, which should say all there is to say."""


def room_of(path: PurePosixPath) -> str:
    return path.parts[0].removesuffix(".py")


def origins(node: ast.Import | ast.ImportFrom, path: PurePosixPath) -> list[tuple[str, ...]]:
    """The absolute modules that one statement in the file `path` imports, or imports from, as tuples of their parts."""
    if isinstance(node, ast.Import):
        return [tuple(alias.name.split(".")) for alias in node.names]
    named = tuple(node.module.split(".")) if node.module else ()
    if node.level == 0:
        return [named]
    folder = (PACKAGE, *path.parent.parts)
    return [folder[: len(folder) - node.level + 1] + named]


def statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every statement of a body, and those inside them; not the expressions, which are far more."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from statements(getattr(node, part, ()))


def nodes_for_types_only(nodes: Iterable[ast.AST]) -> set[ast.AST]:
    """Every statement inside the body of an ``if TYPE_CHECKING:``."""
    blocks = [node for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {inner for block in blocks for inner in statements(block.body)}


def import_fault(origin: tuple[str, ...], path: PurePosixPath, *, for_types: bool) -> str | None:
    """What is wrong with a file that imports (from) `origin`; a type-only import is an arrow like any other."""
    room = room_of(path)
    if origin == (PACKAGE,):
        return "imports the package root"
    if origin[0] == PACKAGE:
        allowed = origin[1] == room or origin[1] in BELOW[room]
        return None if allowed else f"{room} must not import {origin[1]}"
    if origin[0] in ASYNCIO_MODULES and not path.is_relative_to(ASYNCIO_ROOM):
        return f"{origin[0]} belongs in {ASYNCIO_ROOM}"
    if room in PURE_ROOMS and origin[0] in IMPURE_MODULES and not (for_types and origin == ("random",)):
        return f"{room} is pure and must not import {origin[0]}"
    return None


def import_faults(nodes: Sequence[ast.AST], path: PurePosixPath) -> Iterator[str]:
    for_types = nodes_for_types_only(nodes)
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for origin in origins(node, path):
                if fault := import_fault(origin, path, for_types=node in for_types):
                    yield f"line {node.lineno}: {fault}"


def span(node: ast.stmt) -> int:
    """Lines from the first to the last."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def function_faults(nodes: Sequence[ast.AST], path: PurePosixPath) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.AsyncFunctionDef) and room_of(path) in PURE_ROOMS:
            yield f"line {node.lineno}: {room_of(path)} is pure and must not define `async def {node.name}`"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            said = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
            lines = span(node) - (span(said) if said is not None else 0)
            if lines > MAX_FUNCTION_LINES:
                yield f"line {node.lineno}: {node.name} has {lines} lines, more than {MAX_FUNCTION_LINES}"


def re_export_faults(tree: ast.Module) -> Iterator[str]:
    """`trio_relay/__init__.py` holds its docstring, imports and `__all__`, nothing else."""
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    for statement in body:
        is_all = isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
        if not (is_all or isinstance(statement, ast.ImportFrom)):
            yield f"line {statement.lineno}: the package root only re-exports"


def faults(path: PurePosixPath, source: str) -> list[str]:
    """Every way in which a file of the package breaks the map; `path` is relative to the package."""
    if room_of(path) not in BELOW:
        return [f"{room_of(path)} is not in the layer map"]
    tree = ast.parse(source)
    nodes = list(statements(tree.body))
    found = [*import_faults(nodes, path), *function_faults(nodes, path)]
    if path == PurePosixPath("__init__.py"):
        found += re_export_faults(tree)
    lines = len(source.splitlines())
    if lines > MAX_FILE_LINES:
        found.append(f"{lines} lines, more than {MAX_FILE_LINES}")
    return found


def test_the_package_is_where_this_test_looks() -> None:
    assert PurePosixPath("limits.py") in FILES


@pytest.mark.parametrize("path", FILES, ids=str)
def test_file_keeps_to_the_layer_map(path: PurePosixPath) -> None:
    assert faults(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("wire/frame.py", "import trio", "wire is pure and must not import trio"),
        ("wire/frame.py", "def f():\n    from time import monotonic", "wire is pure and must not import time"),
        ("wire/frame.py", "import os.path", "wire is pure and must not import os"),
        ("wire/frame.py", "import random", "wire is pure and must not import random"),
        ("overlay/router.py", "async def f(): ...", "overlay is pure and must not define `async def f`"),
        ("overlay/router.py", "import trio_relay.transports.memory", "overlay must not import transports"),
        ("overlay/router.py", "from ..node import link", "overlay must not import node"),
        (
            "transports/http.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from trio_relay.overlay.router import Router",
            "transports must not import overlay",
        ),
        ("transports/aio/loop.py", "from ...node.link import Link", "transports must not import node"),
        ("peerjs/peer.py", "from ..wsrelay import presence", "peerjs must not import wsrelay"),
        ("testing/simulator.py", "from ..server import serve", "testing must not import server"),
        ("node/node.py", "from .. import limits", "imports the package root"),
        ("node/node.py", "from trio_relay import Limits", "imports the package root"),
        ("node/node.py", "import trio_relay", "imports the package root"),
        ("node/node.py", "import asyncio", "asyncio belongs in transports/aio"),
        ("transports/websocket.py", "from aiortc import RTCPeerConnection", "aiortc belongs in transports/aio"),
        ("helpers.py", "", "helpers is not in the layer map"),
        ("__init__.py", "from .limits import Limits\nprint(Limits())", "the package root only re-exports"),
        ("node/node.py", "x = 1\n" * 381, "381 lines, more than 380"),
        ("node/node.py", "def f():\n" + "    x = 1\n" * 50, "f has 51 lines, more than 50"),
    ],
)
def test_a_violation_is_found(path: str, source: str, fault: str) -> None:
    found = faults(PurePosixPath(path), source)
    assert len(found) == 1
    assert found[0].endswith(fault)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("wire/frame.py", "from ..exceptions import RemoteProtocolError\nfrom . import ids\nfrom .ids import NodeId"),
        ("overlay/table.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import random"),
        ("overlay/table.py", "from trio_relay.wire import ids\nimport hashlib"),
        ("transports/aio/loop.py", "import asyncio\nfrom ..connection import Connection"),
        ("node/node.py", "import time\nimport trio\nfrom ..overlay.router import Router"),
        ("cli.py", "from .node.node import open_node\nfrom .server import serve"),
        ("__init__.py", '"""Docs."""\nfrom .limits import Limits\n__all__ = ["Limits"]'),
    ],
)
def test_what_the_map_allows_is_not_a_violation(path: str, source: str) -> None:
    assert faults(PurePosixPath(path), source) == []
