"""Every parser of foreign bytes: whatever comes, it returns what can be written again, or raises the one error.

Each target is fed random bytes and mutated vectors. `nox -s fuzz` does that for long.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trio_relay.wire
from tests.wire.descriptions import CHROMIUM_ANSWER, CHROMIUM_OFFER
from tests.wire.media_descriptions import bundle_only_offer, media_offer
from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.wire import (
    body,
    bundle_description,
    chunks,
    content,
    datagram,
    description,
    envelope,
    frame,
    hello,
    record,
    rendezvous,
    session,
    signal,
    websocket_frames,
)
from trio_relay.wire import json as wire_json
from trio_relay.wire.record import RecordKind
from trio_relay.wire.websocket import Role, WebSocketCodec

VECTORS: Final = Path(__file__).parent.parent / "vectors"
MAX_MESSAGE: Final = 300
Target = Callable[[bytes], None]


# Targets, by the parser's name. Each may raise RemoteProtocolError and nothing else.


def parse_frames_untrusted(data: bytes) -> None:
    assert b"".join(each.to_bytes() for each in frame.parse_frames_untrusted(data)) == data


def parse_record_untrusted(data: bytes) -> None:
    """All signatures are right here, for what stands behind them to be met."""
    parsed = record.parse_record_untrusted(data, lambda key, signature, signed: True)
    written = record.build_record(
        parsed.public_key,
        lambda signed: data[-64:],
        sequence=parsed.sequence,
        expiry=parsed.expiry,
        urls=parsed.urls,
        roles=data[2],
        legacy_id=parsed.id if parsed.kind is RecordKind.LEGACY else None,
    )
    assert written == parsed
    assert written.raw == data


def split_records_untrusted(data: bytes) -> None:
    raws = record.split_records_untrusted(data)
    assert len(raws) <= record.MAX_RECORDS
    assert b"".join(len(raw).to_bytes(2, "big") + raw for raw in raws) == data


def parse_hello_untrusted(data: bytes) -> None:
    parsed = hello.parse_hello_untrusted(data)
    assert hello.parse_hello_untrusted(parsed.to_bytes()) == parsed


def parse_reply_untrusted(data: bytes) -> None:
    parsed = hello.parse_reply_untrusted(data)
    assert hello.parse_reply_untrusted(parsed.to_bytes()) == parsed


def parse_proof_untrusted(data: bytes) -> None:
    parsed = hello.parse_proof_untrusted(data)
    assert hello.parse_proof_untrusted(parsed.to_bytes()) == parsed


def parse_refusal_untrusted(data: bytes) -> None:
    parsed = hello.parse_refusal_untrusted(data)
    if parsed is not None:
        assert hello.parse_refusal_untrusted(parsed.to_bytes()) == parsed
        assert parsed.name


def parse_session_message_untrusted(data: bytes) -> None:
    parsed = session.parse_session_message_untrusted(data)
    match parsed:
        case session.Open():
            assert session.build_open(parsed) == data
        case session.Accept():
            assert session.build_accept(parsed) == data
        case session.Cookie():
            assert session.build_cookie(parsed) == data
        case session.Unknown():
            assert session.build_unknown(parsed) == data


def decode_content_untrusted(data: bytes) -> None:
    decoded = content.decode_content_untrusted(data)
    with contextlib.suppress(LocalProtocolError):  # 1e400 is read as infinity and has no JSON form
        assert content.decode_content_untrusted(content.encode_content(decoded)) == decoded


def decode_untrusted(data: bytes) -> None:
    decoded = wire_json.decode_untrusted(data)
    with contextlib.suppress(LocalProtocolError):
        assert wire_json.decode_untrusted(wire_json.encode(decoded)) == decoded


def parse_id_frame_untrusted(data: bytes) -> None:
    node_id = envelope.parse_id_frame_untrusted(data)
    assert envelope.parse_id_frame_untrusted(envelope.build_id_frame(node_id)) == node_id


def parse_envelope_untrusted(data: bytes) -> None:
    parsed = envelope.parse_envelope_untrusted(data)
    with contextlib.suppress(LocalProtocolError):
        again = envelope.parse_envelope_untrusted(envelope.build_envelope(parsed))
        assert (again.to, again.source, again.nonce, again.path) == (
            (parsed.to, parsed.source, parsed.nonce, parsed.path)
        )


def parse_body_untrusted(data: bytes) -> None:
    parsed = envelope.parse_body_untrusted(envelope.parse_envelope_untrusted(data))
    with contextlib.suppress(LocalProtocolError):
        assert body.parse_body_fields_untrusted(*body.body_fields(parsed)) == parsed


def parse_body_fields_untrusted(data: bytes) -> None:
    """One value as the data of every type of body."""
    value = wire_json.decode_untrusted(data)
    types = ("user", "findPeers", "foundPeers", "handshake-offer", "handshake-answer", "signal", "trio-relay", "x")
    for body_type in types:
        with contextlib.suppress(RemoteProtocolError, LocalProtocolError):
            parsed = body.parse_body_fields_untrusted(body_type, value, True)
            assert body.parse_body_fields_untrusted(*body.body_fields(parsed)) == parsed


def parse_hex_untrusted(data: bytes) -> None:
    value = wire_json.decode_untrusted(data)
    assert body.parse_hex_untrusted(value, "it").hex() == str(value).lower()


def parse_datagram_untrusted(data: bytes) -> None:
    parsed = datagram.parse_datagram_untrusted(wire_json.decode_untrusted(data))
    assert datagram.parse_datagram_untrusted(datagram.build_datagram(parsed)) == parsed


def check_head_untrusted(data: bytes) -> None:
    websocket_frames.check_head_untrusted(data[0] if data else 0, data[1] if len(data) > 1 else 0, len(data) % 2 == 0)


def parse_length_untrusted(data: bytes) -> None:
    padded = data + bytes(max(0, 2 - len(data)))
    found = websocket_frames.parse_length_untrusted(padded, 0)
    assert found is None or (found[0] >= 0 and 2 <= found[1] <= len(padded))


def parse_close_untrusted(data: bytes) -> None:
    code, reason = websocket_frames.parse_close_untrusted(data)
    if code != 1005:
        assert websocket_frames.parse_close_untrusted(websocket_frames.encode_close(code, reason))[0] == code


def parse_signal_untrusted(data: bytes) -> None:
    parsed = signal.parse_signal_untrusted(data)
    assert signal.parse_signal_untrusted(parsed.to_bytes()) == parsed


def parse_rendezvous_untrusted(data: bytes) -> None:
    """No signature is verified by the parser."""
    assert rendezvous.parse_rendezvous_untrusted(data).to_bytes() == data


def parse_candidate_untrusted(data: bytes) -> None:
    candidate = description.parse_candidate_untrusted(wire_json.decode_untrusted(data))
    assert candidate is None or candidate.candidate


def check_description_untrusted(data: bytes) -> None:
    text = data.decode("latin-1")
    description.check_description_untrusted(text)
    assert description.binding(text, text).startswith("webrtc:")


def check_media_description_untrusted(data: bytes) -> None:
    text = data.decode("latin-1")
    description.check_media_description_untrusted(text)
    assert description.find_tagged(text) < description.MAX_SECTIONS
    assert sum(description.count_places(text).values()) <= description.MAX_SECTIONS


def check_bundle_description_untrusted(data: bytes) -> None:
    outline = bundle_description.check_bundle_description_untrusted(data.decode("latin-1"))
    assert len(outline.kinds) == len(outline.mids) == len(outline.refused) <= bundle_description.MAX_BUNDLE_SECTIONS
    assert not outline.refused[outline.tagged]


def feed(data: bytes) -> None:
    """A data channel, a message of which has 61 bytes here."""
    incoming = chunks.Incoming(chunks.FIRST_CREDIT)
    for start in range(0, len(data), 61):
        incoming.feed(data[start : start + 61])
    assert sum(map(len, incoming.take())) <= len(data)


def receive_data(data: bytes) -> None:
    """The WebSocket stream; its codec raises nothing and keeps little, however the stream is cut."""
    for role in Role:
        whole, bytewise = codec(role), codec(role)
        messages = whole.receive_data(data)
        assert [each for octet in data for each in bytewise.receive_data(bytes([octet]))] == messages
        assert str(whole.failure) == str(bytewise.failure)
        assert whole.held <= MAX_MESSAGE + 140
        assert all(len(message) <= MAX_MESSAGE for message in messages)


def codec(role: Role) -> WebSocketCodec:
    return WebSocketCodec(role, max_message=MAX_MESSAGE, max_fragments=4, new_mask=lambda: b"\x01\x02\x03\x04")


TARGETS: Final[dict[str, Target]] = {
    target.__name__: target
    for target in (
        *(parse_frames_untrusted, parse_record_untrusted, split_records_untrusted),
        *(parse_hello_untrusted, parse_reply_untrusted, parse_proof_untrusted, parse_refusal_untrusted),
        *(parse_session_message_untrusted, decode_content_untrusted, decode_untrusted),
        *(parse_id_frame_untrusted, parse_envelope_untrusted, parse_body_untrusted, parse_body_fields_untrusted),
        *(parse_hex_untrusted, parse_datagram_untrusted),
        *(
            parse_signal_untrusted,
            parse_rendezvous_untrusted,
            parse_candidate_untrusted,
            check_description_untrusted,
            feed,
        ),
        *(check_media_description_untrusted, check_bundle_description_untrusted),
        *(check_head_untrusted, parse_length_untrusted, parse_close_untrusted, receive_data),
    )
}


# What they are fed


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def strings(value: Any) -> Iterator[str]:
    """Every string inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def binary_seeds() -> list[bytes]:
    """Everything that is hexadecimal in the vectors of the binary protocol."""
    seeds = set()
    for name in ("frames", "records", "hello", "handshake", "session", "content", "signals", "rendezvous"):
        for text in strings(vectors(name)):
            with contextlib.suppress(ValueError):
                seeds.add(bytes.fromhex(text))
    return sorted(seeds)


def text_seeds() -> list[bytes]:
    """Everything that looks like JSON in the vectors of the original's protocol, and some more."""
    texts = {text for text in strings(vectors("envelope")) if text[:1] in ("{", "[", '"')}
    buffer = '{"type":"Buffer","data":[104,105]}'
    texts.add('{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":"0","sdpMLineIndex":0}')
    texts |= {f'{{"buffer":{buffer},"address":"{"0a" * 20}","port":9}}', '"%s"' % ("0a" * 20), buffer}
    return sorted(text.encode("utf-8", "surrogatepass") for text in texts)


def stream_seeds() -> list[bytes]:
    seeds = []
    for role in Role:
        sender = codec(role)
        for pieces in ([b"hi"], [bytes(200)], [b""]):
            seeds.append(b"".join(bytes(piece) for piece in sender.send_binary(pieces)))
        seeds.append(bytes(sender.send_close(1000, "bye")))
    return [*seeds, b"\x81\x02hi\x89\x01x\x01\x01a\x80\x01b", b"\x03\xe8bye", bytes.fromhex("82fe007d")]


BINARY: Final = binary_seeds()
TEXT: Final = text_seeds()
STREAM: Final = stream_seeds()
TEXT_TARGETS: Final = ("json", "envelope", "body", "datagram", "description")


@st.composite
def mutations(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed, parts of which were cut out or replaced, by anything or by parts of another seed."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        removed = draw(st.sampled_from([0, 1, 1, 2, 4, 64, 10_000]))
        data[start : start + removed] = draw(st.binary(max_size=4) | st.sampled_from(seeds))
    return bytes(data[:4096])


def seeds_of(name: str) -> list[bytes]:
    if name in ("check_head_untrusted", "parse_length_untrusted", "parse_close_untrusted", "receive_data"):
        return STREAM
    if name == "check_description_untrusted":
        return [CHROMIUM_OFFER.encode(), CHROMIUM_ANSWER.encode()]
    if name in ("check_media_description_untrusted", "check_bundle_description_untrusted"):
        return [media_offer().encode(), bundle_only_offer().encode()]
    return TEXT if "_".join(home_of(name)) in TEXT_TARGETS else BINARY


def home_of(name: str) -> list[str]:
    """The modules of `trio_relay.wire` that define a parser of that name."""
    return [module for module, parser in parsers() if parser == name]


def parsers() -> list[tuple[str, str]]:
    """(module, name) of every public parser of foreign bytes."""
    found = []
    for module in pkgutil.iter_modules(trio_relay.wire.__path__):
        members = inspect.getmembers(importlib.import_module(f"trio_relay.wire.{module.name}"), inspect.isfunction)
        for name, function in members:
            if name.endswith("_untrusted") and name[0] != "_" and function.__module__.endswith(f".{module.name}"):
                found.append((module.name, name))
    return found


def test_every_parser_is_a_target() -> None:
    assert {name for _, name in parsers()} == TARGETS.keys() - {"receive_data", "feed"}


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes(name: str) -> None:
    target = TARGETS[name]

    @given(st.binary(max_size=300) | mutations(seeds_of(name)))
    def feed(data: bytes) -> None:
        with contextlib.suppress(RemoteProtocolError):
            target(data)

    feed()


@pytest.mark.parametrize("name", TARGETS)
def test_some_seed_of_each_target_is_accepted(name: str) -> None:
    accepted = 0
    for seed in seeds_of(name):
        with contextlib.suppress(RemoteProtocolError):
            TARGETS[name](seed)
            accepted += 1
    assert accepted
