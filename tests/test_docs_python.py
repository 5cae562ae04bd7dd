"""Every Python block of the documents is executed, and so is every example.

A block with a whole program (it has a `trio.run` or tests, or its output is shown) runs alone, and must print what is
shown. The other blocks of a page run one after the other in one namespace, inside Trio, as their page says: `node` is
an open node, `friend` the id of another one, which sends back what it gets; `relay.example.org` is a relay on this
machine. The files `chain.pem`, `key.pem` and `ca.pem` are there. Blocks that are files belong to
tests/test_docs_tutorial.py; pages about the relay server are executed by tests/test_docs_relay.py,
the one about peers by tests/test_docs_peers.py, the one about rooms by tests/test_docs_rooms.py.
"""

from __future__ import annotations

import inspect
import itertools
import re
import runpy
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, Final

import pytest
import trio
import trustme
from trio.testing import MockClock

import trio_relay
from trio_relay.testing import open_testnet

from .documents import (
    DOCUMENTS,
    EXAMPLES,
    PEER_PAGE,
    RELAY_PAGES,
    ROOM_PAGE,
    TOP,
    Block,
    blocks,
    compile_block,
    name_of,
)
from .shown import check_output

DEADLINE: Final = 20.0
"""Seconds for a page that takes a fraction of one; never waited for when a test passes."""
FRAGMENTS: Final = 3
"""So many blocks are no programs, at most."""


@dataclass(frozen=True, slots=True)
class Executed:
    """The Python blocks of a page that are executed.

    Attributes:
        programs: each with the block that shows its output, if there is one.
    """

    snippets: list[Block]
    programs: list[tuple[Block, Block | None]]


def executed(page: Path) -> Executed:
    snippets, programs = [], []
    found = blocks(page)
    for block, following in itertools.zip_longest(found, found[1:]):
        if block.language == "python" and block.mark not in ("fragment", "file", "serves"):
            shown = following if following is not None and following.mark == "output" else None
            if shown is not None or re.search(r"^ *trio\.run\(|^async def test_", block.code, re.MULTILINE):
                programs.append((block, shown))
            else:
                snippets.append(block)
    return Executed(snippets, programs)


PAGES: Final = {
    page: found
    for page in DOCUMENTS
    if page not in (*RELAY_PAGES, PEER_PAGE, ROOM_PAGE) and (found := executed(page)) != Executed([], [])
}


def run_tests(namespace: dict[str, Any]) -> None:
    """Every test of a block, for every parameter, with the clock that pytest-trio would give it."""
    for name, function in list(namespace.items()):
        if name.startswith("test_"):
            marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
            for values in itertools.product(*([(mark.args[0], value) for value in mark.args[1]] for mark in marks)):
                clock = MockClock(autojump_threshold=0)
                given = {"autojump_clock": clock} if "autojump_clock" in inspect.signature(function).parameters else {}
                trio.run(partial(function, **given, **dict(values)), clock=clock)


async def run_snippets(snippets: list[Block]) -> None:
    async def echo(node: trio_relay.Node) -> None:
        async for message in node:
            with suppress(trio_relay.DeliveryError):
                await node.deliver(message.sender, message.data)

    with trio.fail_after(DEADLINE):
        async with (
            trio_relay.open_node() as relay,
            open_testnet(2, leaves=1) as net,
            trio.open_nursery() as nursery,
        ):
            [node], friend = net.leaves, net.relays[1]
            nursery.start_soon(echo, friend)
            namespace: dict[str, Any] = {"trio": trio, "trio_relay": trio_relay, "node": node, "friend": friend.id}
            await run_blocks(snippets, namespace, {"ws://relay.example.org:9001": relay.urls[0]})
            nursery.cancel_scope.cancel()


async def run_blocks(snippets: list[Block], namespace: dict[str, Any], urls: dict[str, str]) -> None:
    """Runs blocks one after the other, with the URLs of this machine in place of those that they name."""
    for block in snippets:
        source = block.padded
        for named, url in urls.items():
            source = source.replace(named, url)
        code = compile_block(source, block.page)
        assert isinstance(code, CodeType)
        # Without `await` in it, it is run by now.
        running = eval(code, namespace)
        if code.co_flags & inspect.CO_COROUTINE:
            await running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty but for what TLS needs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["program"])
    write_certificates()
    return tmp_path


def write_certificates() -> None:
    """Into the current folder."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "relay.example.org")
    authority.cert_pem.write_to_path("ca.pem")
    certificate.cert_chain_pems[0].write_to_path("chain.pem")
    certificate.private_key_pem.write_to_path("key.pem")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_of_page_runs(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for program, shown in PAGES[page].programs:
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(program.padded, program.page, "exec", dont_inherit=True), namespace)
        run_tests(namespace)
        printed = capsys.readouterr().out
        if shown is not None:
            check_output(shown, printed)
    if PAGES[page].snippets:
        trio.run(run_snippets, PAGES[page].snippets)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(example: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "sys.argv" in example.read_text(encoding="utf-8"):
        run_as_processes = ("relay.py", "relay_server.py", "browser_chat.py", "peerjs_echo.py")
        assert example.name in run_as_processes, (
            "by tests/test_docs_tutorial.py, tests/test_docs_peers.py, and tests/browser/test_browser_chat.py"
        )
        return
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out


def test_files_that_pages_show_are_those_of_the_repository() -> None:
    """`<!-- file: NAME, as PATH -->`: the block is that file."""
    marked = [block for page in DOCUMENTS for block in blocks(page) if block.mark == "file" and ", as " in block.reason]
    assert len(marked) >= 2
    for block in marked:
        path = TOP / block.reason.partition(", as ")[2]
        assert block.code == path.read_text(encoding="utf-8"), f"{block} is not {path.name}"


def test_few_blocks_are_not_executed() -> None:
    """All that is no fragment is executed here or, if it is a file, by tests/test_docs_tutorial.py."""
    fragments = [block for page in DOCUMENTS for block in blocks(page) if block.mark == "fragment"]
    assert all(block.reason for block in fragments), "a fragment says why it is not executed"
    assert len(fragments) <= FRAGMENTS, [str(block) for block in fragments]
