"""The page about PeerJS in Python against a broker and peers on this machine: what it shows is executed.

The name `peer` is an open peer with the id ``alice``; ``bob`` sends back what it gets, and answers calls. The example
`peerjs_echo.py` runs as a process, and the protocol's vectors are compared with the code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio_asyncio
from aiortc.mediastreams import AudioStreamTrack

import trio_relay
from trio_relay import WebRTCConfig, peerjs

from .documents import PEER_PAGE
from .test_docs_python import DEADLINE, executed, run_blocks
from .test_docs_tutorial import read_lines, running

TEXT: Final = PEER_PAGE.read_text(encoding="utf-8")
CLASSES: Final[Mapping[str, type]] = {
    "peer": peerjs.Peer,
    "connection": peerjs.DataConnection,
    "call": peerjs.MediaConnection,
    "error": peerjs.PeerError,
}


async def echo(connection: peerjs.DataConnection) -> None:
    with suppress(trio.BrokenResourceError):
        async for value in connection:
            await connection.send(value)


async def be_bob(bob: peerjs.Peer) -> None:
    async with trio.open_nursery() as nursery:
        async for connection in bob:
            if isinstance(connection, peerjs.DataConnection):
                nursery.start_soon(echo, connection)
            else:
                nursery.start_soon(connection.answer, [AudioStreamTrack()])


async def run_page(names: dict[str, Any]) -> None:
    async with trio.open_nursery() as nursery, trio_asyncio.open_loop():
        config = peerjs.BrokerConfig(listen="127.0.0.1:0", expire_timeout=0.1, cleanup_interval=0.1)
        broker: peerjs.Broker = await nursery.start(peerjs.serve_broker, config)
        port = broker.addresses[0].rpartition(":")[2]
        local = f'host="127.0.0.1", port={port}'
        async with (
            peerjs.open_peer("alice", host="127.0.0.1", port=int(port), config=WebRTCConfig()) as peer,
            peerjs.open_peer("bob", host="127.0.0.1", port=int(port), config=WebRTCConfig()) as bob,
        ):
            nursery.start_soon(be_bob, bob)
            names |= {"trio": trio, "trio_relay": trio_relay, "peerjs": peerjs, "peer": peer, "recorded": recorded}
            replaced = {'host="broker.example.org", port=9000': local, "trio.sleep(10)": "recorded()"}
            replaced['"host": "broker.example.org", "port": 9000'] = f'"host": "127.0.0.1", "port": {port}'
            await run_blocks(executed(PEER_PAGE).snippets, names, replaced)
            await send_a_file(names["send_file"], peer)
        await broker.aclose()
        nursery.cancel_scope.cancel()


async def recorded() -> None:
    """Returns when aiortc has begun the file."""
    while not Path("bob.wav").exists():  # noqa: ASYNC240 - another library writes it
        await trio.sleep(0.01)


async def send_a_file(send_file: Any, peer: peerjs.Peer) -> None:
    path = trio.Path("notes.txt")
    await path.write_bytes(b"a line\n" * 20_000)
    await send_file(peer, "bob", path)


async def test_what_the_page_shows_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = executed(PEER_PAGE)
    assert len(found.snippets) > 8
    assert not found.programs
    with trio.fail_after(DEADLINE):
        await run_page({})
    assert capsys.readouterr().out.splitlines() == [
        "{'text': 'hello', 'bytes': b'\\x00\\x01'} from bob",
        "[0, 1, 2]",
        "5000",
        "audio 48000",
        "registered as alice",
        "hello over webrtc",
        "peer-unavailable",
    ]
    assert (tmp_path / "bob.wav").stat().st_size > 1000


async def test_the_example_sends_back() -> None:
    with running("python docs/examples/peerjs_echo.py 127.0.0.1:0") as process:
        said = await trio.to_thread.run_sync(read_lines, process, 1)
        port = int(said.strip().rpartition(":")[2].rstrip("/"))
        with trio.fail_after(DEADLINE):
            async with peerjs.open_peer(host="127.0.0.1", port=port, config=WebRTCConfig()) as peer:
                connection = await peer.connect("echo", reliable=True)
                await connection.send({"at": [1, 2, 3]})
                assert await connection.receive() == {"at": [1, 2, 3]}


# What must be on the page


def rows_of(head: str) -> list[list[str]]:
    """The cells of the rows of the table with this head."""
    table = TEXT[TEXT.index(f"| {head} |") :].partition("\n\n")[0]
    return [re.split(r" *\| *", line)[1:-1] for line in table.splitlines()[2:]]


def test_names_that_stand_for_those_of_the_original_exist() -> None:
    named = [found for _, ours in rows_of("`peerjs`") for found in re.findall(r"\b(peer|connection|call)\.(\w+)", ours)]
    assert len(named) == 19
    assert [(kind, name) for kind, name in named if not hasattr(CLASSES[kind], name)] == []


def test_names_that_stay_the_same_exist() -> None:
    same = [
        (re.findall(r"(?<=[.`])(\w+)(?=`|\()", theirs), theirs)
        for theirs, ours in rows_of("`peerjs`")
        if ours.startswith("the same")
    ]
    assert len(same) == 4
    for names, theirs in same:
        if theirs.startswith("options"):
            assert set(names) <= set(peerjs.PeerOptions.__dataclass_fields__), theirs
        else:
            owner = peerjs.DataConnection if theirs.startswith("`connection") else peerjs.Peer
            assert [name for name in names if name != "options" and not hasattr(owner, name)] == [], theirs


def test_every_name_of_the_original_is_in_the_table() -> None:
    theirs = " ".join(row[0] for row in rows_of("`peerjs`"))
    peer = "id open disconnected destroyed options connect call disconnect reconnect destroy listAllPeers"
    connection = "open close send bufferSize dataChannel peerConnection label metadata serialization reliable type"
    media = "answer localStream remoteStream"
    events = '"open" "connection" "call" "disconnected" "error" "close" "data" "stream" "willCloseOnRemote"'
    wanted = f"{peer} getConnection connections {connection} connectionId {media} {events}".split()
    assert [name for name in wanted if name not in theirs] == []
