"""``demo``, ``keygen`` and ``send``, and as processes what is about processes."""

from __future__ import annotations

import re
import signal
import stat
from pathlib import Path

import pytest
import trio

import trio_relay
from trio_relay.cli import main
from trio_relay.identity import Identity

from .support import DEADLINE, NOBODY, open_process, run_command, run_here

Capture = pytest.CaptureFixture[str]


def test_demo(capfd: Capture) -> None:
    assert main(["demo"]) == 0
    shown = capfd.readouterr()
    lines = shown.out.splitlines()
    assert shown.err == ""
    assert len([line for line in lines if "in the mailbox after 2 links" in line]) == 24
    assert lines[-1] == "24 of 24 messages arrived between peers that have no link with each other."


def test_keygen(tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "relay.pem"
    assert main(["keygen", str(path)]) == 0
    assert capfd.readouterr() == (Identity.load(path).id.hex() + "\n", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keygen_overwrites_only_by_force(tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "relay.pem"
    Identity.generate().save(path)
    before = path.read_bytes()
    assert main(["keygen", str(path)]) == 2
    assert capfd.readouterr().err == f"trio-relay: {path} exists; --force overwrites it\n"
    assert path.read_bytes() == before
    assert main(["keygen", "--force", str(path)]) == 0
    assert capfd.readouterr().out == Identity.load(path).id.hex() + "\n"
    assert path.read_bytes() != before


async def test_send() -> None:
    async with trio_relay.open_node() as receiver:
        finished = await run_command("send", "--bootstrap", *receiver.urls, receiver.id.hex(), "hello")
        with trio.fail_after(DEADLINE):
            assert (await receiver.receive()).data == "hello"
    assert finished.stderr == b""
    assert re.fullmatch(rf"delivered to {receiver.id.hex()} over 1 links in [0-9.]+ ms\n", finished.stdout.decode())
    assert finished.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "data"), [(['{"a":[1,null]}', "--json"], {"a": [1, None]}), (["--", "-1"], "-1")]
)
async def test_send_of_other_data(arguments: list[str], data: object, capfd: Capture) -> None:
    async with trio_relay.open_node() as receiver:
        assert await run_here("send", "--bootstrap", *receiver.urls, receiver.id.hex(), *arguments) == 0
        with trio.fail_after(DEADLINE):
            assert (await receiver.receive()).data == data
    assert capfd.readouterr().err == ""


async def test_send_to_a_peer_that_nobody_knows(capfd: Capture) -> None:
    async with trio_relay.open_node() as relay:
        assert await run_here("send", "--bootstrap", *relay.urls, NOBODY, "hello", "--timeout", "0.1") == 1
    shown = capfd.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"trio-relay: (not delivered|not confirmed, it may have arrived): .+\n", shown.err)


def test_send_without_a_way_into_the_network(capfd: Capture) -> None:
    assert main(["send", "--bootstrap", "ws://127.0.0.1:1", NOBODY, "hello", "--timeout", "0.1"]) == 1
    assert capfd.readouterr() == (
        "",
        "trio-relay: not delivered: no link with ws://127.0.0.1:1 within 0.1 s; --verbose says why\n",
    )


async def test_interrupted_send_says_nothing() -> None:
    async with open_process("send", "--verbose", "--bootstrap", "ws://127.0.0.1:1", NOBODY, "hello") as process:
        assert process.stderr is not None
        with trio.fail_after(DEADLINE):
            logged = b""
            while not logged.endswith(b"\n"):  # it runs, and has tried
                logged += await process.stderr.receive_some()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
            logged += b"".join([data async for data in process.stderr])
    assert re.fullmatch(r"(.* bootstrap link with ws://127.0.0.1:1 failed: .* Connection refused\n)+", logged.decode())


async def test_nobody_reads_the_output(tmp_path: Path) -> None:
    async with open_process("keygen", str(tmp_path / "key.pem")) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdout.aclose()
        with trio.fail_after(DEADLINE):
            assert await process.wait() == 1
            assert b"".join([data async for data in process.stderr]) == b""
