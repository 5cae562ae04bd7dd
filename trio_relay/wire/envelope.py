"""What original peer-relay nodes (npm peer-relay 0.0.2) send each other: JSON text, no version, no proof.

The first message in each direction is the sender's id, every other one an envelope around a body. Rules here:

- An original relays what it does not check, so a bad *envelope* speaks about its origin and not about the
  neighbour that delivered it: drop and count it, and keep the link. A bad *id frame* is the neighbour's own.
- Nothing is written that throws inside an original, where an exception ends the process: a nonce that is no
  string, a path that is empty or holds anything but strings, and what `body_fields` names.
- Values of strangers may hold infinity (`1e400`); it is written as null, as the original does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeGuard

from ..exceptions import LocalProtocolError, RemoteProtocolError
from .body import Body, Unknown, body_fields, parse_body_fields_untrusted, parse_hex_untrusted
from .ids import ID_LENGTH, NodeId
from .json import (
    MAX_DEPTH,
    JSONValue,
    array_to_bytes,
    buffer_to_bytes,
    bytes_to_buffer,
    decode_untrusted,
    describe,
    encode,
)

__all__ = [
    "MAX_NONCE",
    "MAX_PATH",
    "MAX_TYPE",
    "Envelope",
    "build_envelope",
    "build_id_frame",
    "make_envelope",
    "parse_body_untrusted",
    "parse_envelope_untrusted",
    "parse_id_frame_untrusted",
]

MAX_PATH: Final = 20
"""The original's hop limit: it forwards nothing whose path is that long."""
MAX_NONCE: Final = 64
"""Characters; the original's nonces have up to 15. It bounds what a receiver has to remember."""
MAX_TYPE: Final = 64
"""Characters of a body's type; the longest known one has 16."""

_TEXT_DEPTH: Final = MAX_DEPTH + 2
"""The envelope and its body surround a value."""
_KEYS: Final = frozenset({"to", "from", "path", "nonce", "data"})
_BODY_KEYS: Final = frozenset({"type", "data"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One message between two ids, and its way so far."""

    to: NodeId
    source: NodeId
    """The key ``from``: the originator, unproven."""
    path: tuple[NodeId, ...]
    """Who forwarded it, in order: the originator first, the neighbour that sent it to us last."""
    nonce: str
    """1 to `MAX_NONCE` ASCII characters; the same message has the same nonce on every path."""
    body_type: str
    data: JSONValue = None
    has_data: bool = False
    """False when the body has no key ``data``; `data` is None then."""
    extra: Mapping[str, JSONValue] = field(default_factory=dict)
    """Keys of the envelope that the protocol does not know; originals pass them on."""
    body_extra: Mapping[str, JSONValue] = field(default_factory=dict)
    """The same beside the body's ``type`` and ``data``."""


def parse_id_frame_untrusted(text: str | bytes) -> NodeId:
    """Reads the first message of a link: a Buffer object, a hexadecimal string or an array of integers.

    Raises:
        RemoteProtocolError: anything else, or not 20 bytes.
    """
    value = decode_untrusted(text)
    octets = array_to_bytes(value)
    return _parse_id(value if octets is None else bytes_to_buffer(octets), "first message")


def build_id_frame(node_id: NodeId) -> bytes:
    """Our first message to an original node, in the original's own form."""
    return encode(bytes_to_buffer(node_id))


def parse_envelope_untrusted(text: str | bytes) -> Envelope:
    """Reads any message but the first. ``to`` and ``from`` may be strings, or Buffer objects (after a hop).

    A nonce that is no string is refused: it would have ended the process of the first original that met it.

    Raises:
        RemoteProtocolError: not an envelope, or a path of more than `MAX_PATH` entries.
    """
    value = decode_untrusted(text, max_depth=_TEXT_DEPTH)
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"expected an envelope object, not {describe(value)}")
    nonce = value.get("nonce")
    if not _is_nonce(nonce):
        raise RemoteProtocolError(f"expected a nonce of 1 to {MAX_NONCE} ascii characters, not {describe(nonce)}")
    body = value.get("data")
    if not isinstance(body, dict):
        raise RemoteProtocolError(f"expected a body object, not {describe(body)}")
    body_type = body.get("type")
    if not isinstance(body_type, str) or len(body_type) > MAX_TYPE:
        found = describe(body_type)
        raise RemoteProtocolError(f"expected a body type of at most {MAX_TYPE} characters, not {found}")
    return Envelope(
        to=_parse_id(value.get("to"), "to"),
        source=_parse_id(value.get("from"), "from"),
        path=_parse_path(value.get("path")),
        nonce=nonce,
        body_type=body_type,
        data=body.get("data"),
        has_data="data" in body,
        extra={key: item for key, item in value.items() if key not in _KEYS},
        body_extra={key: item for key, item in body.items() if key not in _BODY_KEYS},
    )


def parse_body_untrusted(envelope: Envelope) -> Body:
    """What the envelope's receiver is told or asked.

    Raises:
        RemoteProtocolError: the data do not fit the body's type.
    """
    return parse_body_fields_untrusted(envelope.body_type, envelope.data, envelope.has_data)


def build_envelope(envelope: Envelope) -> bytes:
    """Writes an envelope in the original's key order, ids always in hexadecimal.

    The caller bounds the size: numbers may take more room than in the text from which they were read.

    Raises:
        LocalProtocolError: an original node would throw on it, or it has no JSON form.
    """
    if not 0 < len(envelope.path) <= MAX_PATH:
        raise LocalProtocolError(f"expected a path of 1 to {MAX_PATH} ids, not {len(envelope.path)}")
    if not _is_nonce(envelope.nonce):
        found = describe(envelope.nonce)
        raise LocalProtocolError(f"expected a nonce of 1 to {MAX_NONCE} ascii characters, not {found}")
    body: dict[str, JSONValue] = {"type": envelope.body_type}
    data, has_data = _safe_data(envelope)
    if has_data:
        body["data"] = data
    value: dict[str, JSONValue] = {
        "to": envelope.to.hex(),
        "from": envelope.source.hex(),
        "path": [node_id.hex() for node_id in envelope.path],
        "nonce": envelope.nonce,
        "data": _with_extra(body, envelope.body_extra, _BODY_KEYS),
    }
    value = _with_extra(value, envelope.extra, _KEYS)
    return encode(value, max_depth=_TEXT_DEPTH, non_finite_as_null=True)


def make_envelope(
    body: Body, *, to: NodeId, source: NodeId, nonce: str, path: tuple[NodeId, ...] | None = None
) -> Envelope:
    """An envelope around `body`; unless given, `path` is `source` alone, as when its originator sends it.

    Raises:
        LocalProtocolError: an original node would throw on the body.
    """
    body_type, data, has_data = body_fields(body)
    return Envelope(
        to=to,
        source=source,
        path=(source,) if path is None else path,
        nonce=nonce,
        body_type=body_type,
        data=data,
        has_data=has_data,
    )


def _parse_id(value: JSONValue, what: str) -> NodeId:
    octets = buffer_to_bytes(value)
    if octets is None:
        return parse_hex_untrusted(value, what)
    if len(octets) != ID_LENGTH:
        raise RemoteProtocolError(f"expected {what} to be a node id of {ID_LENGTH} bytes, not {len(octets)}")
    return NodeId(octets)


def _parse_path(value: JSONValue) -> tuple[NodeId, ...]:
    if not isinstance(value, list):
        raise RemoteProtocolError(f"expected a path array, not {describe(value)}")
    if len(value) > MAX_PATH:
        raise RemoteProtocolError(f"expected a path of at most {MAX_PATH} ids, not {len(value)}")
    return tuple(parse_hex_untrusted(entry, "path entry") for entry in value)


def _safe_data(envelope: Envelope) -> tuple[JSONValue, bool]:
    """The data as `body_fields` writes them: what a stranger sent to a *node* never reaches an original as is."""
    if envelope.body_type == "user":
        return envelope.data, envelope.has_data
    try:
        body = parse_body_untrusted(envelope)
    except RemoteProtocolError as error:
        raise LocalProtocolError(str(error)) from error
    if isinstance(body, Unknown):
        return envelope.data, envelope.has_data
    _, data, has_data = body_fields(body)
    return data, has_data


def _with_extra(
    known: dict[str, JSONValue], extra: Mapping[str, JSONValue], reserved: frozenset[str]
) -> dict[str, JSONValue]:
    """`known` first and unharmed, then what else there was."""
    return known | {key: value for key, value in extra.items() if key not in reserved}


def _is_nonce(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_NONCE and value.isascii()
