"""``serve`` as a process: one port, signals, logs."""

from __future__ import annotations

import json
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

import trio_relay
from trio_relay.cli import main

from ..wsrelay.support import Client, Clients, routed
from .support import DEADLINE, open_process, run_command
from .test_tls import Files

RELAY: Final = """\
[server]
listen = "127.0.0.1:0"
{server}
[relay]
channels = ["pwa"]
drain_timeout = {drain}
rate_limit_max_messages = {messages}
[relay.keys]
file = "keys.txt"
[limits]
close_timeout = 0.5
[log]
json = true
"""
ALICE, BOB, CAROL = "pwa:alice123", "pwa:bobbobbob", "pwa:carol123"


class Server(Clients):
    """``serve``, and clients of it.

    Attributes:
        url: where it listens.
        log: lines that were read while another was waited for.
    """

    url: str

    def __init__(self, nursery: trio.Nursery, process: trio.Process, tls: ssl.SSLContext | None) -> None:
        super().__init__(nursery, self._open)
        assert process.stderr is not None
        self.process: Final = process
        self.log: Final[list[dict[str, Any]]] = []
        self._errors: Final = process.stderr
        self._read: Final = bytearray()
        self._tls: Final = tls

    async def _open(self) -> trio.abc.Stream:
        host, _, port = self.url.partition("://")[2].rpartition(":")
        if self._tls is None:
            return await trio.open_tcp_stream(host, int(port))
        return await trio.open_ssl_over_tcp_stream(host, int(port), ssl_context=self._tls, https_compatible=True)

    async def said(self, event: str) -> dict[str, Any]:
        """The next line of the log about this; every line has to be JSON."""
        for position, line in enumerate(self.log):
            if line.get("event") == event:
                return self.log.pop(position)
        with trio.fail_after(DEADLINE):
            while (line := await self._line()).get("event") != event:
                self.log.append(line)
        return line

    async def _line(self) -> dict[str, Any]:
        while b"\n" not in self._read:
            data = await self._errors.receive_some()
            assert data, f"the log ended after {self.log}"
            self._read.extend(data)
        line, _, rest = bytes(self._read).partition(b"\n")
        self._read[:] = rest
        value: dict[str, Any] = json.loads(line)
        assert value["time"].endswith("Z")
        assert value["logger"].startswith("trio_relay")
        return value

    async def rest(self) -> str:
        """What it says to its end."""
        with trio.fail_after(DEADLINE):
            return bytes(self._read).decode() + b"".join([data async for data in self._errors]).decode()

    async def get(self, path: str) -> Any:
        """A page of JSON."""
        answer = await self.request(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        with trio.fail_after(DEADLINE):
            return await self.process.wait()


@asynccontextmanager
async def serving(*arguments: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery, open_process("serve", *arguments) as process:
        server = Server(nursery, process, tls)
        server.url = (await server.said("listening"))["urls"][0]
        try:
            yield server
        finally:
            await server.abort()
        nursery.cancel_scope.cancel()


def write(folder: Path, *keys: str, messages: int = 1000, drain: float = 0.05, server: str = "") -> str:
    """A configuration and its key file; returns the path of the former."""
    (folder / "keys.txt").write_text("".join(f"{key}\n" for key in keys))
    (folder / "relay.toml").write_text(RELAY.format(messages=messages, drain=drain, server=server))
    return str(folder / "relay.toml")


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """Processes that are started may open few files, unless they ask for more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def ask(sender: Client, sent_by: str, to: str, receiver: Client) -> None:
    """A message gets through."""
    await sender.send(routed(sent_by, to, "hello"))
    assert await receiver.receive() == routed(sent_by, to, "hello")


async def test_the_whole_life_of_a_server(tmp_path: Path) -> None:
    config = write(tmp_path, "first-key", "other-key")
    async with serving("--config", config) as server:
        # One port for a peer of the overlay, clients of the relay, and pages.
        async with trio_relay.open_node(None, [server.url]) as peer:
            with trio.fail_after(DEADLINE):
                await peer.wait_linked()
            alice = await server.join("/pwa/alice123?key=first-key")
            bob = await server.join("/pwa/bobbobbob?key=other-key")
            await ask(alice, ALICE, BOB, bob)
            health = await server.get("/health")
            assert health["connections"] == {"pwa": {"active": 2, "peak": 2}}
            assert (health["overlay"]["id"], health["overlay"]["links"]) == (next(iter(peer.links)).hex(), 1)
        # Another key file, other limits: alice stays, bob's key is gone.
        write(tmp_path, "first-key", "third-key", messages=1)
        server.process.send_signal(signal.SIGHUP)
        assert (await server.said("reload"))["changed"] == ["relay.rate_limit_max_messages"]
        assert (await bob.end())[1] == 1008
        carol = await server.connect("/pwa/carol123?key=third-key")
        await ask(carol, CAROL, ALICE, alice)
        await carol.send(routed(CAROL, ALICE))
        assert (await carol.receive())["payload"]["code"] == "RATE_LIMITED"
        # A bad configuration and bad keys change nothing.
        write(tmp_path, "first-key", "third-key", server="tls_cert = 1")
        server.process.send_signal(signal.SIGHUP)
        assert (
            "server.tls_cert: expected a string, not a whole number" in (await server.said("reload_failed"))["message"]
        )
        write(tmp_path, "bad key", server='tls_cert = "x"')
        server.process.send_signal(signal.SIGHUP)
        assert "--tls-cert and --tls-key together" in (await server.said("reload_failed"))["message"]
        # What can not be changed is named, and stays.
        write(tmp_path, "bad key", server="[overlay]\nlegacy = true")
        server.process.send_signal(signal.SIGHUP)
        assert (await server.said("reload_kept"))["kept"] == ["overlay.legacy"]
        await server.join("/pwa/dave1234?key=first-key")
        # The end.
        assert await server.stop() == 0
        frames, code, _ = await alice.end()
        assert (frames[-1]["payload"]["code"], code) == ("SHUTTING_DOWN", 1001)
        said = [json.loads(line) for line in (await server.rest()).splitlines()]
        assert [line["event"] for line in said if "event" in line] == ["draining", "closed"]
        everything = json.dumps([server.log, said])
        assert "-key" not in everything.replace("tls-key", "")
        assert "line 1" in everything  # of the bad key file


async def test_tls_and_ctrl_c(tmp_path: Path) -> None:
    files = Files(tmp_path)
    first = files.issue()
    client = ssl.create_default_context(cafile=files.ca)
    config = write(tmp_path, "first-key", server='tls_cert = "chain.pem"\ntls_key = "key.pem"')
    async with serving("--config", config, "--no-overlay", tls=client) as server:
        assert server.url.startswith("wss://127.0.0.1:")
        alice = await server.join("/pwa/alice123?key=first-key")
        assert await served_certificate(server) == first
        second = files.issue()
        server.process.send_signal(signal.SIGHUP)
        await server.said("certificate")
        await server.said("reload")
        assert await served_certificate(server) == second
        files.key.write_bytes(b"not a key")
        server.process.send_signal(signal.SIGHUP)
        assert "certificate not reloaded: can't load" in (await server.said("reload_failed"))["message"]
        assert (await server.said("reload"))["changed"] == []
        assert await served_certificate(server) == second
        assert await alice.settle() == []
        assert await server.stop(signal.SIGINT) == 130


async def served_certificate(server: Server) -> bytes:
    """The certificate that a client gets, in DER form."""
    async with await server._open() as stream:
        assert isinstance(stream, trio.SSLStream)
        await stream.do_handshake()
        certificate: bytes = stream.getpeercert(binary_form=True)
        return certificate


async def test_a_second_signal_ends_at_once(tmp_path: Path, few_descriptors: None) -> None:
    config = write(tmp_path, "first-key", drain=1000)
    async with serving("--config", config, "--no-overlay", "--limit", "connections=400") as server:
        assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0] == 528
        alice = await server.join("/pwa/alice123?key=first-key")
        server.process.send_signal(signal.SIGTERM)
        assert (await alice.receive())["payload"]["code"] == "SHUTTING_DOWN"
        server.process.send_signal(signal.SIGHUP)  # too late to matter
        assert (await server.said("draining"))["peers"] == 1
        assert await server.stop(signal.SIGINT) == -signal.SIGINT
        assert (await alice.end())[1] == 1006


async def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        finished = await run_command("serve", "--channel", "pwa", "--open", "--listen", taken)
    assert (finished.returncode, finished.stdout) == (2, b"")
    assert finished.stderr.decode() == f"trio-relay: can't listen on {taken}: Address already in use\n"


def test_who_may_use_it_has_to_be_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--channel", "pwa"]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    fault = "expected a decision on who may use the relay: --key-file FILE or --key-env VARIABLE "
    assert shown.err.startswith(f"trio-relay: {fault}")
    assert shown.err.count("\n") == 1
