"""The commands that a program writes to ``trio-relay node --jsonl``, one JSON object a line. Pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from ..exceptions import RemoteProtocolError
from ..overlay.actions import Preference
from ..wire.content import Data
from ..wire.ids import NodeId, parse_node_id
from ..wire.json import JSONValue, decode_untrusted, describe
from .reports import LINE_DEPTH

__all__ = ["BadInput", "Command", "Verb", "parse_command"]

Verb: TypeAlias = Literal["send", "deliver", "connect", "disconnect", "statistics"]
_VERBS: Final[tuple[Verb, ...]] = get_args(Verb)


class BadInput(Exception):
    """A line of input is not a command.

    Attributes:
        ref: the line's, so far as it was understood.
    """

    def __init__(self, message: str, ref: JSONValue = None) -> None:
        super().__init__(message)
        self.ref: Final = ref


@dataclass(frozen=True, slots=True)
class Command:
    """One line of input.

    Attributes:
        to: the other peer; empty for ``statistics``.
        data: what to send.
        prefer: for ``connect``, as in `Node.connect`.
        ref: what the reply repeats.
    """

    verb: Verb
    to: NodeId
    data: Data
    ref: JSONValue
    prefer: Preference = "websocket"


def parse_command(line: bytes) -> Command:
    """Reads one line, for example ``{"send": {"to": HEX, "data": JSON}, "ref": ANY}``.

    Raises:
        BadInput: it is no command.
    """
    try:
        value = decode_untrusted(line, max_depth=LINE_DEPTH)
    except RemoteProtocolError as error:
        raise BadInput(str(error)) from error
    if not isinstance(value, dict):
        raise BadInput("expected a JSON object")
    ref = value.pop("ref", None)
    verb = next((verb for verb in _VERBS if verb in value), None)
    prefer = value.pop("prefer", "websocket") if verb == "connect" else "websocket"
    if verb is None or len(value) != 1:
        raise BadInput(f"expected one of {', '.join(_VERBS)}, and optionally ref", ref)
    try:
        to, data = _parse_argument(verb, value[verb])
    except ValueError as error:
        raise BadInput(str(error), ref) from error
    if prefer not in ("websocket", "webrtc"):
        raise BadInput(f"expected prefer to be websocket or webrtc, not {describe(prefer)}", ref)
    return Command(verb, to, data, ref, "webrtc" if prefer == "webrtc" else "websocket")


def _parse_argument(verb: Verb, value: JSONValue) -> tuple[NodeId, Data]:
    match verb:
        case "send" | "deliver":
            return _parse_target(value)
        case "connect" | "disconnect":
            return _parse_id(value), None
        case "statistics":
            if value is not True:
                raise ValueError('expected {"statistics": true}')
            return NodeId(b""), None


def _parse_target(value: JSONValue) -> tuple[NodeId, Data]:
    """``{"to": HEX, "data": JSON}`` or ``{"to": HEX, "bytes": BASE64}``."""
    if not isinstance(value, dict) or "to" not in value or ("data" in value) == ("bytes" in value):
        raise ValueError('expected {"to": ID, "data": JSON} or {"to": ID, "bytes": BASE64}')
    to = _parse_id(value["to"])
    if "data" in value:
        return to, value["data"]
    encoded = value["bytes"]
    try:
        return to, base64.b64decode(encoded if isinstance(encoded, str) else "?", validate=True)
    except ValueError as error:
        raise ValueError(f"expected base64 text in bytes, not {describe(encoded)}") from error


def _parse_id(value: JSONValue) -> NodeId:
    return parse_node_id(value if isinstance(value, str) else describe(value))
