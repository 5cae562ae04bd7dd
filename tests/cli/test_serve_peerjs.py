"""``serve --peerjs`` as a process, under what the npm package `peerjs` 1.5.5 sends, byte for byte."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Final

import pytest

from trio_relay.cli import main

from .test_serve import Server, serving

UUID: Final = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OFFER: Final = (
    '"payload":{"sdp":{"type":"offer","sdp":"v=0\\r\\n"},"type":"data","connectionId":"dc_k3x9a1b2c3",'
    '"metadata":{"a":1},"label":"dc_k3x9a1b2c3","reliable":false,"serialization":"binary"}'
)
ANSWER: Final = '"payload":{"sdp":{"type":"answer","sdp":"v=0\\r\\n"},"type":"data","connectionId":"dc_k3x9a1b2c3"}'
CANDIDATE: Final = (
    '"payload":{"candidate":{"candidate":"candidate:1 1 udp 1 192.0.2.1 1 typ host","sdpMid":"0","sdpMLineIndex":0,'
    '"usernameFragment":"abcd"},"type":"data","connectionId":"dc_k3x9a1b2c3"}'
)


async def ask(server: Server, path: str) -> tuple[bytes, bytes]:
    """Status line and headers in lower case, and the body, as a page of another site gets them."""
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example.org\r\nConnection: close\r\n\r\n"
    answer = await server.request(head.encode())
    told, _, body = answer.partition(b"\r\n\r\n")
    return told.lower(), body


async def test_an_unchanged_application(tmp_path: Path) -> None:
    arguments = ("--listen", "127.0.0.1:0", "--no-overlay", "--peerjs", "--log-json", "--limit", "close_timeout=0.1")
    async with serving(*arguments) as server:
        # What `new Peer()` does, with the options host and port alone.
        head, given = await ask(server, "/peerjs/id?ts=17000000000000.123&version=1.5.5")
        assert UUID.fullmatch(given)
        assert head.startswith(b"http/1.1 200 ")
        assert b"access-control-allow-origin: https://app.example.org" in head
        me = given.decode()
        alice = await server.connect(f"/peerjs?key=peerjs&id={me}&token=x1y2z3&version=1.5.5")
        assert await alice.frame() == '{"type":"OPEN"}'
        bob = await server.connect("/peerjs?key=peerjs&id=bob&token=abcdef&version=1.5.5")
        assert await bob.frame() == '{"type":"OPEN"}'
        # What `connect` does, and the `connection` at the other end.
        await alice.send('{"type":"HEARTBEAT"}')
        await alice.send(f'{{"type":"OFFER",{OFFER},"dst":"bob"}}', f'{{"type":"CANDIDATE",{CANDIDATE},"dst":"bob"}}')
        assert await bob.frame() == f'{{"type":"OFFER","src":"{me}","dst":"bob",{OFFER}}}'
        assert await bob.frame() == f'{{"type":"CANDIDATE","src":"{me}","dst":"bob",{CANDIDATE}}}'
        await bob.send(f'{{"type":"ANSWER",{ANSWER},"dst":"{me}"}}')
        assert await alice.frame() == f'{{"type":"ANSWER","src":"bob","dst":"{me}",{ANSWER}}}'
        # An id that is taken.
        other = await server.connect("/peerjs?key=peerjs&id=bob&token=another&version=1.5.5")
        assert (await other.end())[:2] == ([{"type": "ID-TAKEN", "payload": {"msg": "ID is taken"}}], 1005)
        assert await server.stop() == 0
        assert (await alice.end())[0] == []


async def test_options_and_a_file(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    text = 'overlay = false\nserver.listen = "127.0.0.1:0"\nlog.json = true\nlimits.close_timeout = 0.1\n'
    text += "peerjs = {{expire_timeout = {}, cleanup_interval = 0.05}}\n"
    config.write_text(text.format(0.2))
    arguments = ("--config", str(config), "--peerjs-path", "/myapp", "--peerjs-key", "k", "--peerjs-discovery")
    async with serving(*arguments) as server:
        alice = await server.connect("/myapp/peerjs?key=k&id=alice&token=t&version=1.5.5")
        assert await alice.frame() == '{"type":"OPEN"}'
        assert (await ask(server, "/myapp/k/peers"))[1] == b'["alice"]'
        await alice.send(f'{{"type":"OFFER",{OFFER},"dst":"nobody"}}')
        assert await alice.frame() == '{"type":"EXPIRE","src":"nobody","dst":"alice"}'
        config.write_text(text.format(1).replace("{", "{max_id = 20, max_message = 1000, "))
        server.process.send_signal(signal.SIGHUP)
        assert (await server.said("reload"))["changed"] == ["peerjs.expire_timeout", "peerjs.max_id"]
        assert (await server.said("reload_kept"))["kept"] == ["peerjs.max_message"]
        assert await server.stop() == 0
        assert (await server.said("draining"))["peerjs"] == 1


def test_a_wrong_value_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--peerjs-path", "myapp"]) == 2
    fault = "argument --peerjs-path: expected a path like / or /myapp, not 'myapp'"
    assert capsys.readouterr().err == f"trio-relay: {fault}; see trio-relay serve --help\n"
