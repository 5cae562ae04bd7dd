from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.cli.commands import BadInput, Command, parse_command
from trio_relay.wire.ids import NodeId, parse_node_id
from trio_relay.wire.json import MAX_DEPTH, JSONValue

from .support import NOBODY

TO = parse_node_id(NOBODY)
NO_ID = NodeId(b"")

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values: st.SearchStrategy[JSONValue] = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ({"send": {"to": NOBODY, "data": {"a": 1}}, "ref": 7}, Command("send", TO, {"a": 1}, 7)),
        ({"send": {"to": NOBODY.upper(), "data": None}}, Command("send", TO, None, None)),
        ({"deliver": {"to": NOBODY, "bytes": "AP8="}, "ref": "x"}, Command("deliver", TO, b"\x00\xff", "x")),
        ({"deliver": {"to": NOBODY, "bytes": ""}, "ref": []}, Command("deliver", TO, b"", [])),
        ({"ref": {"a": [1]}, "connect": NOBODY}, Command("connect", TO, None, {"a": [1]})),
        ({"disconnect": NOBODY, "ref": False}, Command("disconnect", TO, None, False)),
        ({"statistics": True, "ref": 1.5}, Command("statistics", NO_ID, None, 1.5)),
    ],
)
def test_command(line: dict[str, JSONValue], command: Command) -> None:
    assert parse_command(json.dumps(line).encode()) == command


@given(data=values, ref=values)
def test_any_json_goes_through(data: JSONValue, ref: JSONValue) -> None:
    line = json.dumps({"send": {"to": NOBODY, "data": data}, "ref": ref}).encode()
    assert parse_command(line) == Command("send", TO, data, ref)


@given(st.binary())
def test_any_bytes_go_through(data: bytes) -> None:
    line = json.dumps({"send": {"to": NOBODY, "bytes": base64.b64encode(data).decode()}}).encode()
    assert parse_command(line).data == data


def test_the_deepest_data_that_can_be_sent() -> None:
    line = f'{{"send":{{"to":"{NOBODY}","data":{"[" * MAX_DEPTH}{"]" * MAX_DEPTH}}}}}'
    assert json.dumps(parse_command(line.encode()).data) == "[" * MAX_DEPTH + "]" * MAX_DEPTH


@pytest.mark.parametrize("line", ["", " ", "{", "[]", "null", '"send"', "NaN", "\ufeff{}", "{} {}", "[" * 100_000])
def test_no_object(line: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_command(line.encode())
    assert caught.value.ref is None


@pytest.mark.parametrize(
    "command",
    [
        {},
        {"stop": True},
        {"send": {"to": NOBODY, "data": 1}, "deliver": {"to": NOBODY, "data": 1}},
        {"connect": NOBODY, "timeout": 1},
        {"send": NOBODY},
        {"send": {"data": 1}},
        {"send": {"to": NOBODY}},
        {"send": {"to": NOBODY, "data": 1, "bytes": ""}},
        {"send": {"to": None, "data": 1}},
        {"send": {"to": NOBODY[:-1], "data": 1}},
        {"send": {"to": NOBODY, "bytes": 1}},
        {"send": {"to": NOBODY, "bytes": "A"}},
        {"send": {"to": NOBODY, "bytes": "é==="}},
        {"connect": "x" * 40},
        {"connect": 5},
        {"disconnect": None},
        {"statistics": False},
        {"statistics": 1},
    ],
)
def test_no_command(command: dict[str, JSONValue]) -> None:
    with pytest.raises(BadInput, match="expected") as caught:
        parse_command(json.dumps({**command, "ref": [1]}).encode())
    assert caught.value.ref == [1]
    assert len(str(caught.value)) < 200


@given(st.binary())
def test_arbitrary_bytes(line: bytes) -> None:
    with pytest.raises(BadInput):
        parse_command(line)
