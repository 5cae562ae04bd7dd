"""The pages about Peerix rooms: what they show is executed, and every name of the original has ours.

The name `driver` is a driver, `room` a room over it; ``bob`` is in each room of that name, and sends back what he gets.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import trio
import trio.testing
from aiortc.mediastreams import AudioStreamTrack

import trio_relay
from trio_relay import peerix
from trio_relay.cli.room_arguments import FAMILIES
from trio_relay.exceptions import TransferFailure

from .documents import DOCS, ROOM_PAGE
from .test_docs_python import DEADLINE, executed, run_blocks

TEXT: Final = ROOM_PAGE.read_text(encoding="utf-8")


async def answer(message: peerix.Message, room: peerix.Room) -> None:
    with suppress(peerix.TransferFailed):
        value = await message.read()
        room.members[message.member].send(value, label=message.label, info=message.info)


@asynccontextmanager
async def bob_in(driver: peerix.Driver) -> AsyncIterator[None]:
    """Somebody who sends back what he gets, and shares silence with whoever shares something."""
    async with (
        peerix.open_room("friends", driver=driver, metadata={"name": "bob"}) as room,
        trio.open_nursery() as nursery,
    ):

        async def talk() -> None:
            async for message in room:
                nursery.start_soon(answer, message, room)

        async def share() -> None:
            async with room.events() as events:
                async for event in events:
                    if isinstance(event, peerix.StreamAdded) and event.member is not None:
                        room.share(AudioStreamTrack(), label="music")

        nursery.start_soon(talk)
        nursery.start_soon(share)
        yield
        nursery.cancel_scope.cancel()


async def run_page() -> None:
    async with trio_relay.open_node() as relay, peerix.MemoryDriver() as driver, bob_in(driver):
        names: dict[str, Any] = {"trio": trio, "trio_relay": trio_relay, "peerix": peerix, "driver": driver}
        urls = {"ws://relay.example.org:9001": relay.urls[0]}
        first, *others = executed(ROOM_PAGE).snippets
        await run_blocks([first], names, urls)
        async with peerix.open_room("friends", driver=driver, metadata={"name": "alice"}) as room:
            room.open_channel()
            await room.wait_members()
            await run_blocks(others, names | {"room": room}, urls)


async def test_what_the_page_shows_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    await trio.Path("notes.txt").write_bytes(b"a line\n" * 20_000)
    found = executed(ROOM_PAGE)
    assert len(found.snippets) > 12
    assert not found.programs
    with trio.fail_after(DEADLINE):
        await run_page()
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\w{4} has 140000 of 140000 bytes", [line for line in said if " of 140000 " in line][-1])
    assert [line for line in said if " of 140000 " not in line] == [
        "{'text': 'hello'} from bob",
        "True",
        "True",
        "bob music audio 48000",
        "something of my own",
        "0 2",
        "welcomed carol",
        "disconnected",
        "1",
    ]
    assert sorted([(await path.stat()).st_size for path in await trio.Path(tmp_path).glob("*.bin")]) == [6, 140_000]


# What must be in the reference

REFERENCE: Final = (DOCS / "reference" / "peerix.md").read_text(encoding="utf-8")
CLASSES: Final = {
    "room": peerix.Room,
    "member": peerix.Member,
    "message": peerix.Message,
    "transfer": peerix.Transfer,
}


def rows() -> list[list[str]]:
    """The cells of the table from the original's names to ours."""
    table = REFERENCE[REFERENCE.index("| Peerix 0.7 | before | here |") :].partition("\n\n")[0]
    return [re.split(r" *\| *", line)[1:-1] for line in table.splitlines()[2:]]


def test_names_that_stand_for_those_of_the_original_exist() -> None:
    kinds = "|".join(CLASSES)
    named = [pair for row in rows() for pair in re.findall(rf"`(?:await )?({kinds})\.(\w+)", row[2])]
    assert len(named) > 30
    source = {kind: inspect.getsource(sys.modules[of.__module__]) for kind, of in CLASSES.items()}
    unknown = [pair for pair in named if not hasattr(CLASSES[pair[0]], pair[1])]
    assert [pair for pair in unknown if f"self.{pair[1]}: " not in source[pair[0]]] == []
    classes = {name for row in rows() for name in re.findall(r"`([A-Z]\w+)[`(]", row[2])}
    assert sorted(classes - {*peerix.__all__, "IceServer"}) == []
    options = {name for row in rows() for name in re.findall(r"`(\w+)=", row[2])}
    known = {*inspect.signature(peerix.open_room).parameters, *inspect.signature(peerix.Room.send).parameters}
    assert sorted(options - known - {"managed"}) == []


def test_every_name_of_the_original_is_in_the_table() -> None:
    today = " ".join(row[0] for row in rows())
    options = "driver iceServers iceTransportPolicy iceCandidateDebounce connectionTimeout namespaceHashing"
    options += " signalingCompression signalingEncryption verify id"
    room = "active me peers addons join leave share unshare open close send attach detach on once off emit toJSON"
    peer = "metadata state connection streams channels signal dispose"
    events = "connection:new connecting connected disconnected failed closed channel:new message error"
    events += " stream:add stream:remove track:add track:remove"
    others = "PeerixError Addon Driver MemoryDriver NatsDriver MqttDriver SseDriver SocketIoDriver"
    others += " BroadcastChannelDriver CentrifugeDriver SupabaseDriver TransferProgress audioParameters videoParameters"
    assert [name for name in f"{options} {room} {peer} {events} {others}".split() if name not in today] == []
    before = " ".join(row[1] for row in rows())
    words = ("RemotePeer", "connections", "room", "remote", "local:join", "opposite")
    assert [word for word in words if word not in before] == []


def test_reasons_of_failures_are_explained() -> None:
    table = TEXT[TEXT.index("| `TransferFailed.reason` |") :].partition("\n\n")[0]
    named = {name for line in table.splitlines()[2:] for name in re.findall(r"`([a-z-]+)`", line.split(" | ")[0])}
    assert named == set(get_args(TransferFailure))


def test_every_driver_is_on_the_page() -> None:
    table = TEXT[TEXT.index("| driver | URL |") :].partition("\n\n")[0]
    for schemes in FAMILIES.values():
        assert [scheme for scheme in schemes if "+" not in scheme and f"`{scheme}://`" not in table] == []
