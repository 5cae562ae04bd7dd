"""The parsers of the relay server and its client, on whatever may come."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

import trio_relay.wsrelay
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.wire.json import decode_untrusted, encode
from trio_relay.wsrelay.client.core import classify_untrusted
from trio_relay.wsrelay.messages import Head, read_head_untrusted

SEEDS = [
    '{"from":"pwa:alice123","to":"pwa:bobbobbob","payload":{"x":[1,-2.5e3,null,true]},"extra":"\\u00e9\\n"}',
    '{"type":"watch","address":"pwa:alice123"}',
    '{"type":"peer-status","payload":{"address":"pwa:alice123","online":true}}',
    '{"type":"error","payload":{"code":"UNDELIVERED","message":"x","to":"a:b","reason":"offline"}}',
    '{"from":1,"to":null,"type":["\\ud800"],"address":{}}',
    '[{"from":"a"},"\\ud83d\\ude00",1e400,-0]',
]
PIECES = ['"from"', '"to"', '"type"', '"a:b"', "{", "}", "[", "]", ":", ",", '"', "\\", "\\u0000", "\\ud800", "1e999"]
PIECES += ["NaN", "-", "01", "null", "\x00", "\x7f", "\u2028", " ", "\ufeff", "\U0001f600", "[" * 70, "]" * 70]


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Some JSON, parts of which were cut out or replaced."""
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        removed = draw(st.sampled_from([0, 1, 1, 2, 8, 1000]))
        text = text[:start] + draw(st.sampled_from(PIECES) | st.text(max_size=3)) + text[start + removed :]
    return text.encode("utf-8", "replace").decode()


@given(texts())
@example('{"payload":"\\ud800","from":"a:b"}')
@example('{"payload":1e400}')
def test_the_quick_look_at_a_message_agrees_with_reading_all_of_it(text: str) -> None:
    head = value = None
    with suppress(RemoteProtocolError):
        value = decode_untrusted(text)
    with suppress(RemoteProtocolError):
        head = read_head_untrusted(text)
    if not isinstance(value, dict | list):
        assert head is None
        return
    members = value if isinstance(value, dict) else {}
    found = [members.get(name) for name in ("from", "to", "type", "address")]
    assert head == Head(*(member if isinstance(member, str) else None for member in found))


@given(texts() | st.binary(max_size=100) | texts().map(str.encode))
def test_a_client_makes_something_of_everything(frame: bytes | str) -> None:
    found = classify_untrusted(frame)
    assert classify_untrusted(frame) == found
    with suppress(RemoteProtocolError):
        value = decode_untrusted(frame)
        again = classify_untrusted(encode(value, non_finite_as_null=True))
        assert type(again) is type(found)


def test_every_parser_is_tried() -> None:
    found = set()
    for module in pkgutil.walk_packages(trio_relay.wsrelay.__path__, "trio_relay.wsrelay."):
        for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            if name.endswith("_untrusted") and name[0] != "_" and function.__module__ == module.name:
                found.add(function)
    assert found == {read_head_untrusted, classify_untrusted}
