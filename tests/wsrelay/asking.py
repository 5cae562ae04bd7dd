"""Plain HTTP requests to a relay server of a test."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import trio

from .support import PATIENCE, Clients

CORS = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, PUT, DELETE, OPTIONS"),
    ("access-control-allow-headers", "Content-Type"),
]
JSON = ("content-type", "application/json")


class Answer(NamedTuple):
    """A response; its headers without those that every server adds."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


def request(method: str, target: str, *headers: str, body: bytes | None = None) -> bytes:
    """A request after which the connection ends; `Host` is that of this machine unless it is given."""
    lines = [f"{method} {target} HTTP/1.1", *headers, "Connection: close"]
    if not any(header.lower().startswith("host:") for header in headers):
        lines.append("Host: 127.0.0.1")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def parse(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
    kept = [header for header in headers if header[0] not in ("date", "content-length", "connection")]
    return Answer(int(first.split(" ")[1]), kept, body)


async def ask(clients: Clients, method: str, target: str, *headers: str, body: bytes | None = None) -> Answer:
    """One request on a connection of its own."""
    async with await clients._dial() as stream:
        await stream.send_all(request(method, target, *headers, body=body))
        return await read_answer(stream)


async def read_answer(stream: trio.abc.ReceiveStream) -> Answer:
    """What a server says until it ends the stream."""
    data = b""
    with trio.fail_after(2 * PATIENCE):
        while chunk := await stream.receive_some():
            data += bytes(chunk)
    return parse(data)
