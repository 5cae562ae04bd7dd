"""The documents of the PeerJS broker against a running one: vectors, options, limits, metrics, and its program."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, Final

import pytest
import trio
import trio.testing

from trio_relay import peerjs
from trio_relay.cli.arguments import make_parser
from trio_relay.cli.toml_config import SCHEMA, parse_config

from .documents import DOCS, blocks
from .peerjs.broker.support import Brokering, Client, Clients, brokering
from .test_docs_python import DEADLINE

PROTOCOL: Final = DOCS / "protocol" / "peerjs.md"
PAGE: Final = DOCS / "howto" / "peerjs-server.md"
TEXT: Final = PAGE.read_text(encoding="utf-8")
DEFAULTS: Final[dict[str, Any]] = {field.name: field.default for field in fields(peerjs.BrokerConfig)}


# The protocol's vectors


async def play(broker: Brokering, lines: list[str]) -> None:
    """Does what clients do, and checks every message and every end that the broker answers with."""
    clients: dict[str, Client] = {}
    for line in lines:
        name, verb, rest = [*line.split(" ", 2), ""][:3]
        match verb:
            case "connects":
                head, clients[name] = await broker.upgrade(rest)
                assert head.startswith(b"HTTP/1.1 101 "), line
                found = re.search(r"\bid=(\w+)", rest)
                clients[name].id = found[1] if found is not None else ""  # type: ignore[misc]
            case ">":
                await clients[name].send(rest)
            case "<":
                assert await clients[name].text() == rest, line
            case "closed":
                assert rest == ""
                assert await clients.pop(name).close_frame() == ([], b""), line
            case _:
                raise ValueError(line)
    for name, client in clients.items():
        assert (name, await client.settle()) == (name, [])


async def test_vectors_are_what_the_broker_does(autojump_clock: trio.testing.MockClock) -> None:
    (block,) = (block for block in blocks(PROTOCOL) if (block.mark, block.reason) == ("vectors", "peerjs"))
    lines = block.code.splitlines()
    assert len(lines) > 30
    async with brokering(memory=True) as broker:
        await play(broker, lines)


# Programs


async def test_a_ticket_lets_a_client_in(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The program of the page, as a task of this test, on a port of this machine."""
    (program,) = (block for block in blocks(PAGE) if block.mark == "serves")
    mains: list[Any] = []
    monkeypatch.setattr(trio, "run", mains.append)
    source = program.padded.replace("0.0.0.0:9000", "127.0.0.1:0")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, program.page, "exec", dont_inherit=True), names)
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mains[0])
            while not (said := capsys.readouterr().out):
                await trio.testing.wait_all_tasks_blocked()
            url = said.removeprefix("pages connect to ").strip()
            host, _, port = url.removeprefix("http://").partition(":")

            async def dial() -> trio.SocketStream:
                return await trio.open_tcp_stream(host, int(port))

            clients = Clients(dial)
            await clients.join("alice", names["ticket"]("alice"))
            stranger = await clients.connect("bob", names["ticket"]("alice"))
            frames, _ = await stranger.close_frame()
            assert frames == ['{"type":"ERROR","payload":{"msg":"no ticket for this id"}}']
            nursery.cancel_scope.cancel()
        await clients.abort()


# What must be in the documents


def rows_of(head: str) -> list[list[str]]:
    """The cells of the table of the page that begins with this cell."""
    table = TEXT[TEXT.index(f"| {head} |") :].partition("\n\n")[0]
    return [re.split(r" *\| *", line)[1:-1] for line in table.splitlines()[2:]]


def test_every_option_of_the_original_has_ours() -> None:
    rows = rows_of("`PeerServer`")
    assert {ours.strip("`") for _, ours, _ in rows} <= set(DEFAULTS)
    assert len(rows) == 13
    for theirs, ours, said in rows:
        default, name = DEFAULTS[ours.strip("`")], re.sub(r"\W.*", "", said)
        if found := re.search(r": (\d+)`", theirs):
            assert int(found[1]) in (default, 1000 * default), ours
        if said[0] in '0123456789`"':
            assert said.strip('`"') == str(default), ours
        elif name in ("None", "False"):
            assert name == str(default), ours


def test_every_flag_of_the_original_has_ours() -> None:
    rows = rows_of("`peerjs`")
    theirs = "port host path key allow_discovery expire_timeout alive_timeout concurrent_limit"
    theirs += " sslcert sslkey proxied cors"
    assert set(re.findall(r"`--(\w+)", " ".join(row[0] for row in rows))) == set(theirs.split())
    named = re.findall(r"`(\w+\.\w+)`", " ".join(row[2] for row in rows))
    assert len(named) == 11
    assert set(named) <= SCHEMA.keys()
    options = re.findall(r"`(--[^`]+)`", " ".join(row[1] for row in rows))
    assert len(options) == 6
    given = " ".join(options).replace(" H:", " 127.0.0.1:")
    assert make_parser().parse_args(["serve", *given.split()]).peerjs_path == "/myapp"


def test_defaults_in_the_table_of_limits() -> None:
    named = [
        pair
        for names, values, *_ in rows_of("option")
        for pair in zip(names.split(", "), values.split(", "), strict=True)
    ]
    assert len(named) == 12
    for name, value in named:
        assert value == str(DEFAULTS[name.strip("`")] or "none"), name


def test_files_that_the_page_shows_are_understood() -> None:
    found = [parse_config(block.code, "/") for block in blocks(PAGE) if block.language == "toml"]
    assert [values.get("peerjs.trusted_proxies", values.get("peerjs.alive_timeout")) for values in found] == [
        60,
        ["127.0.0.1", "::1"],
    ]


def test_limits_of_the_protocol_are_the_defaults() -> None:
    text = " ".join(PROTOCOL.read_text(encoding="utf-8").split())
    config = peerjs.BrokerConfig(listen=None)
    assert config.relayed is not None
    for said in (
        f"allowed (**ours**, default {config.max_connections_per_ip})",
        f"allowed (default {config.concurrent_limit})",
        f"at most {config.max_id} characters",
        f"After {config.expire_timeout:g} s (default)",
        f"{config.queue_messages:,} messages or {config.queue_bytes >> 10} KiB, half of that",
        f"in all {config.queued_messages:,} messages or {config.queued_bytes >> 20} MiB",
        f"({config.slow_messages:,} messages or {config.slow_bytes >> 20} MiB wait for it, default)",
        f"no `HEARTBEAT` for {config.alive_timeout:g} s",
        f"more than {config.max_message >> 20} MiB (default)",
        f"({config.relayed.wait:g} s, default)",
        f"({config.relayed.idle:g} s, default)",
        f"{config.relayed.meetings}, or {config.relayed.meetings_per_ip} of one IP address",
    ):
        assert said in text


async def test_metrics_that_the_page_names_are_served() -> None:
    named = set(re.findall(r"`(trio_relay_broker_[a-z_]+)", TEXT))
    assert len(named) >= 11
    async with brokering() as broker:
        await broker.join("alice")
        status, _, served = await broker.ask("/metrics")
    assert status == 200
    assert [name for name in sorted(named) if f"# TYPE {name} " not in served] == []
