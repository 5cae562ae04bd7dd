"""The specification of Peerix against the code: its vectors, and the bounds that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerix.packets import base62, candidates, control, protobuf, signalling, transfer
from trio_relay.peerix.packets.namespaces import namespace
from trio_relay.peerix.packets.sealing import Keys, PairKey, id_to_bytes_untrusted

from .documents import DOCS, blocks

PAGE: Final = DOCS / "protocol" / "peerix.md"
ALICE, BOB = Keys.from_secret(7), Keys.from_secret(255)
PAIR: Final = BOB.agree_untrusted(ALICE.public)
METADATA: Final[Any] = {"name": "Bob"}


def vectors(name: str) -> list[str]:
    (block,) = (block for block in blocks(PAGE) if (block.mark, block.reason) == ("vectors", name))
    return block.code.splitlines()


def pairs(name: str) -> Iterator[tuple[str, str]]:
    for line in vectors(name):
        left, _, right = line.rpartition(" = ")
        yield left, right


def octets(text: str) -> bytes:
    """Hexadecimal digits in groups; ``00*3`` are three zero bytes, ``ID`` is Alice's id."""
    found = b""
    for group in text.replace("ID", ALICE.public.hex()).split():
        digits, _, count = group.partition("*")
        found += bytes.fromhex(digits) * int(count or 1)
    return found


def with_json(text: str) -> bytes:
    """Octets, and what follows them as text."""
    head, _, payload = text.partition("|")
    return octets(head) + payload.strip().encode()


def test_base_62() -> None:
    for data, text in pairs("base62"):
        assert base62.encode(octets(data)) == text
        assert base62.decode_untrusted(text, len(octets(data))) == octets(data)


def test_namespaces() -> None:
    for name, shown in pairs("namespaces"):
        assert " ".join(namespace(name, hashing=hashing) for hashing in (True, False)) == shown


def test_keys() -> None:
    shown = {name: value.replace(" ", "") for name, value in pairs("keys")}
    data = signalling.seal_signal(
        signalling.Invoke(METADATA), ALICE.public, PAIR, nonce=bytes(range(12)), compress=True
    )
    packet = signalling.parse_packet_untrusted(data)
    made = {"key": shown["key"], "sealed": packet.payload.hex(), "packet": data.hex()}
    for name, keys in (("alice", ALICE), ("bob", BOB)):
        made |= {f"{name} id": keys.public.hex(), f"{name} text": keys.id}
        assert id_to_bytes_untrusted(keys.id) == keys.public
    assert made == shown
    for pair in (PAIR, ALICE.agree_untrusted(BOB.public), PairKey(bytes.fromhex(shown["key"]))):
        assert signalling.open_signal_untrusted(packet, pair) == signalling.Invoke(METADATA)


def test_packets() -> None:
    rows = list(pairs("packets"))
    assert len(rows) > 7
    for text, encoded in rows:
        signal = eval(text, dict(vars(signalling)))
        data = signalling.seal_signal(signal, ALICE.public, None, nonce=b"", compress=False)
        assert data == with_json(encoded), text
        assert signalling.open_signal_untrusted(signalling.parse_packet_untrusted(data), None) == signal, text


def receive(data: bytes, encryption: bool) -> signalling.Signal | None:
    """What Bob does with a packet; None if he refuses it."""
    try:
        packet = signalling.parse_packet_untrusted(data)
        pair = BOB.agree_untrusted(packet.sender) if encryption else None
        return signalling.open_signal_untrusted(packet, pair)
    except RemoteProtocolError:
        return None


def test_packets_that_are_refused() -> None:
    rows = [line.partition(" ")[::2] for line in vectors("packets, refused")]
    assert {by for by, _ in rows} == {"sealed", "open", "both"}
    for by, encoded in rows:
        assert (receive(octets(encoded), True) is None) == (by != "open"), encoded
        assert (receive(octets(encoded), False) is None) == (by != "sealed"), encoded


def test_control() -> None:
    for text, encoded in pairs("control"):
        message = eval(text, dict(vars(control)))
        assert control.parse_control_untrusted(with_json(encoded)) == message, text
        if message is not None:
            assert control.encode_control(message) == with_json(encoded), text


def encode(packet: Any) -> bytes:
    if isinstance(packet, transfer.Piece):
        options: Any = {"done": packet.done, "type": packet.type, "info": packet.info}
        return transfer.encode_piece(packet.id, packet.index, packet.chunk, **options)
    encoders = {
        transfer.Acknowledgement: transfer.encode_ack,
        transfer.ReceiverAbort: transfer.encode_receiver_abort,
        transfer.SenderAbort: transfer.encode_sender_abort,
    }
    return encoders[type(packet)](packet.id)


def test_transfers() -> None:
    rows = list(pairs("transfers"))
    assert len(rows) == 10
    for text, encoded in rows:
        packet = eval(text, dict(vars(transfer)))
        assert encode(packet) == octets(encoded), text
        assert transfer.parse_transfer_untrusted(octets(encoded)) == packet, text


def test_bounds_that_the_page_names() -> None:
    text = re.sub(r"\s+", " ", PAGE.read_text(encoding="utf-8"))
    limits = signalling.SIGNAL_LIMITS
    for said in (
        f"more than {protobuf.MAX_FIELDS} fields (**ours**)",
        f"| packet | {limits.packet >> 10} KiB |",
        f"| payload, inflated | {limits.payload >> 10} KiB |",
        f"| `sdp` | {candidates.MAX_DESCRIPTION:,} characters |",
        f"| candidates in a packet | {limits.candidates} |",
        f"a message has at most {control.MAX_CONTROL >> 10} KiB, and the labels of at most {control.MAX_LABELS} str",
        f"A chunk has {transfer.CHUNK:,} bytes",
        f"is from 1 to {transfer.MAX_TRANSFER_ID:,}",
        f"if it has more than {transfer.MAX_PACKET >> 10} KiB (**ours**)",
    ):
        assert said in text, said


@pytest.mark.parametrize(
    ("candidate", "good"),
    [
        ("candidate:1 1 udp 1 192.0.2.1 9 typ host" + " a b" * 117, True),
        ("candidate:1 1 udp 1 a 9 typ " + "x" * 490, False),
    ],
)
def test_bounds_of_a_candidate(candidate: str, good: bool) -> None:
    try:
        candidates.parse_candidate_untrusted({"candidate": candidate, "usernameFragment": "x" * 256})
    except RemoteProtocolError:
        assert not good
    else:
        assert good
    with pytest.raises(RemoteProtocolError):
        candidates.parse_candidate_untrusted({"candidate": "", "usernameFragment": "x" * 257})
