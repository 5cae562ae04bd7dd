"""What the documents name exists: public names, limits, counters, tables, metrics, files and functions of the code, and
options of the command line. What a reader must find is in them: every public name, counter, table and option."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
import trio

import trio_relay
import trio_relay.peerix
import trio_relay.peerix.hub
import trio_relay.peerjs
import trio_relay.testing
import trio_relay.wsrelay
from benchmarks.__main__ import BENCHMARKS
from trio_relay.cli.arguments import make_parser

from .counters import (
    PACKAGE,
    counted,
    counted_by_broker,
    counted_by_client,
    counted_by_hub,
    counted_by_peer,
    counted_by_relay,
    counted_by_room,
    counted_by_webrtc,
    expand,
)
from .documents import DOCS, DOCUMENTS, TOP, blocks, name_of

REFERENCE: Final = "".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "reference").glob("*.md")))
COUNTERS: Final = (DOCS / "reference" / "counters.md").read_text(encoding="utf-8")
LIMITS: Final = frozenset(field.name for field in fields(trio_relay.Limits))
OPTIONS_OF_RELAY: Final = (
    trio_relay.wsrelay.RelayConfig,
    trio_relay.wsrelay.BlobConfig,
    trio_relay.wsrelay.Channel,
    trio_relay.wsrelay.Hooks,
    trio_relay.wsrelay.RelayStatistics,
    trio_relay.peerjs.BrokerConfig,
    trio_relay.peerjs.RelayedConfig,
    trio_relay.peerjs.BrokerHooks,
    trio_relay.peerjs.BrokerStatistics,
    trio_relay.peerjs.PeerOptions,
    trio_relay.peerjs.PeerLimits,
    trio_relay.peerjs.PeerStatistics,
    trio_relay.peerix.RoomLimits,
    trio_relay.peerix.TransferLimits,
    trio_relay.peerix.hub.HubConfig,
    trio_relay.peerix.hub.HubStatistics,
    trio_relay.WebRTCConfig,
)
FIELDS_OF_PEER: Final = {field.name for field in fields(trio_relay.peerjs.PeerStatistics)}
NODE_ID: Final = "0123456789abcdef0123456789abcdef01234567"


def texts() -> list[tuple[str, str]]:
    return [(name_of(page), page.read_text(encoding="utf-8")) for page in DOCUMENTS]


@pytest.mark.parametrize(
    "module",
    [trio_relay, trio_relay.testing, trio_relay.wsrelay, trio_relay.peerjs, trio_relay.peerix, trio_relay.peerix.hub],
    ids=lambda module: module.__name__,
)
def test_every_public_name_is_in_the_reference(module: ModuleType) -> None:
    directive = rf"^\.\. (?:auto\w+|py:\w+):: {re.escape(module.__name__)}\.(\w+)(?:\(\))?$"
    assert sorted(re.findall(directive, REFERENCE, re.MULTILINE)) == sorted(module.__all__)


def test_limits_that_are_named_exist() -> None:
    named = [(page, name) for page, text in texts() for name in re.findall(r"`Limits\.(\w+)`", text)]
    assert len(named) > 20
    assert [pair for pair in named if pair[1] not in LIMITS] == []


def table_rows(title: str) -> set[str]:
    """The names in the first column of the tables below a heading of the page about counters."""
    start = COUNTERS.index(f"\n## {title}\n")
    end = COUNTERS.find("\n## ", start + 4)
    rows = re.findall(r"^\| (`.*?) \|", COUNTERS[start : end if end > 0 else None], re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_counter_is_in_the_reference_and_the_reverse() -> None:
    assert table_rows("Relay server") == counted_by_relay()
    assert table_rows("Relay client") == counted_by_client()
    assert table_rows("PeerJS broker") == counted_by_broker()
    assert table_rows("PeerJS peer") == counted_by_peer()
    assert table_rows("Peerix rooms") == counted_by_room()
    assert table_rows("Signalling hub") == counted_by_hub()
    assert table_rows("WebRTC") == counted_by_webrtc()
    others = {"Relay server", "Relay client", "PeerJS broker", "PeerJS peer", "Peerix rooms", "Signalling hub"}
    titles = {title for title in re.findall(r"^## (.*)$", COUNTERS, re.MULTILINE) if not title.startswith("Sizes")}
    assert set().union(*map(table_rows, titles - others)) == counted()


def test_every_size_of_a_peer_is_in_the_reference_and_the_reverse() -> None:
    assert table_rows("Sizes of a PeerJS peer") == FIELDS_OF_PEER - {"counts"}


def test_limits_of_peers_that_are_named_exist() -> None:
    named = [(page, name) for page, text in texts() for name in re.findall(r"`PeerLimits\.(\w+)`", text)]
    assert len(named) > 5
    known = {field.name for field in fields(trio_relay.peerjs.PeerLimits)}
    assert [pair for pair in named if pair[1] not in known] == []


def test_limits_of_rooms_that_are_named_exist() -> None:
    limits = {"RoomLimits": trio_relay.peerix.RoomLimits, "TransferLimits": trio_relay.peerix.TransferLimits}
    named = [pair for _, text in texts() for pair in re.findall(r"`(RoomLimits|TransferLimits)\.(\w+)`", text)]
    assert len(named) > 10
    assert [pair for pair in named if pair[1] not in {field.name for field in fields(limits[pair[0]])}] == []


def test_every_type_of_a_peers_errors_is_explained() -> None:
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(trio_relay.peerjs.PEER_ERROR_TYPES)


def columns(text: str, head: str) -> Iterator[str]:
    """The cells below a head that has this word, in every table of a text."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()]
        heads = rows[0]
        for number, title in enumerate(heads):
            if head in title:
                yield from (row[number] for row in rows[2:])


def test_counters_that_pages_name_exist() -> None:
    """In columns of counters, every name; elsewhere, what begins as some counter does."""
    counters = counted().union(*map(expand, counted()))
    counters |= counted_by_relay() | counted_by_client() | counted_by_broker() | counted_by_peer()
    counters |= counted_by_hub() | counted_by_room()
    known = counters | LIMITS | table_rows("Sizes") | set(trio_relay.__all__) | RELAY_OPTIONS | NOT_COUNTERS
    beginnings = tuple({f"{counter.partition('_')[0]}_" for counter in counters if "_" in counter})
    unknown = []
    for page, text in texts():
        if page.startswith("docs/") and "protocol" not in page:
            named = re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text)
            cells = " ".join(columns(text, "counter"))
            unknown += [(page, name) for name in named if name.startswith(beginnings) and name not in known]
            unknown += [(page, name) for name in re.findall(r"`(\w+)`", cells) if name not in known]
    assert unknown == []


RELAY_OPTIONS: Final = frozenset(
    {field.name for kind in OPTIONS_OF_RELAY for field in fields(kind)}
    | set(inspect.signature(trio_relay.wsrelay.open_relay_client).parameters)
    | {name for kind in (trio_relay.peerjs.DataConnection, trio_relay.peerjs.MediaConnection) for name in dir(kind)}
)
"""What servers, clients and peers can be told and asked, and what they tell."""

NOT_COUNTERS: Final = frozenset(
    {"not_delivered", "send_nowait", "receive_data", "link_count", "transport_REASON", "protocol"}
)
"""Words of the documents that begin like a counter."""


async def test_sizes_and_metrics_that_pages_name_are_served() -> None:
    async with trio_relay.open_node(legacy=True) as node:
        assert set(node.statistics().sizes) == table_rows("Sizes")
        address = node.urls[0].removeprefix("ws://")
        host, _, port = address.partition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            await stream.send_all(f"GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
            with trio.fail_after(10):
                served = b"".join([data async for data in stream]).decode()
    named = {name for _, text in texts() for name in re.findall(r"`(trio_relay_(?!ws_|broker_|hub_)[a-z_]+)", text)}
    assert named
    assert [name for name in sorted(named) if f"# TYPE {name}" not in served and f"\n{name}" not in served] == []


def test_files_and_functions_that_pages_name_exist() -> None:
    missing = []
    for page, text in texts():
        if not page.startswith("docs/"):
            continue
        for path in re.findall(r"`((?:[\w.]+/)+[\w.]*)`", text):
            if not any((root / path).exists() for root in (PACKAGE, TOP, (TOP / page).parent)):
                missing.append((page, path))
        for path, function in re.findall(r"`((?:\w+/)+\w+\.py)`(?: \|)? `(\w+)`", text):
            if f"def {function}(" not in (PACKAGE / path).read_text(encoding="utf-8"):
                missing.append((page, f"{path} {function}"))
    assert missing == []


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    found: set[str] = set()
    for action in parser._actions:
        found.update(option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= options_of(command)
    return found


def test_every_option_is_described_and_the_reverse() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    described = set(re.findall(r"[` ](--[a-z][a-z-]+)", page))
    assert options_of(make_parser()) - {"--help", "--version"} == described - {"--help"}


def test_every_benchmark_is_described() -> None:
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(BENCHMARKS)


def test_command_lines_are_understood() -> None:
    parser = make_parser()
    lines = [
        (str(block), found[1])
        for page in DOCUMENTS
        for block in blocks(page)
        if block.language in ("sh", "ini")
        for line in block.code.splitlines()
        if (found := re.search(r"(?:^|=\S*/|&& \S*/)trio-relay (.*)", line))
    ]
    assert len(lines) > 8
    for _, line in lines:
        parser.parse_args([NODE_ID if word == "ID" else word for word in shlex.split(line)])


def test_same_blocks_are_the_same() -> None:
    """`<!-- same: FILE NAME -->`: the block between the comments of that name, which .ci/run executes."""
    marked = [block for page in DOCUMENTS for block in blocks(page) if block.mark == "same"]
    assert marked
    for block in marked:
        file, name = block.reason.split()
        text = Path(TOP / file).read_text(encoding="utf-8")
        found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", text, re.DOTALL)
        assert found is not None
        assert block.code == found[1], str(block)
