"""What a client of a relay server reads and writes, without a connection."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError
from trio_relay.wire.json import JSONValue
from trio_relay.wsrelay.client.core import (
    ErrorFrame,
    Ignored,
    PeerStatus,
    RelayMessage,
    classify_untrusted,
    encode_message,
    encode_watch,
    make_target,
    message_prefix,
)

SECRET = "secret-key-of-mine"

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
payloads = scalars | st.dictionaries(st.sampled_from(["code", "message", "address", "online", "to"]), scalars)
objects = st.dictionaries(st.sampled_from(["from", "to", "type", "payload", "extra"]), payloads).flatmap(
    lambda value: st.sampled_from(["error", "peer-status", "watch", 1]).map(lambda kind: {**value, "type": kind})
)


@given(objects, st.text(max_size=12), st.booleans())
def test_what_has_a_sender_is_a_message_whatever_else_it_says(
    value: dict[str, JSONValue], sender: str, binary: bool
) -> None:
    value = {**value, "from": sender}
    text = json.dumps(value)
    found = classify_untrusted(text.encode() if binary else text)
    assert found == RelayMessage(sender, value.get("payload"), value)


@given(objects)
def test_what_has_no_sender_is_the_server_s_if_it_has_the_right_shape(value: dict[str, JSONValue]) -> None:
    found = classify_untrusted(json.dumps(value))
    payload = value.get("payload")
    members = payload if isinstance(payload, dict) else {}
    if isinstance(value.get("from"), str):
        assert isinstance(found, RelayMessage)
    elif value["type"] == "error" and isinstance(members.get("code"), str):
        assert isinstance(found, ErrorFrame)
        assert found.code == members["code"]
        assert found.to == (members.get("to") if isinstance(members.get("to"), str) else None)
    elif value["type"] == "peer-status" and isinstance(online := members.get("online"), bool):
        address = members.get("address")
        assert found == (PeerStatus(address, online) if isinstance(address, str) else Ignored.UNKNOWN)
    else:
        assert found is Ignored.UNKNOWN


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_anything_at_all_is_classified(frame: bytes | str) -> None:
    assert classify_untrusted(frame) is not None


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (b'{"from":"a:b","payload":"\xff"}', Ignored.NOT_JSON),
        ("{", Ignored.NOT_JSON),
        ("[" * 100_000, Ignored.NOT_JSON),
        ("null", Ignored.UNKNOWN),
        ('["from"]', Ignored.UNKNOWN),
        ('{"type":"error","payload":"x"}', Ignored.UNKNOWN),
        ('{"type":"peer-status","payload":{"address":"a:b","online":1}}', Ignored.UNKNOWN),
        ('{"type":"error","payload":{"code":"X","message":7}}', ErrorFrame("X", "")),
        ('{"from":"a:b","to":"c:d"}', RelayMessage("a:b", None, {"from": "a:b", "to": "c:d"})),
        ('{"from":7,"type":"error","payload":{"code":"X"}}', ErrorFrame("X", "")),
    ],
)
def test_classification(frame: bytes | str, found: object) -> None:
    assert classify_untrusted(frame) == found


@given(payloads, st.text(max_size=9))
def test_messages_are_what_the_original_client_writes(payload: JSONValue, name: str) -> None:
    frame = encode_message(message_prefix("pwa:" + name), "a:" + name, payload)
    assert json.loads(frame) == {"from": "pwa:" + name, "to": "a:" + name, "payload": payload}
    assert list(json.loads(frame)) == ["from", "to", "payload"]


def test_watches_are_what_the_original_client_writes() -> None:
    assert encode_watch("pwa:bob", watched=True) == b'{"type":"watch","address":"pwa:bob"}'
    assert encode_watch("pwa:bob", watched=False) == b'{"type":"unwatch","address":"pwa:bob"}'


@pytest.mark.parametrize("to", ["bob", "", ":bob", 7, None])
def test_what_is_no_address_is_refused(to: str) -> None:
    with pytest.raises(LocalProtocolError, match="address like channel:id"):
        encode_message(b"", to, 1)


def test_a_message_may_be_as_deep_as_its_receiver_reads() -> None:
    payload: JSONValue = 1
    for _ in range(63):
        payload = [payload]
    message = classify_untrusted(encode_message(message_prefix("a:b"), "a:b", payload))
    assert isinstance(message, RelayMessage)
    assert message.payload == payload
    with pytest.raises(LocalProtocolError, match="less deeply nested"):
        encode_message(message_prefix("a:b"), "a:b", [payload])


@pytest.mark.parametrize(
    ("url", "channel", "id", "place"),
    [
        ("ws://host:1", "pwa", "alice123", "ws://host:1/pwa/alice123"),
        ("wss://host/", "a/b", "x", "wss://host/a/b/x"),
        ("wss://host/relay", "pwa", "a:b!c@d", "wss://host/relay/pwa/a:b!c@d"),
    ],
)
def test_where_a_client_connects(url: str, channel: str, id: str, place: str) -> None:
    target = make_target(url, channel, id)
    assert (target.url, target.place, target.address) == (place, place, f"{channel}:{id}")


def test_keys_and_reports_stand_in_the_query_alone() -> None:
    target = make_target("ws://host", "pwa", "alice123", key=SECRET, reports=True)
    assert target.url == f"ws://host/pwa/alice123?key={SECRET}&reports=1"
    assert SECRET not in repr(target)
    assert make_target("ws://host", "pwa", "alice123", reports=True).url == "ws://host/pwa/alice123?reports=1"


@pytest.mark.parametrize("id", ["a b", "a/b", "ä", "50%", "a?b", "a#b", '"', "\\"])
def test_ids_that_a_path_does_not_hold_need_a_server_that_decodes(id: str) -> None:
    with pytest.raises(ValueError, match="encode_id=True"):
        make_target("ws://host", "pwa", id)
    target = make_target("ws://host", "pwa", id, encode_id=True)
    assert target.address == f"pwa:{id}"
    assert target.url.startswith("ws://host/pwa/")
    assert "%" in target.url


@pytest.mark.parametrize(
    ("url", "channel", "id", "words"),
    [
        (f"ws://host/?key={SECRET}", "pwa", "alice123", "without a query"),
        ("http://host", "pwa", "alice123", "a URL like ws"),
        ("ws://host#x", "pwa", "alice123", "fragment"),
        ("ws://", "pwa", "alice123", "expected host:port"),
        ("ws:///", "pwa", "alice123", "expected host:port"),
        (f"ws://user:{SECRET}@host", "pwa", "alice123", "without user information"),
        (f"http://user:{SECRET}@host", "pwa", "alice123", "without user information"),
        (f"user:{SECRET}@host", "pwa", "alice123", "without user information"),
        ("ws://host", "a:b", "alice123", "without a colon"),
        ("ws://host", "", "alice123", "expected a channel"),
        ("ws://host", "a b", "alice123", "expected a channel"),
        ("ws://host", "pwa?x", "alice123", "expected a channel"),
        ("ws://host", "pwa", "", "1 to 256"),
        ("ws://host", "pwa", "x" * 257, "1 to 256"),
        ("ws://host", "pwa", "\ud800", "characters that a URL's path holds"),
    ],
)
def test_unusable_targets(url: str, channel: str, id: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        make_target(url, channel, id)
    assert SECRET not in str(caught.value)


def test_an_id_without_a_utf_8_form() -> None:
    with pytest.raises(ValueError, match="UTF-8 form"):
        make_target("ws://host", "pwa", "\ud800", encode_id=True)


def test_a_url_is_text() -> None:
    with pytest.raises(TypeError, match="expected a URL as text, not bytes"):
        make_target(b"ws://host", "pwa", "alice123")  # type: ignore[arg-type]
