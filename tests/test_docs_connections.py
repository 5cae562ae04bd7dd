"""The specification of connections between PeerJS peers against the code: its vectors, and the bounds that it names."""

from __future__ import annotations

import ast
import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from trio_relay import WebRTCConfig
from trio_relay.peerjs import PeerLimits, SerializerLimits
from trio_relay.peerjs.fallback.frames import (
    MAX_FRAGMENT,
    Ack,
    Fragment,
    Hello,
    Reset,
    encode_frame,
    parse_frames_untrusted,
)
from trio_relay.peerjs.fallback.rounds import Timing
from trio_relay.peerjs.fallback.rules import SessionRules
from trio_relay.peerjs.fallback.sealing import RelayKey, RelaySecret, Role, SealedCarriage, agree
from trio_relay.peerjs.fallback.session import CARRIER_MESSAGE
from trio_relay.peerjs.messages import parse_offer_untrusted
from trio_relay.peerjs.serialization.binary import BinarySerializer
from trio_relay.peerjs.serialization.binarypack import pack, unpack_untrusted
from trio_relay.peerjs.serialization.chunks import SLICE
from trio_relay.peerjs.serialization.json import MAX_ENCODED
from trio_relay.peerjs.serialization.msgpack import PIECE
from trio_relay.wire.json import JSONValue

from .documents import DOCS, blocks

PAGE: Final = DOCS / "protocol" / "peerjs-connections.md"
FRAMES: Final = {"Hello": Hello, "Fragment": Fragment, "Ack": Ack, "Reset": Reset}


def vectors(name: str) -> list[str]:
    (block,) = (block for block in blocks(PAGE) if (block.mark, block.reason) == ("vectors", name))
    return block.code.splitlines()


def pairs(name: str) -> Iterator[tuple[str, str]]:
    for line in vectors(name):
        left, _, right = line.rpartition(" = ") if name != "binarypack, read" else line.partition(" = ")
        yield left, right


def octets(text: str) -> bytes:
    """Hexadecimal digits in groups; ``00*3`` are three zero bytes."""
    found = b""
    for group in text.split():
        digits, _, count = group.partition("*")
        found += bytes.fromhex(digits) * int(count or 1)
    return found


def test_values_are_packed_so() -> None:
    rows = list(pairs("binarypack"))
    assert len(rows) > 25
    for literal, packed in rows:
        value = ast.literal_eval(literal)
        assert b"".join(pack(value)).hex() == packed, literal
        assert unpack_untrusted(bytes.fromhex(packed)) == value, literal


def test_what_is_only_read_is_read_so() -> None:
    for packed, literal in pairs("binarypack, read"):
        assert unpack_untrusted(octets(packed)) == ast.literal_eval(literal), packed


def test_large_values_are_cut_so() -> None:
    shown = [octets(line) for line in vectors("chunks")]
    assert list(BinarySerializer(SerializerLimits()).encode(bytes(SLICE - 2))) == shown
    receiver = BinarySerializer(SerializerLimits())
    assert [receiver.decode(chunk) for chunk in reversed(shown)] == [[], [bytes(SLICE - 2)]]


def test_frames_are_written_so() -> None:
    for text, encoded in pairs("session frames"):
        frame = eval(text, dict(FRAMES))
        assert encode_frame(frame).hex() == encoded, text
        assert parse_frames_untrusted(bytes.fromhex(encoded)) == [frame], text


def secrets_of(originator: RelayKey, answerer: RelayKey) -> tuple[RelaySecret, RelaySecret]:
    def agreed(key: RelayKey, other: RelayKey, role: Role) -> RelaySecret:
        return agree(key, other.public, role, connection_id="dc_1", originator="alice", answerer="bob", round_=0)

    return agreed(originator, answerer, "originator"), agreed(answerer, originator, "answerer")


def test_records_are_sealed_so() -> None:
    shown = {name.strip(): digits for name, digits in (line.rsplit(" ", 1) for line in vectors("sealing"))}
    keys = {"originator": RelayKey(b"\x01" * 32), "answerer": RelayKey(b"\x02" * 32)}
    made: dict[str, bytes] = {f"{role} key": key.public for role, key in keys.items()}
    both = secrets_of(**keys)
    assert both[0].incoming_tag == both[1].outgoing_tag
    carriages = [
        SealedCarriage(secret, "broker", bytes([byte]) * 16, counts=Counter())
        for secret, byte in zip(both, (3, 4), strict=True)
    ]
    for carriage, other in (carriages, carriages[::-1]):
        carriage.open(other.greeting)
    for secret, carriage in zip(both, carriages, strict=True):
        made[f"{secret.role} tag"] = secret.outgoing_tag
        made[f"{secret.role} salt"] = carriage.greeting
        made[f"{secret.role} record"] = carriage.seal(b"hello")
    assert {name: data.hex() for name, data in made.items()} == shown


def test_the_terms_are_read() -> None:
    (block,) = (block for block in blocks(PAGE) if block.language == "json")
    terms = json.loads(block.code)
    sdp = {"type": "offer", "sdp": "v=0"}
    payload: dict[str, JSONValue] = {"sdp": {**sdp}, "type": "data", "connectionId": "dc_1", "relay": terms}
    offer = parse_offer_untrusted(payload)
    assert offer.relay is not None
    assert offer.relay.key == base64.b64decode(terms["key"]) == RelayKey(b"\x01" * 32).public
    assert (offer.relay.broker, offer.relay.round) == (terms["broker"], 1)


def test_bounds_that_the_page_names() -> None:
    text = re.sub(r"\s+", " ", PAGE.read_text(encoding="utf-8"))
    limits, timing, rules, values = PeerLimits(), Timing(), SessionRules(), SerializerLimits()
    for said in (
        f"at most {limits.connections} connections",
        f"{limits.early_messages} in all, for 30 s",
        f"more than {SLICE:,} bytes is cut",
        f"| {MAX_ENCODED:,} bytes |",
        f"| {PIECE:,} bytes in one message |",
        f"We wait above {WebRTCConfig().send_buffer >> 10} KiB",
        f"values of more than {values.max_value >> 20} MiB",
        f"deeper than {values.max_depth};",
        f"more than {values.max_unfinished} values are unfinished",
        f"({limits.close_timeout:g} s here)",
        f"within {timing.patience:g} s for the data channel, within {timing.relay_patience:g} s for the relay",
        f"something every {timing.keepalive:g} s",
        f"for {timing.silence:g} s is broken. Without a carrier for {timing.give_up:g} s",
        f"messages of {CARRIER_MESSAGE:,} bytes at least",
        f"at most {MAX_FRAGMENT:,}; that many bytes",
        f"at least {rules.min_fragment:,} bytes. It has {rules.max_message >> 20} MiB at most",
        f"a window ({rules.window / (1 << 20):g} MiB)",
    ):
        assert said in text, said
