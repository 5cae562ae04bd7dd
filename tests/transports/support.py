"""Servers, clients and certificates that the tests of this folder share."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
import trustme

from trio_relay.limits import Limits
from trio_relay.transports.admission import Admission, TransportStatistics
from trio_relay.transports.connection import Connection
from trio_relay.transports.http import serve_http
from trio_relay.transports.routes import Request, Response, Route

LIMITS = Limits()


@dataclass(frozen=True)
class Served:
    """A running server."""

    bound: list[str]
    admission: Admission

    @property
    def url(self) -> str:
        return f"ws://{self.bound[0]}"

    @property
    def port(self) -> int:
        return int(self.bound[0].rpartition(":")[2])


async def echo(connection: Connection, request: Request | None) -> None:
    while messages := await connection.receive():
        for message in messages:
            if isinstance(message, str):
                await connection.send([message.encode()], text=True)
            else:
                await connection.send([message])
        await connection.flush()


async def hello(request: Request) -> Response:
    return Response.text(200, f"{request.method} {request.path} {request.query}".strip())


ROUTES = (Route("/", upgrade=echo), Route("/hello", respond=hello), Route("/both", respond=hello, upgrade=echo))


@asynccontextmanager
async def serving(
    routes: Sequence[Route] = ROUTES,
    *,
    listen: str | Sequence[str] = "127.0.0.1:0",
    limits: Limits = LIMITS,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Served]:
    """A server for the time of the block."""
    admission = Admission(limits, TransportStatistics())

    async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:
        await serve_http(listen, routes, limits=limits, admission=admission, tls=tls, task_status=task_status)

    async with trio.open_nursery() as nursery:
        bound: list[str] = await nursery.start(serve)
        yield Served(bound, admission)
        nursery.cancel_scope.cancel()


@dataclass(frozen=True)
class Authority:
    """A certificate authority, a server's context with a certificate of it, and a client's that trusts it."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def make_authority(*names: str) -> Authority:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Authority(server, client)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    async for chunk in stream:
        data += chunk
    return data


async def take(connection: Connection) -> list[bytes | str]:
    """What `receive` returns, comparable with bytes."""
    return [message if isinstance(message, str) else bytes(message) for message in await connection.receive()]
