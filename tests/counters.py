"""The names of all counters, from the code: of node, relay server and client, PeerJS broker and peer, room and hub."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from trio_relay.transports.admission import Ending
from trio_relay.wire.hello import Reason
from trio_relay.wsrelay.client.core import Ignored

PACKAGE: Final = Path(__file__).parent.parent / "trio_relay"
TRANSPORT: Final = "transport_"
OTHERS: Final = frozenset({"testing", "serving", "wsrelay", "peerjs", "peerix"})
"""Rooms whose counters are not a node's."""


@cache
def counted() -> frozenset[str]:
    """Those of a node; a part that is computed is a reason's name, see `expand`."""
    found = {f"{TRANSPORT}{name}" for name in ("accepted", "upgraded", "requests", *(e.value for e in Ending))}
    for path in PACKAGE.rglob("*.py"):
        if not OTHERS & set(path.parts) and not path.name.startswith("memory"):
            found.update(_literal_keys(path))
    return frozenset(found)


@cache
def counted_by_relay() -> frozenset[str]:
    """Those of a relay server."""
    folder = PACKAGE / "wsrelay"
    parts = (PACKAGE / "serving", folder, folder / "pages", folder / "stores")
    return frozenset(name for part in parts for name in _literals_of(part))


@cache
def counted_by_client() -> frozenset[str]:
    """Those of a relay server's client."""
    return frozenset(_literals_of(PACKAGE / "wsrelay" / "client")) | {kind.value for kind in Ignored}


@cache
def counted_by_broker() -> frozenset[str]:
    """Those of a PeerJS broker."""
    return frozenset(_literals_of(PACKAGE / "peerjs" / "broker")) | frozenset(_literals_of(PACKAGE / "serving"))


@cache
def counted_by_peer() -> frozenset[str]:
    """Those of a PeerJS peer."""
    folder = PACKAGE / "peerjs"
    parts = [part for part in (folder, *folder.rglob("*")) if part.is_dir() and part.name != "broker"]
    return frozenset(name for part in parts for name in _literals_of(part))


@cache
def counted_by_hub() -> frozenset[str]:
    """Those of a signalling hub."""
    return frozenset(_literals_of(PACKAGE / "peerix" / "hub"))


@cache
def counted_by_room() -> frozenset[str]:
    """Those of a Peerix room and its driver."""
    folder = PACKAGE / "peerix"
    parts = [part for part in (folder, *folder.rglob("*")) if part.is_dir() and part.name != "hub"]
    return frozenset(name for part in parts for name in _literals_of(part))


@cache
def counted_by_webrtc() -> frozenset[str]:
    """Those of WebRTC, in a node or a peer."""
    found = {name for path in (PACKAGE / "transports" / "aio").glob("*.py") for name in _literal_keys(path)}
    return frozenset(name for name in found if name.startswith("webrtc_"))


def _literals_of(folder: Path) -> Iterator[str]:
    for path in folder.glob("*.py"):
        yield from _literal_keys(path)
        yield from _arguments(path)


@cache
def _nodes(path: Path) -> tuple[ast.Subscript | ast.Call, ...]:
    """What may count, in one file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Subscript | ast.Call))


def _name(node: ast.expr) -> str:
    """As it is written, like ``self.state.counts``; nothing instead of what is no name. Quicker than `ast.unparse`."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=owner, attr=name):
            return f"{_name(owner)}.{name}"
    return ""


def _literal_keys(path: Path) -> Iterator[str]:
    """Literal keys of every mapping named ``counts`` or ``counters``."""
    for node in _nodes(path):
        if isinstance(node, ast.Subscript) and _name(node.value).endswith(_MAPPINGS):
            yield from _keys(node.slice)


_MAPPINGS: Final = ("counts", "counters")

_NAMING: Final = {"_Refused": 1, "self._undelivered": 2, "_fail": 1, "self._drop": 0}
"""Functions of relay and broker that are given a counter's name -> which of their arguments that is."""
_NAMING_OF_BROKER: Final = {**_NAMING, "Refusal": 1}
_NAMING_OF_ROOM: Final = {"self._refuse": 1}


def _arguments(path: Path) -> Iterator[str]:
    """The counters that are given to a function as a literal."""
    naming = _NAMING_OF_BROKER if path.parent.name == "broker" else _NAMING
    naming = _NAMING_OF_ROOM if "peerix" in path.parts and path.parent.name != "hub" else naming
    for node in _nodes(path):
        if isinstance(node, ast.Call) and (place := naming.get(_name(node.func))) is not None:
            yield from (name for argument in node.args[place : place + 1] for name in _keys(argument))


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
