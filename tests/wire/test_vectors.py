"""The vectors that other implementations test against are what this one does, in both directions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from trio_relay.exceptions import HandshakeError, RemoteProtocolError
from trio_relay.identity import Identity, verify
from trio_relay.overlay.handshake import Acceptor, Dialler, Proven, Refused
from trio_relay.wire import hello
from trio_relay.wire.content import decode_content_untrusted, encode_content
from trio_relay.wire.frame import Frame, parse_frames_untrusted
from trio_relay.wire.hello import Reason
from trio_relay.wire.ids import NodeId, bucket_index, distance, parse_node_id
from trio_relay.wire.record import (
    RECORD_DOMAIN,
    PeerRecord,
    RecordKind,
    Role,
    build_record,
    join_records,
    parse_record_untrusted,
    split_records_untrusted,
)

TESTS: Final = Path(__file__).parent.parent
Vector = dict[str, Any]


def load(name: str) -> Vector:
    vectors: Vector = json.loads((TESTS / "vectors" / f"{name}.json").read_text("utf-8"))
    return vectors


IDS: Final = load("ids")
FRAMES: Final = load("frames")
RECORDS: Final = load("records")
HELLO: Final = load("hello")
HANDSHAKE: Final = load("handshake")
CONTENT: Final = load("content")


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


def identity(vector: Vector) -> Identity:
    return Identity.from_seed(unhex(vector["seed"]))


def each(*vectors: list[Vector]) -> pytest.MarkDecorator:
    """One test for each vector, named by its name."""
    every = [vector for some in vectors for vector in some]
    return pytest.mark.parametrize("vector", every, ids=[str(vector["name"]) for vector in every])


# Ids


@each(IDS["keys"])
def test_id_of_key(vector: Vector) -> None:
    assert identity(vector).public_key.hex() == vector["public_key"]
    assert identity(vector).id.hex() == vector["id"]


@pytest.mark.parametrize("vector", IDS["distances"])
def test_distance(vector: Vector) -> None:
    a, b = unhex(vector["a"]), unhex(vector["b"])
    assert f"{distance(a, b):x}" == vector["distance"]
    assert bucket_index(a, b) == bucket_index(b, a) == vector["range"]


@pytest.mark.parametrize("vector", IDS["texts"])
def test_text_of_id(vector: Vector) -> None:
    assert parse_node_id(vector["text"]).hex() == vector["id"]


@pytest.mark.parametrize("text", IDS["refused_texts"])
def test_refused_text_of_id(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a node id"):
        parse_node_id(text)


# Frames


def frame_of(vector: Vector) -> Frame:
    return Frame(
        kind=vector["kind"],
        flags=vector["flags"],
        hop_limit=vector["hop_limit"],
        attempt=vector["attempt"],
        detours=vector["detours"],
        to=NodeId(unhex(vector["to"])),
        source=NodeId(unhex(vector["from"])),
        message_id=unhex(vector["message_id"]),
        payload=unhex(vector["payload"]),
    )


@each(FRAMES["messages"])
def test_frames(vector: Vector) -> None:
    frames = [frame_of(frame) for frame in vector["frames"]]
    assert b"".join(frame.to_bytes() for frame in frames).hex() == vector["bytes"]
    assert parse_frames_untrusted(unhex(vector["bytes"])) == frames


@each(FRAMES["refused"])
def test_refused_frames(vector: Vector) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^expected "):
        parse_frames_untrusted(unhex(vector["bytes"]))


# Records


@each(RECORDS["records"])
def test_records(vector: Vector) -> None:
    signer = identity(vector)
    record = build_record(
        signer.public_key,
        signer.sign,
        sequence=int(vector["sequence"]),
        expiry=int(vector["expiry"]),
        urls=vector["urls"],
        roles=vector["roles"],
        legacy_id=NodeId(unhex(vector["id"])) if vector["kind"] == RecordKind.LEGACY else None,
    )
    assert record.raw.hex() == vector["bytes"]
    assert (record.kind, record.id.hex(), record.gateway.hex()) == (vector["kind"], vector["id"], vector["gateway"])
    assert parse_record_untrusted(unhex(vector["bytes"]), verify) == record


@each(RECORDS["records"])
def test_signatures_of_records(vector: Vector) -> None:
    raw = unhex(vector["bytes"])
    assert raw[-64:] == identity(vector).sign(RECORD_DOMAIN + raw[:-64])


@each(RECORDS["refused"])
def test_refused_records(vector: Vector) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_record_untrusted(unhex(vector["bytes"]), verify)


@each(RECORDS["lists"])
def test_lists_of_records(vector: Vector) -> None:
    raws = [unhex(raw) for raw in vector["records"]]
    assert split_records_untrusted(unhex(vector["bytes"])) == raws
    assert join_records([stub(raw) for raw in raws]).hex() == vector["bytes"]


def stub(raw: bytes) -> PeerRecord:
    """A record of which only the bytes matter."""
    anybody = NodeId(bytes(20))
    return PeerRecord(anybody, anybody, RecordKind.PEER, Role(0), (), 0, 0, b"", raw)


@each(RECORDS["refused_lists"])
def test_refused_lists_of_records(vector: Vector) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^expected "):
        split_records_untrusted(unhex(vector["bytes"]))


# Messages of the handshake


def fields_of(vector: Vector) -> dict[int, bytes]:
    return {int(tag): unhex(value) for tag, value in vector["fields"].items()}


@each(HELLO["hellos"])
def test_hellos(vector: Vector) -> None:
    message = hello.Hello(
        unhex(vector["nonce"]),
        unhex(vector["public_key"]),
        vector["first_version"],
        vector["last_version"],
        fields_of(vector),
    )
    assert message.to_bytes().hex() == vector["bytes"]
    assert hello.parse_hello_untrusted(unhex(vector["bytes"])) == message


@each(HELLO["replies"])
def test_replies(vector: Vector) -> None:
    message = hello.Reply(
        vector["version"],
        unhex(vector["nonce"]),
        unhex(vector["public_key"]),
        fields_of(vector),
        unhex(vector["signature"]),
    )
    assert message.to_bytes().hex() == vector["bytes"]
    assert hello.parse_reply_untrusted(unhex(vector["bytes"])) == message


@each(HELLO["proofs"])
def test_proofs(vector: Vector) -> None:
    message = hello.Proof(fields_of(vector), unhex(vector["signature"]))
    assert message.to_bytes().hex() == vector["bytes"]
    assert hello.parse_proof_untrusted(unhex(vector["bytes"])) == message


@each(HELLO["refusals"])
def test_refusals(vector: Vector) -> None:
    message = hello.Refusal(vector["reason"], fields_of(vector))
    assert message.to_bytes().hex() == vector["bytes"]
    assert hello.parse_refusal_untrusted(unhex(vector["bytes"])) == message


@each(HELLO["refused"])
def test_refused_messages(vector: Vector) -> None:
    parse = {
        "hello": hello.parse_hello_untrusted,
        "reply": hello.parse_reply_untrusted,
        "proof": hello.parse_proof_untrusted,
        "refusal": hello.parse_refusal_untrusted,
    }[vector["as"]]
    with pytest.raises(RemoteProtocolError):
        parse(unhex(vector["bytes"]))


# Handshakes


def acceptor_of(vector: Vector) -> Acceptor:
    owner = identity(vector)
    return Acceptor(
        owner.public_key,
        owner.sign,
        verify,
        unhex(vector["nonce"]),
        unhex(vector["record"]),
        vector["authorities"],
        lambda peer, probe, claims_relay: None,
    )


def dialler_of(vector: Vector) -> Dialler:
    owner = identity(vector)
    return Dialler(
        owner.public_key,
        owner.sign,
        verify,
        unhex(vector["nonce"]),
        unhex(vector["record"]),
        vector["authority"],
        NodeId(unhex(vector["expected"])) if vector["expected"] else None,
        vector["from_record"],
        vector["probe"],
    )


def proven(vector: Vector, *, authority: str, probe: bool) -> Proven:
    owner = identity(vector)
    record = parse_record_untrusted(unhex(vector["record"]), verify)
    return Proven(owner.id, owner.public_key, record, authority, probe)


@each(HANDSHAKE["sessions"])
def test_handshake(vector: Vector) -> None:
    acceptor, dialler = acceptor_of(vector["acceptor"]), dialler_of(vector["dialler"])
    authority, probe = vector["dialler"]["authority"], vector["dialler"]["probe"]
    assert acceptor.greet().hex() == vector["hello"]
    assert dialler.receive_hello(unhex(vector["hello"])).hex() == vector["reply"]
    proof, who_dialled = acceptor.receive(unhex(vector["reply"]))
    assert proof.hex() == vector["proof"]
    assert who_dialled == proven(vector["dialler"], authority=authority, probe=probe)
    who_accepted = dialler.receive_proof(unhex(vector["proof"]))
    assert who_accepted == proven(vector["acceptor"], authority=authority, probe=False)


@each(HANDSHAKE["sessions"])
def test_signatures_of_handshake(vector: Vector) -> None:
    for message, signed, role in (("reply", "reply_signed", "dialler"), ("proof", "proof_signed", "acceptor")):
        signature = unhex(vector[message])[-64:]
        assert signature == identity(vector[role]).sign(unhex(vector[signed]))


def reason_name(refused: Refused) -> str:
    assert refused.by_us
    message = hello.parse_refusal_untrusted(refused.message)
    assert message is not None
    assert message.reason == refused.reason
    return Reason(refused.reason).name


@each(HANDSHAKE["refused_by_acceptor"])
def test_refused_by_acceptor(vector: Vector) -> None:
    acceptor = acceptor_of(vector["acceptor"])
    acceptor.greet()
    with pytest.raises((RemoteProtocolError, HandshakeError)) as caught:
        acceptor.receive(unhex(vector["receives"]))
    reason = reason_name(caught.value) if isinstance(caught.value, Refused) else None
    assert reason == vector["reason"]


@each(HANDSHAKE["refused_by_dialler"])
def test_refused_by_dialler(vector: Vector) -> None:
    dialler = dialler_of(vector["dialler"])

    def dial() -> None:
        dialler.receive_hello(unhex(vector["hello"]))
        dialler.receive_proof(unhex(vector["proof"]))

    with pytest.raises((RemoteProtocolError, HandshakeError)) as caught:
        dial()
    reason = reason_name(caught.value) if isinstance(caught.value, Refused) else None
    assert reason == vector["reason"]


# Content


def data_of(vector: Vector) -> Any:
    return unhex(vector["octets"]) if "octets" in vector else vector["json"]


@each(CONTENT["contents"])
def test_written_content(vector: Vector) -> None:
    assert encode_content(data_of(vector)).hex() == vector["payload"]


@each(CONTENT["contents"], CONTENT["read"])
def test_read_content(vector: Vector) -> None:
    data = decode_content_untrusted(unhex(vector["payload"]))
    assert data == data_of(vector)
    assert type(data) is type(data_of(vector))


@each(CONTENT["refused"])
def test_refused_content(vector: Vector) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_content_untrusted(unhex(vector["payload"]))


# The worked example of the specification

SPECIFICATION: Final = TESTS.parent / "docs" / "protocol" / "overlay.md"


def example(name: str) -> str:
    """The hexadecimal digits of the block ``hex NAME``; what follows a semicolon is for people."""
    block = re.search(rf"^```hex {name}\n(.*?)^```$", SPECIFICATION.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    return "".join(re.sub(r";.*", "", line).replace(" ", "") for line in block[1].splitlines())


@pytest.mark.parametrize("message", ["hello", "reply", "reply_signed", "proof_signed", "proof"])
def test_example_of_handshake(message: str) -> None:
    assert example(message) == HANDSHAKE["sessions"][0][message]


@pytest.mark.parametrize("name", ["frame", "ack"])
def test_example_of_frame(name: str) -> None:
    titles = {"frame": "DATA, confirmed, after one relay", "ack": "ACK of it"}
    assert example(name) == next(v["bytes"] for v in FRAMES["messages"] if v["name"] == titles[name])


def test_example_of_record() -> None:
    assert example("record") == RECORDS["records"][1]["bytes"]
