from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.identity import Identity, verify
from trio_relay.limits import Limits
from trio_relay.wire.frame import HEADER_LENGTH, MAX_PAYLOAD, Flag, build_frame
from trio_relay.wire.ids import NodeId
from trio_relay.wire.rendezvous import (
    MAX_DATA,
    Event,
    Gone,
    Publication,
    Publish,
    RendezvousMessage,
    Subscribe,
    Unsubscribe,
    Untimely,
    build_publication,
    parse_rendezvous_untrusted,
    topic_key,
)
from trio_relay.wire.session import MAX_SEALING

VECTORS: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "rendezvous.json").read_text(encoding="utf-8")
)
SPECIFICATION: Final = Path(__file__).parents[2] / "docs" / "protocol" / "overlay.md"
OF_A_KEY: Final[dict[str, type[Subscribe] | type[Unsubscribe] | type[Gone]]] = {
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "gone": Gone,
}


def publication_of(vector: dict[str, Any]) -> Publication:
    publisher = Identity.from_seed(bytes.fromhex(vector["seed"]))
    return build_publication(
        publisher.public_key,
        publisher.sign,
        key=topic_key(vector["topic"]),
        number=vector["number"],
        data=bytes.fromhex(vector["data"]),
    )


def message_of(vector: dict[str, Any]) -> RendezvousMessage:
    if vector["type"] in OF_A_KEY:
        return OF_A_KEY[vector["type"]](topic_key(vector["topic"]))
    if vector["type"] == "untimely":
        return Untimely(topic_key(vector["topic"]), vector["number"], vector["clock"])
    publication = publication_of(vector)
    return Publish(publication) if vector["type"] == "publish" else Event(publication)


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["name"])
def test_vectors_are_what_is_sent_and_read(vector: dict[str, Any]) -> None:
    message, payload = message_of(vector), bytes.fromhex(vector["payload"])
    assert message.to_bytes() == payload
    assert parse_rendezvous_untrusted(payload) == message
    if isinstance(message, Publish | Event):
        assert message.publication.is_signed(verify)
        assert message.publication.publisher.hex() == vector["publisher"]


def test_the_example_of_the_specification_is_a_vector() -> None:
    """What follows a semicolon is for people."""
    block = re.search(r"^```hex publish\n(.*?)^```$", SPECIFICATION.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    shown = "".join(line.partition(";")[0].strip() for line in block[1].splitlines())
    assert shown == next(vector["payload"] for vector in VECTORS["messages"] if vector["name"] == "publish")


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_vectors_that_are_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_rendezvous_untrusted(bytes.fromhex(vector["payload"]))


@pytest.mark.parametrize("vector", VECTORS["forged"], ids=lambda vector: vector["name"])
def test_vectors_that_are_not_signed(vector: dict[str, Any]) -> None:
    message = parse_rendezvous_untrusted(bytes.fromhex(vector["payload"]))
    assert isinstance(message, Publish)
    assert not message.publication.is_signed(verify)


@pytest.mark.parametrize("topic", VECTORS["topics"], ids=lambda topic: topic["key"])
def test_keys_of_topics(topic: dict[str, str]) -> None:
    assert topic_key(topic["topic"]).hex() == topic["key"]


def test_the_largest_publication_fits_a_sealed_frame() -> None:
    me = Identity.from_seed(bytes(32))
    largest = build_publication(me.public_key, me.sign, key=topic_key(""), number=1, data=bytes(MAX_DATA))
    payload = Publish(largest).to_bytes()
    assert len(payload) <= Limits().payload
    frame = build_frame(1, me.id, me.id, bytes(8), payload + bytes(MAX_SEALING), flags=Flag.RENDEZVOUS | Flag.SEALED)
    assert len(frame) - HEADER_LENGTH <= MAX_PAYLOAD
    assert parse_rendezvous_untrusted(payload) == Publish(largest)
    with pytest.raises(RemoteProtocolError, match="publication of"):
        parse_rendezvous_untrusted(payload + b"\0")
    for number, data in ((1, bytes(MAX_DATA + 1)), (2**64, b"")):
        with pytest.raises(LocalProtocolError):
            build_publication(me.public_key, me.sign, key=NodeId(bytes(20)), number=number, data=data)
