"""The messages of PeerJS' signalling: between a peer and its broker, and between two peers through it. Pure.

A frame is one JSON object ``{"type", "src", "dst", "payload"}`` as text. The broker sets ``src``; ``payload`` is for
the peers alone, but for ``HEARTBEAT``, ``OPEN``, ``ERROR``, ``ID-TAKEN``, ``INVALID-KEY``, ``LEAVE`` and ``EXPIRE``.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ..exceptions import RemoteProtocolError
from ..wire.description import Candidate, parse_candidate_untrusted
from ..wire.ids import NodeId, parse_node_id
from ..wire.json import JSONValue, decode_untrusted, describe, encode

__all__ = [
    "NO_METADATA",
    "Answer",
    "CandidateMessage",
    "ConnectionKind",
    "Offer",
    "RelayTerms",
    "ServerMessage",
    "encode_answer",
    "encode_candidate",
    "encode_offer",
    "parse_answer_untrusted",
    "parse_candidate_message_untrusted",
    "parse_offer_untrusted",
    "parse_server_message_untrusted",
]

ConnectionKind: TypeAlias = Literal["data", "media"]

_MAX_CONNECTION_ID: Final = 128
_MAX_LABEL: Final = 0xFFFF
"""Bytes: the message that opens a data channel has 16 bits for the length (RFC 8832 section 5.1)."""
_MAX_SERIALIZATION: Final = 64
_MAX_SDP: Final = 64 * 1024
_MAX_ROUND: Final = 0xFFFF
_KEY_LENGTH: Final = 32
_MEETING: Final = re.compile("[0-9a-f]{32}")


class _NoMetadata:
    """The type of `NO_METADATA`."""

    def __repr__(self) -> str:
        return "NO_METADATA"


NO_METADATA: Final = _NoMetadata()
"""An offer has no ``metadata``; null is a value like any other."""


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """One frame from the broker.

    Attributes:
        type: as it came, for example ``"OFFER"``.
        src: the peer that it is from, or about; ``""`` where there is none.
        payload: None also if there is none.
    """

    type: str
    src: str = ""
    payload: JSONValue = None


@dataclass(frozen=True, slots=True)
class RelayTerms:
    """Member ``relay`` of an offer or an answer: this side can go on without WebRTC, if the other side can, too.

    Attributes:
        key: X25519 public key of this side for this connection, 32 bytes.
        broker: in an offer, the name of a meeting at the broker, 32 hexadecimal digits; in an answer, the same again
            if the answerer's broker has meetings, too; None: it has none.
        node: this side's node in the overlay; None: it has none.
        round: in an offer, how often this connection was negotiated before; 0 for the first.
    """

    key: bytes
    broker: str | None = None
    node: NodeId | None = None
    round: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """Payload of ``OFFER``.

    Attributes:
        sdp: the session description.
        label: of a data connection; the connection's id where it has none.
        serialization: of a data connection, as it came; `reliable` likewise.
        legacy: it has a member ``browser``, as `peerjs` up to 1.4 sends: such a peer wants JSON as text.
    """

    kind: ConnectionKind
    connection_id: str
    sdp: str
    metadata: JSONValue | _NoMetadata = NO_METADATA
    label: str = ""
    serialization: str = "binary"
    reliable: bool = False
    legacy: bool = False
    relay: RelayTerms | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Payload of ``ANSWER``; `legacy` as in an offer."""

    kind: ConnectionKind
    connection_id: str
    sdp: str
    relay: RelayTerms | None = None
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class CandidateMessage:
    """Payload of ``CANDIDATE``; `candidate` None: there are no more."""

    kind: ConnectionKind
    connection_id: str
    candidate: Candidate | None


# What is read


def parse_server_message_untrusted(frame: bytes | str) -> ServerMessage:
    """Reads one frame from the broker; the caller bounds its size.

    Raises:
        RemoteProtocolError: it is not a JSON object with a text as ``type``, or ``src`` is there and is no text.
    """
    message = decode_untrusted(frame)
    if not isinstance(message, dict):
        raise RemoteProtocolError(f"expected a message as an object, got {describe(message)}")
    kind, src = message.get("type"), message.get("src")
    if not isinstance(kind, str):
        raise RemoteProtocolError(f"expected a text as type, got {describe(kind)}")
    if not isinstance(src, str | None):
        raise RemoteProtocolError(f"expected a text as src, got {describe(src)}")
    _utf8_size(src or "")
    return ServerMessage(kind, src or "", message.get("payload"))


def parse_offer_untrusted(payload: JSONValue) -> Offer:
    """Reads the payload of ``OFFER``; unknown members are ignored, ``relay`` of an unknown form, too.

    Raises:
        RemoteProtocolError: what was expected, and what came.
    """
    members = _require_object(payload)
    connection_id = _require_connection_id(members)
    return Offer(
        kind=_require_kind(members),
        connection_id=connection_id,
        sdp=_require_sdp(members, "offer"),
        metadata=members.get("metadata", NO_METADATA),
        label=_read_label(members) or connection_id,
        serialization=_read_serialization(members) or "binary",
        reliable=bool(members.get("reliable")),
        legacy="browser" in members,
        relay=_read_relay(members.get("relay")),
    )


def parse_answer_untrusted(payload: JSONValue) -> Answer:
    """Reads the payload of ``ANSWER``; what it has too much is ignored as in an offer.

    Raises:
        RemoteProtocolError: what was expected, and what came.
    """
    members = _require_object(payload)
    return Answer(
        kind=_require_kind(members),
        connection_id=_require_connection_id(members),
        sdp=_require_sdp(members, "answer"),
        relay=_read_relay(members.get("relay")),
        legacy="browser" in members,
    )


def parse_candidate_message_untrusted(payload: JSONValue) -> CandidateMessage:
    """Reads the payload of ``CANDIDATE``; null as its candidate ends them as an empty one does.

    Raises:
        RemoteProtocolError: what was expected, and what came.
    """
    members = _require_object(payload)
    candidate = members.get("candidate")
    return CandidateMessage(
        kind=_require_kind(members),
        connection_id=_require_connection_id(members),
        candidate=None if candidate is None else parse_candidate_untrusted(candidate),
    )


def _require_object(payload: JSONValue) -> dict[str, JSONValue]:
    if not isinstance(payload, dict):
        raise RemoteProtocolError(f"expected a payload as an object, got {describe(payload)}")
    return payload


def _require_kind(members: dict[str, JSONValue]) -> ConnectionKind:
    kind = members.get("type")
    if kind == "data":
        return "data"
    if kind == "media":
        return "media"
    raise RemoteProtocolError(f"expected a connection of type data or media, got {describe(kind)}")


def _require_connection_id(members: dict[str, JSONValue]) -> str:
    found = members.get("connectionId")
    if isinstance(found, str) and 0 < len(found) <= _MAX_CONNECTION_ID and found.isprintable():
        return found
    wanted = f"1 to {_MAX_CONNECTION_ID} printable characters"
    raise RemoteProtocolError(f"expected {wanted} as connectionId, got {describe(found)}")


def _require_sdp(members: dict[str, JSONValue], kind: Literal["offer", "answer"]) -> str:
    """The text of a session description; whoever uses it checks what it says."""
    description = members.get("sdp")
    if not isinstance(description, dict):
        raise RemoteProtocolError(f"expected sdp as an object, got {describe(description)}")
    if (found := description.get("type")) != kind:
        raise RemoteProtocolError(f"expected an sdp of type {kind}, got {describe(found)}")
    text = description.get("sdp")
    if not isinstance(text, str):
        raise RemoteProtocolError(f"expected a text as sdp, got {describe(text)}")
    if len(text) > _MAX_SDP:
        raise RemoteProtocolError(f"expected an sdp of at most {_MAX_SDP} characters, got {len(text)}")
    return text


def _read_label(members: dict[str, JSONValue]) -> str:
    label = members.get("label")
    if label is None:
        return ""
    if isinstance(label, int | float) and not isinstance(label, bool):
        # JavaScript applications pass numbers, too; a data channel makes texts of them.
        return str(label)
    if not isinstance(label, str):
        raise RemoteProtocolError(f"expected a text as label, got {describe(label)}")
    if (size := _utf8_size(label)) > _MAX_LABEL:
        raise RemoteProtocolError(f"expected a label of at most {_MAX_LABEL} bytes, got {size}")
    return label


def _utf8_size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise RemoteProtocolError("expected text with a form in UTF-8, got a lone surrogate") from None


def _read_serialization(members: dict[str, JSONValue]) -> str:
    name = members.get("serialization")
    if name is None:
        return ""
    if isinstance(name, str) and len(name) <= _MAX_SERIALIZATION:
        return name
    wanted = f"at most {_MAX_SERIALIZATION} characters"
    raise RemoteProtocolError(f"expected {wanted} as serialization, got {describe(name)}")


def _read_relay(value: JSONValue) -> RelayTerms | None:
    """The terms; None for those of a later version, too."""
    if not isinstance(value, dict):
        return None
    key, broker, node, number = (value.get(name) for name in ("key", "broker", "node", "round"))
    if not (isinstance(key, str) and isinstance(broker, str | None) and isinstance(node, str | None)):
        return None
    number = 0 if number is None else number
    if not (type(number) is int and 0 <= number <= _MAX_ROUND):
        return None
    if broker is not None and not _MEETING.fullmatch(broker):
        return None
    try:
        raw = base64.b64decode(key, validate=True)
        node_id = None if node is None else parse_node_id(node)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None
    return RelayTerms(raw, broker, node_id, number) if len(raw) == _KEY_LENGTH else None


# What is written


def encode_offer(dst: str, offer: Offer) -> bytes:
    """The frame ``{"type", "payload", "dst"}`` of an offer, members in the original's order.

    Raises:
        LocalProtocolError: the metadata have no JSON form.
    """
    payload: dict[str, JSONValue] = {
        "sdp": {"type": "offer", "sdp": offer.sdp},
        "type": offer.kind,
        "connectionId": offer.connection_id,
    }
    if not isinstance(offer.metadata, _NoMetadata):
        payload["metadata"] = offer.metadata
    if offer.kind == "data":
        payload |= {
            "label": offer.label or offer.connection_id,
            "reliable": offer.reliable,
            "serialization": offer.serialization,
        }
    return encode({"type": "OFFER", "payload": payload | _relay_member(offer.relay), "dst": dst})


def encode_answer(dst: str, answer: Answer) -> bytes:
    """The frame of an answer."""
    payload: dict[str, JSONValue] = {
        "sdp": {"type": "answer", "sdp": answer.sdp},
        "type": answer.kind,
        "connectionId": answer.connection_id,
    }
    return encode({"type": "ANSWER", "payload": payload | _relay_member(answer.relay), "dst": dst})


def encode_candidate(dst: str, message: CandidateMessage) -> bytes:
    """The frame of a candidate."""
    candidate = message.candidate or Candidate("", None, None)
    payload: dict[str, JSONValue] = {
        "candidate": {"candidate": candidate.candidate, "sdpMid": candidate.mid, "sdpMLineIndex": candidate.line},
        "type": message.kind,
        "connectionId": message.connection_id,
    }
    return encode({"type": "CANDIDATE", "payload": payload, "dst": dst})


def _relay_member(terms: RelayTerms | None) -> dict[str, JSONValue]:
    """Member ``relay`` alone, or nothing."""
    if terms is None:
        return {}
    relay: dict[str, JSONValue] = {"key": base64.b64encode(terms.key).decode()}
    if terms.broker is not None:
        relay["broker"] = terms.broker
    if terms.node is not None:
        relay["node"] = terms.node.hex()
    if terms.round:
        relay["round"] = terms.round
    return {"relay": relay}
