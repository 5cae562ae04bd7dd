"""What the WebSocket tests share: hand-made frames, wrong ones included, and the outcome of a stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st

from trio_relay.wire.masking import Buffer, xor_mask
from trio_relay.wire.websocket import Role, WebSocketCodec

MASK = b"\x12\x9a\x00\xff"

each_role = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80


def codec(role: Role, *, max_message: int = 1 << 20, max_fragments: int = 1 << 20) -> WebSocketCodec:
    return WebSocketCodec(role, max_message=max_message, max_fragments=max_fragments, new_mask=lambda: MASK)


def frame(first: int, payload: bytes = b"", *, masked: bool = True, width: int | None = None) -> bytes:
    """A frame with any first byte; `width` 0, 2 or 8 overrides the number of extended length bytes."""
    if width is None:
        width = 0 if len(payload) < 126 else 2 if len(payload) < 0x10000 else 8
    short = {0: len(payload), 2: 126, 8: 127}[width]
    head = bytes((first, (0x80 if masked else 0) | short)) + (len(payload).to_bytes(width, "big") if width else b"")
    return head + MASK + xor_mask(payload, MASK) if masked else head + payload


def to(role: Role, first: int, payload: bytes = b"", *, width: int | None = None) -> bytes:
    """A frame masked as a peer of this role must receive it."""
    return frame(first, payload, masked=role is Role.SERVER, width=width)


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a codec says about a stream."""

    messages: list[bytes | str]
    refused_with: int | None
    closed_with: int | None
    reason: str = ""
    output: bytes = b""
    violation: str = ""

    @property
    def verdict(self) -> tuple[list[bytes | str], int | None, int | None, str]:
        """What another implementation must agree with."""
        return self.messages, self.refused_with, self.closed_with, self.reason


def pieces_of(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`stream` cut at these offsets."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(stream)}), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def receive(subject: WebSocketCodec, pieces: Iterable[Buffer]) -> Outcome:
    messages: list[bytes | str] = []
    for piece in pieces:
        messages += [m if isinstance(m, str) else bytes(m) for m in subject.receive_data(piece)]
    return Outcome(
        messages,
        refused_with=None if subject.failure is None else subject.failure.close_code,
        closed_with=subject.close_code,
        reason=subject.close_reason,
        output=subject.data_to_send(),
        violation="" if subject.failure is None else str(subject.failure),
    )


def both_ways(role: Role, stream: bytes, **limits: int) -> Outcome:
    """What the stream comes to; the same whole and byte by byte, or the test fails."""
    whole = receive(codec(role, **limits), [stream])
    single = receive(codec(role, **limits), [stream[i : i + 1] for i in range(len(stream))])
    assert single == whole
    return whole


def refusal(subject: WebSocketCodec) -> int | None:
    return None if subject.failure is None else subject.failure.close_code


def other(role: Role) -> Role:
    return Role.CLIENT if role is Role.SERVER else Role.SERVER


def complete(stream: bytes, *, most: int = 70_000) -> bytes:
    """`stream` whose last frame, by its own length field, is filled up with zeros; dropped if that takes too many."""
    position = 0
    while position < len(stream):
        head = stream[position : position + 10].ljust(10, b"\0")
        width = {126: 2, 127: 8}.get(head[1] & 0x7F, 0)
        length = int.from_bytes(head[2 : 2 + width], "big") if width else head[1] & 0x7F
        after = position + 2 + width + (4 if head[1] & 0x80 else 0) + length
        if after > len(stream) + most:
            return stream[:position]
        stream = stream.ljust(after, b"\0")
        position = after
    return stream


texts = st.text(st.sampled_from("aé€😀\0"), max_size=40)
payloads = st.binary(max_size=20) | st.binary(min_size=120, max_size=130) | texts.map(str.encode)


@st.composite
def close_payloads(draw: st.DrawFn) -> bytes:
    code = draw(st.sampled_from([1000, 1001, 1003, 1007, 1011, 1013, 3000, 4999, 1004, 1005, 1006, 1015, 999, 5000]))
    return code.to_bytes(2, "big") + draw(texts.map(lambda text: text.encode()[:123]))


@st.composite
def streams(draw: st.DrawFn, *, masked: bool, oddities: bool = True) -> bytes:
    """A stream of complete frames, mostly in order; with `oddities` some of them break a rule."""
    parts: list[bytes] = []
    inside = False
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["data", "data", "data", "ping", "pong", "close", "odd"]))
        if kind == "data":
            final = draw(st.booleans())
            opcode = CONTINUATION if inside else draw(st.sampled_from([TEXT, BINARY]))
            inside = not final
            parts.append(frame(opcode | (FIN if final else 0), draw(payloads), masked=masked))
        elif kind == "close":
            if draw(st.integers(0, 3)) == 0:
                parts.append(frame(FIN | CLOSE, draw(close_payloads() | st.binary(max_size=3)), masked=masked))
        elif kind != "odd":
            parts.append(frame(FIN | (PING if kind == "ping" else PONG), draw(st.binary(max_size=9)), masked=masked))
        elif oddities:
            payload, odd_mask = draw(payloads), draw(st.integers(0, 4)) == 0
            width = draw(st.sampled_from([2, 8] if len(payload) > 125 else [0, 0, 2, 8]))
            parts.append(frame(draw(st.integers(0, 255)), payload, masked=masked != odd_mask, width=width))
    return b"".join(parts)
