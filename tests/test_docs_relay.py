"""The documents of the relay server against a running one: what they show is executed, what they list is complete.

On `howto/relay-server.md` the name `relay` is a running relay server, and a client is connected to it as
`chat:alice-0001`. On `howto/relay-client.md` the name `client` is that client, and `chat:bob-0001` sends back what it
gets. `relay.example.org` is that server.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing

from trio_relay import wsrelay

from .counters import PACKAGE
from .documents import DOCS, RELAY_PAGES, blocks
from .test_docs_names import columns, table_rows
from .test_docs_python import DEADLINE, executed, run_blocks, write_certificates
from .wsrelay.asking import ask
from .wsrelay.support import Client, Relaying, relaying

PROTOCOL: Final = DOCS / "protocol" / "ws-relay.md"
SERVER, CLIENT = RELAY_PAGES
CHANNELS: Final = ["chat", wsrelay.Channel(name="desk", on_duplicate="reject", watchable_by=["desk"])]
ALICE, BOB = "chat:alice-0001", "chat:bob-0001"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, with certificates; what a page puts into the environment is taken out again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_KEYS", "not-this-one")
    write_certificates()


async def echo(client: wsrelay.RelayClient) -> None:
    async for message in client:
        await client.send(message.sender, message.payload)


async def run_page(page: Path) -> dict[str, Any]:
    """Runs the blocks of a page; returns the names that they defined."""
    with trio.fail_after(DEADLINE):
        async with relaying(channels=CHANNELS) as server:
            relay, url = server.relay, server.relay.urls[0]
            async with (
                wsrelay.open_relay_client(url, "chat", "alice-0001") as client,
                wsrelay.open_relay_client(url, "chat", "bob-0001") as bob,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(echo, bob)
                await client.wait_connected()
                await bob.wait_connected()
                names: dict[str, Any] = {"trio": trio, "wsrelay": wsrelay, "relay": relay, "client": client}
                await run_blocks(executed(page).snippets, names, {"ws://relay.example.org:8080": url})
                nursery.cancel_scope.cancel()
    return names


async def test_python_of_the_clients_page_runs(folder: None, capsys: pytest.CaptureFixture[str]) -> None:
    await run_page(CLIENT)
    lines = ["{'text': 'hello'} from chat:bob-0001", "21.5 degrees", "chat:nobody-01 is offline"]
    assert capsys.readouterr().out.splitlines() == lines


async def test_python_of_the_servers_page_runs_and_its_hooks_do_what_it_says(folder: None) -> None:
    names = await run_page(SERVER)
    async with relaying(channels=CHANNELS, hooks=names["hooks"]) as relay:
        guest = await relay.join("/chat/guest-001")
        again = await relay.connect("/chat/guest-001")
        frames, code, reason = await again.end()
        assert (frames[0]["payload"]["code"], code, reason) == ("GUEST_HERE", 4001, "this guest is here already")
        desk = await relay.join("/desk/desk-0001?reports=1")
        assert set(names["present"]) == {"chat:guest-001", "desk:desk-0001"}
        await guest.send({"question": 1})
        await desk.send({"from": "desk:desk-0001", "to": "chat:guest-001"})
        assert (await desk.receive())["payload"]["reason"] == "blocked"
        await guest.settle()
        assert names["questions"] == [("chat:guest-001", {"question": 1})]
        assert (await ask(relay, "GET", "/hello")).body == b"hello\n"
        await guest.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert set(names["present"]) == {"desk:desk-0001"}


def test_a_server_in_ten_lines_serves(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own `trio.run`, with a client beside it, on a port of this machine."""
    (program,) = (block for block in blocks(SERVER) if block.mark == "serves")
    run = trio.run
    heard = []

    async def beside(main: Any) -> None:
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(main)
                await trio.testing.wait_all_tasks_blocked()
                url = capsys.readouterr().out.removeprefix("clients connect to ").removesuffix("/chat/SOME-ID\n")
                async with wsrelay.open_relay_client(url, "chat", "alice-0001") as client:
                    await client.send(ALICE, "a message to myself")
                    heard.append((await client.receive()).payload)
                nursery.cancel_scope.cancel()

    monkeypatch.setattr(trio, "run", lambda main: run(beside, main))
    source = program.padded.replace("0.0.0.0:8080", "127.0.0.1:0")
    exec(compile(source, program.page, "exec", dont_inherit=True), {"__name__": "__main__"})
    assert heard == ["a message to myself"]


# The protocol's vectors


def vectors(name: str) -> list[str]:
    (block,) = (block for block in blocks(PROTOCOL) if (block.mark, block.reason) == ("vectors", name))
    return block.code.splitlines()


async def play(relay: Relaying, lines: list[str]) -> None:
    """Does what clients do, and checks every frame and every end that the server answers with."""
    clients: dict[str, Client] = {}
    for line in lines:
        name, verb, rest = [*line.split(" ", 2), ""][:3]
        match verb:
            case "connects":
                clients[name] = await relay.connect(rest)
                await trio.testing.wait_all_tasks_blocked()
            case "leaves":
                await clients.pop(name).aclose()
            case ">":
                await clients[name].send(rest)
            case "<":
                assert await clients[name].frame() == rest, line
            case "closed":
                code, _, reason = rest.partition(" ")
                assert await clients.pop(name).end() == ([], int(code), reason), line
            case _:
                raise ValueError(line)
    for name, client in clients.items():
        assert (name, await client.settle(), client.binary) == (name, [], 0)


async def test_vectors_are_what_the_server_does() -> None:
    async with relaying(channels=CHANNELS) as relay:
        await play(relay, vectors("open"))


async def test_vectors_of_a_server_with_keys() -> None:
    class Keys:
        def validate(self, key: str) -> bool:
            return key == "good-key-1"

    async with relaying(channels=CHANNELS, key_store=Keys()) as relay:
        await play(relay, vectors("keyed"))


async def test_vectors_of_the_pages() -> None:
    lines = vectors("http")
    assert len(lines) >= 8
    async with relaying(channels=CHANNELS) as relay:
        for asked, answered in zip(lines[::2], lines[1::2], strict=True):
            method, path, *body = asked.split(" ", 2)
            answer = await ask(relay, method, path, body=body[0].encode() if body else None)
            assert f"{answer.status} {answer.body.decode()}" == answered, asked


# What must be in the documents


def error_codes() -> Iterator[str]:
    """The codes that the relay's code has."""
    yield wsrelay.Refusal().error_code
    for path in (PACKAGE / "wsrelay").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="encode_error"), args=[ast.Constant(value=str(code)), *_]):
                    yield code


def test_every_error_code_is_in_the_protocol_and_the_reverse() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    table = text[text.index("## 7. Error codes") : text.index("## 8.")]
    assert set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE)) == set(error_codes())


def test_every_option_of_the_original_has_ours() -> None:
    """Those of the tables, and their defaults: what stands beside a default in the original is ours, too."""
    text = SERVER.read_text(encoding="utf-8")
    table = text[text.index("\n| `createRelay`") :]
    rows = re.findall(r"^\| `(\w+)(?:: ([\d]+))?[^|]*\| `(\w+)` \| ([^|]*) \|$", table, re.MULTILINE)
    defaults: dict[str, Any] = {field.name: field.default for field in fields(wsrelay.RelayConfig)}
    assert len(rows) >= 12
    for _, _, ours, _ in rows:
        assert ours in defaults
    shown = {ours: (int(theirs), said) for _, theirs, ours, said in rows if theirs}
    assert len(shown) == 6
    for ours, (theirs, said) in shown.items():
        assert theirs in (defaults[ours], 1000 * defaults[ours]), ours
        assert said.startswith(str(defaults[ours])), ours
    hooks = set(re.findall(r"`(on_\w+|verify_peer)\(", table))
    assert hooks == {field.name for field in fields(wsrelay.Hooks)}


def test_limits_of_the_protocol_are_the_defaults() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    limits = wsrelay.RelayConfig(channels=["chat"], key_store=False)
    expected = {
        "connections of one IP address (IPv6: one /64)": f"{limits.rate_limit_max_connections}",
        "messages of one connection in 60 s": f"{limits.rate_limit_max_messages}",
        "one message": f"{limits.max_message >> 20} MiB",
        "fragments of one message": f"{limits.limits.websocket_fragments}",
        "addresses that one peer watches": f"{limits.max_watches:,}",
        "waiting for one peer": f"{limits.queue_bytes >> 20} MiB, {limits.queue_messages:,} messages",
        "accepted sockets": f"{limits.limits.connections:,}",
        "of those, not let in yet": f"{limits.limits.unproven_connections}",
        "HTTP head": f"{limits.limits.http_head >> 10} KiB, {limits.limits.http_timeout:g} s",
    }
    rows = dict(re.findall(r"^\| ([^|`]+) \| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE))
    assert {name: rows[name] for name in expected} == expected


async def test_metrics_that_pages_name_are_served() -> None:
    named = set(re.findall(r"`(trio_relay_ws_[a-z_]+)", SERVER.read_text(encoding="utf-8")))
    assert len(named) >= 8
    async with relaying() as relay:
        await relay.join("/pwa/alice123")
        served = (await ask(relay, "GET", "/metrics")).body.decode()
    assert [name for name in sorted(named) if f"# TYPE {name} " not in served] == []


async def test_sizes_of_a_client_are_in_the_reference() -> None:
    async with relaying() as relay, wsrelay.open_relay_client(relay.relay.urls[0], "pwa", "alice123") as client:
        assert set(client.statistics().sizes) == table_rows("Sizes of a relay client")


def test_events_of_a_client_are_on_its_page() -> None:
    named = set(columns(CLIENT.read_text(encoding="utf-8"), "event"))
    assert named == {f"`{kind.__name__}`" for kind in wsrelay.ClientEvent.__args__}
