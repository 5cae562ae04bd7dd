"""Requests over streams in memory, to servers that answer as a test says."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.limits import Limits
from trio_relay.transports.http_client import HttpConnection

OK = b"HTTP/1.1 200 OK\r\n"


def connection() -> tuple[HttpConnection, trio.StapledStream[Any, Any]]:
    ours, theirs = memory_stream_pair()
    return HttpConnection(ours, "host:80", Limits()), theirs


async def said(answer: bytes) -> HttpConnection:
    """A connection on which the server has said something already, and nothing more."""
    client, theirs = connection()
    await theirs.send_all(answer)
    await theirs.send_stream.aclose()
    return client


async def ask(client: HttpConnection) -> bytes:
    await client.request("GET", "/")
    return await client.read_all(10)


async def test_one_request_after_another() -> None:
    client, theirs = connection()
    await theirs.send_all(b"HTTP/1.1 103 Early\r\n\r\n" + OK + b"x-a: 1\r\nX-A: 2\r\ncontent-length: 2\r\n\r\nab")
    answer = await client.request("GET", "/one", ((b"accept", b"*/*"),))
    assert (answer.status, answer.header(b"x-a"), answer.header(b"x-b")) == (200, "1, 2", "")
    assert await client.read_all(2) == b"ab"
    assert await client.drain()
    assert await theirs.receive_some() == b"GET /one HTTP/1.1\r\nhost: host:80\r\naccept: */*\r\n\r\n"
    await theirs.send_all(OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")
    await client.request("POST", "/two", (), b"body")
    assert await theirs.receive_some() == b"POST /two HTTP/1.1\r\nhost: host:80\r\ncontent-length: 4\r\n\r\nbody"
    assert await client.read() == b"abc"
    assert await client.read() == b""
    assert await client.drain()


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"connection: close\r\ncontent-length: 1\r\n\r\na",
        OK + b"content-length: 1\r\n\r\naHTTP/1.1 200 OK\r\n",
        OK + b"content-length: 100000\r\n\r\n" + bytes(100_000),
        OK + b"\r\na",
    ],
)
async def test_no_request_may_follow(answer: bytes) -> None:
    client = await said(answer)
    await client.request("GET", "/")
    assert not await client.drain()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        OK + b"a: " + bytes(b"b" * 40_000),
        OK + b"content-length: 3\r\n\r\nab",
        OK + b"transfer-encoding: chunked\r\n\r\n" + b"1" * 100,
        OK + b"content-length: 11\r\n\r\n" + bytes(11),
    ],
)
async def test_answers_that_are_none(answer: bytes) -> None:
    client = await said(answer)
    with pytest.raises(RemoteProtocolError, match="expected an"):
        await ask(client)


async def test_a_server_that_refuses_before_it_has_read_all() -> None:
    client, theirs = connection()
    await theirs.send_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
    theirs.receive_stream.close()
    assert (await client.request("POST", "/", (), b"body")).status == 413
    assert not await client.drain()


async def test_a_connection_that_breaks() -> None:
    client, theirs = connection()
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await client.request("GET", "/")
    client.close()
    client.close()
    assert not client.stale
