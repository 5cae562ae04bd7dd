"""What connected peers say to each other on their control channel. Pure.

The control channel is a data channel of each connection that both sides make before their first description: id 0,
negotiated by neither, ordered, with an empty label. Its messages are binary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeGuard

from ...exceptions import RemoteProtocolError
from ...wire.json import JSONValue, decode_untrusted, describe, encode
from .candidates import (
    IceCandidate,
    candidate_to_json,
    description_to_json,
    parse_candidate_untrusted,
    parse_description_untrusted,
)
from .protobuf import Field, Kind, Message

__all__ = [
    "MAX_CONTROL",
    "MAX_LABELS",
    "ChannelRequest",
    "Control",
    "ControlAnswer",
    "ControlCandidate",
    "ControlOffer",
    "IceCandidate",
    "encode_control",
    "parse_control_untrusted",
]

MAX_CONTROL: Final = 256 * 1024
"""Bytes in one message: what a packet through a broker may have."""
MAX_LABELS: Final = 256
"""Streams in one offer."""
_MOST: Final = 0xFFFF
"""Bytes of a label or a protocol, milliseconds, or retransmissions (RFC 8832 section 5.1)."""
_SIGNAL, _CHANNEL = 1, 2
_CONTROL: Final = Message(Field(1, "event", Kind.UINT32), Field(2, "payload", Kind.BYTES))


@dataclass(frozen=True, slots=True)
class ControlOffer:
    """A session description of all that there is to be, and the labels of all streams of the sender by their ids."""

    sdp: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ControlAnswer:
    """The session description that answers an offer."""

    sdp: str


@dataclass(frozen=True, slots=True)
class ControlCandidate:
    """One more address of the sender."""

    candidate: IceCandidate


@dataclass(frozen=True, slots=True)
class ChannelRequest:
    """The polite side wants a data channel; the other side makes it, unless it has one of that label.

    Attributes:
        protocol, ordered, max_packet_lifetime (seconds), max_retransmits: None where the request says nothing.
    """

    label: str
    protocol: str | None = None
    ordered: bool | None = None
    max_packet_lifetime: float | None = None
    max_retransmits: int | None = None


Control: TypeAlias = ControlOffer | ControlAnswer | ControlCandidate | ChannelRequest


def encode_control(control: Control) -> bytes:
    """Writes one message.

    Raises:
        LocalProtocolError: a label or the protocol is no text.
    """
    payload: JSONValue
    match control:
        case ControlOffer(sdp, labels):
            event, payload = _SIGNAL, [description_to_json("offer", sdp), dict(labels)]
        case ControlAnswer(sdp):
            event, payload = _SIGNAL, [description_to_json("answer", sdp)]
        case ControlCandidate(candidate):
            event, payload = _SIGNAL, [candidate_to_json(candidate)]
        case ChannelRequest():
            event, payload = _CHANNEL, _request_to_json(control)
    return _CONTROL.encode({"event": event, "payload": encode(payload)})


def parse_control_untrusted(data: bytes) -> Control | None:
    """Reads one message; None if it is of a kind that is not known, which is to be ignored.

    Raises:
        RemoteProtocolError: it is none.
    """
    if len(data) > MAX_CONTROL:
        raise RemoteProtocolError(f"expected a control message of at most {MAX_CONTROL} bytes, got {len(data)}")
    values = _CONTROL.decode_untrusted(data)
    event, payload = values.get("event"), values.get("payload")
    if event is None or payload is None:
        raise RemoteProtocolError("expected a control message with an event and a payload")
    if event == _SIGNAL:
        return _parse_signal(decode_untrusted(payload))
    if event == _CHANNEL:
        return _parse_request(decode_untrusted(payload))
    return None


def _parse_signal(items: JSONValue) -> Control:
    """A description is told from a candidate by its members, as there is no type."""
    if not isinstance(items, list) or not items or not isinstance(items[0], dict):
        raise RemoteProtocolError("expected a description or a candidate in an array")
    first = items[0]
    if "sdp" not in first:
        return ControlCandidate(parse_candidate_untrusted(first))
    if first.get("type") == "answer":
        return ControlAnswer(parse_description_untrusted(first, "answer"))
    return ControlOffer(parse_description_untrusted(first, "offer"), _parse_labels(items[1] if items[1:] else {}))


def _parse_labels(value: JSONValue) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_LABELS:
        raise RemoteProtocolError(f"expected the labels of at most {MAX_LABELS} streams, got {describe(value)}")
    labels = {}
    for stream, label in value.items():
        if not isinstance(label, str):
            raise RemoteProtocolError(f"expected the label of a stream as a text, got {describe(label)}")
        labels[stream] = label
    return labels


def _request_to_json(request: ChannelRequest) -> JSONValue:
    lifetime = request.max_packet_lifetime
    members: dict[str, JSONValue] = {
        "protocol": request.protocol,
        "ordered": request.ordered,
        "maxPacketLifeTime": None if lifetime is None else round(lifetime * 1000),
        "maxRetransmits": request.max_retransmits,
        "label": request.label,
    }
    return {name: value for name, value in members.items() if value is not None}


def _parse_request(value: JSONValue) -> ChannelRequest:
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"expected a request for a channel as an object, got {describe(value)}")
    label, protocol, ordered = value.get("label", "default"), value.get("protocol"), value.get("ordered")
    if not _is_text(label):
        raise RemoteProtocolError(f"expected the label of a channel as a text, got {describe(label)}")
    if protocol is not None and not _is_text(protocol):
        raise RemoteProtocolError(f"expected the protocol of a channel as a text, got {describe(protocol)}")
    if ordered is not None and not isinstance(ordered, bool):
        raise RemoteProtocolError(f"expected whether a channel is ordered, got {describe(ordered)}")
    lifetime, retransmits = (_parse_limit(value, name) for name in ("maxPacketLifeTime", "maxRetransmits"))
    if lifetime is not None and retransmits is not None:
        raise RemoteProtocolError("expected maxPacketLifeTime or maxRetransmits, got both")
    return ChannelRequest(label, protocol, ordered, None if lifetime is None else lifetime / 1000, retransmits)


def _is_text(value: JSONValue) -> TypeGuard[str]:
    """Whether it is a text that can be a label or a protocol of a data channel (RFC 8832 section 5.1)."""
    try:
        return isinstance(value, str) and len(value.encode()) <= _MOST
    except UnicodeEncodeError:
        return False


def _parse_limit(members: dict[str, JSONValue], name: str) -> int | None:
    value = members.get(name)
    if value is not None and not (type(value) is int and 0 <= value <= _MOST):
        raise RemoteProtocolError(f"expected {name} from 0 to {_MOST}, got {describe(value)}")
    return value
