"""``/blob/{key}`` over HTTP: every row of the original, sizes, keys, floods, and stores that fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import h11
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_relay.wsrelay import (
    BlobConfig,
    BlobStatistics,
    BlobStoreBusy,
    BlobStoreError,
    BlobStoreFull,
    BlobTooLarge,
    MemoryBlobStore,
)

from .asking import CORS, JSON, Answer, ask, parse, read_answer, request
from .support import PATIENCE, relaying

KEY = "blob-key_1"
PATH = f"/blob/{KEY}"
OK = Answer(200, [JSON, *CORS], b'{"ok":true}')
NOT_FOUND = Answer(404, [JSON, *CORS], b'{"error":"Not found"}')
NO_PAGE = Answer(404, CORS, b"Not Found")
TOO_LARGE = Answer(413, [JSON, *CORS], b'{"error":"Blob exceeds max size (8192 bytes)"}')


def put(data: bytes, target: str = PATH, *headers: str) -> bytes:
    return request("PUT", target, *headers, body=data)


def error(status: int, text: str) -> Answer:
    return Answer(status, [JSON, *CORS], b'{"error":"%s"}' % text.encode())


# The original's rows


async def test_a_blob_is_put_got_and_deleted() -> None:
    async with relaying() as server:
        assert await ask(server, "GET", PATH) == NOT_FOUND
        assert await ask(server, "DELETE", PATH) == Answer(404, [JSON, *CORS], b'{"ok":false}')
        assert await ask(server, "PUT", PATH, body=b"one") == OK
        assert await ask(server, "PUT", PATH, body='sdp "ü€😀"\r\n\0'.encode()) == OK
        got = await ask(server, "GET", PATH)
        assert got == Answer(200, [JSON, *CORS], '{"data":"sdp \\"ü€😀\\"\\r\\n\\u0000"}'.encode())
        assert await ask(server, "HEAD", PATH) == Answer(200, [JSON, *CORS], b"")
        assert await ask(server, "GET", f"{PATH}?x=1") == got
        assert await ask(server, "GET", f"/blob/{KEY[:-1]}2") == NOT_FOUND
        assert await ask(server, "DELETE", PATH) == OK
        assert await ask(server, "HEAD", PATH) == Answer(404, [JSON, *CORS], b"")
        assert await ask(server, "PUT", PATH, body=b"") == OK
        assert (await ask(server, "GET", PATH)).json == {"data": ""}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize(
    "target",
    [
        "/blob",
        "/blob/",
        "/blob/short-7",
        f"/blob/{'k' * 65}",
        "/blob/blob.key.1",
        "/blob/blob%2Dkey1",
        f"/blob/{KEY}/",
        f"/blob/{KEY}/x",
        f"/blob//{KEY}",
        f"//blob/{KEY}",
        f"/blobs/{KEY}",
        f"/{KEY}",
        f"/x{PATH}",
        f"/BLOB/{KEY}",
    ],
)
async def test_where_no_blob_can_be(target: str, method: str) -> None:
    async with relaying(memory=True) as server:
        assert await ask(server, method, target, body=b"x" if method != "GET" else None) == NO_PAGE


@pytest.mark.parametrize("method", ["POST", "PATCH", "TRACE", "get"])
async def test_other_methods(method: str) -> None:
    async with relaying(memory=True) as server:
        answer = await ask(server, method, PATH)
        assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, PUT, DELETE, OPTIONS")
        assert answer.headers[-3:] == CORS


async def test_without_a_store_there_are_no_blobs() -> None:
    async with relaying(memory=True, blob_store=False) as server:
        for method in ("GET", "PUT", "DELETE", "POST"):
            assert await ask(server, method, PATH, body=b"x") == NO_PAGE


async def test_the_prefix_may_be_another() -> None:
    async with relaying(memory=True, blob_store=BlobConfig(route_prefix="/a/b")) as server:
        assert await ask(server, "PUT", f"/a/b/{KEY}", body=b"x") == OK
        assert await ask(server, "GET", PATH) == NO_PAGE


# Sizes


async def test_the_limit_is_bytes_and_inclusive() -> None:
    async with relaying() as server:
        assert await ask(server, "PUT", PATH, body=b"x" * 8193) == TOO_LARGE
        assert await ask(server, "PUT", PATH, body="é".encode() * 4096 + b"x") == TOO_LARGE
        assert await ask(server, "GET", PATH) == NOT_FOUND
        for data in (b"x" * 8192, "é".encode() * 4096):
            assert await ask(server, "PUT", PATH, body=data) == OK
            assert (await ask(server, "GET", PATH)).json == {"data": data.decode()}
        assert await server.counts("blob_too_large") == 2


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
async def test_a_blob_that_is_announced_too_large_is_refused_at_once(expect: tuple[str, ...]) -> None:
    head = put(b"", PATH, "Content-Length: 1000000000", *expect).replace(b"Content-Length: 0\r\n", b"")
    async with relaying() as server:
        assert parse(await server.request(head)) == TOO_LARGE


async def test_an_endless_blob_is_refused_after_the_limit() -> None:
    sent = 0

    async def flood(stream: trio.abc.SendStream) -> None:
        nonlocal sent
        try:
            while True:
                await stream.send_all(b"800\r\n" + bytes(2048) + b"\r\n")
                sent += 2048
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    head = request("PUT", PATH, "Transfer-Encoding: chunked")
    async with relaying() as server, trio.open_nursery() as nursery:
        host, _, port = server.relay.addresses[0].rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(head)
        nursery.start_soon(flood, stream)
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method="PUT", target=PATH, headers=[("host", "h"), ("transfer-encoding", "chunked")]))
        with trio.fail_after(PATIENCE):
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some()))
        assert isinstance(event, h11.Response)
        assert event.status_code == 413
        assert (b"connection", b"close") in event.headers
        assert await ask(server, "GET", PATH) == NOT_FOUND
        await stream.aclose()
    assert sent > 8192


@pytest.mark.parametrize("data", [b"\xff", b"ok\xc3", b"\xed\xa0\x80"])
async def test_a_blob_is_text(data: bytes) -> None:
    async with relaying(memory=True) as server:
        assert await ask(server, "PUT", PATH, body=data) == error(400, "Blob is not UTF-8")
        assert await ask(server, "GET", PATH) == NOT_FOUND
        assert await server.counts("blob_not_text") == 1


async def test_a_blob_that_does_not_come_whole_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    async with relaying() as server:
        host, _, port = server.relay.addresses[0].rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(put(b"0123456789")[:-5])
            await stream.send_eof()
            assert (await read_answer(stream)).status == 400
        assert await ask(server, "GET", PATH) == NOT_FOUND
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# Floods


async def test_a_flood_fills_the_store_and_nothing_else() -> None:
    store = BlobConfig(max_blobs=900, max_bytes=10_000, max_share=2000)
    async with relaying(memory=True, blob_store=store) as server:
        ours, http = await server._dial(), h11.Connection(h11.CLIENT)
        statuses = []
        for number in range(1000):
            target = f"/blob/flood-{number:04}"
            head = h11.Request(method="PUT", target=target, headers=[("host", "h"), ("content-length", "10")])
            data = [http.send(head), http.send(h11.Data(data=b"0123456789")), http.send(h11.EndOfMessage())]
            await ours.send_all(b"".join(piece for piece in data if piece))
            statuses.append(await next_response(ours, http))
        assert statuses == [(200, b'{"ok":true}')] * 900 + [(507, b'{"error":"Blob store is full"}')] * 100
        assert (await ask(server, "GET", "/blob/flood-0000")).json == {"data": "0123456789"}
        assert await ask(server, "PUT", "/blob/flood-0000", body=b"other") == OK
        assert await ask(server, "DELETE", "/blob/flood-0899") == OK
        assert await ask(server, "PUT", "/blob/flood-0999", body=b"fits now") == OK
        kept = server.relay.blob_store
        assert isinstance(kept, MemoryBlobStore)
        assert (await kept.stats()).entries == 900
        assert await server.counts("blob_store_full") == 100


async def test_one_address_has_a_quarter_of_the_store() -> None:
    full = error(507, "Too many blobs from this address")
    async with relaying(blob_store=BlobConfig(max_blobs=8), trusted_proxies=["127.0.0.1"]) as server:

        async def put_one(key: str, ip: str) -> Answer:
            return await ask(server, "PUT", f"/blob/{key}", f"X-Forwarded-For: {ip}", body=b"x")

        assert [await put_one(key, "192.0.2.1") for key in ("blob-one", "blob-two", "blob-two")] == [OK] * 3
        assert await put_one("blob-three", "192.0.2.1") == full
        assert await put_one("blob-three", "192.0.2.2") == OK
        assert await ask(server, "DELETE", "/blob/blob-one") == OK
        assert await put_one("blob-four", "192.0.2.1") == OK
        assert server.relay.statistics().counts["blob_share_full"] == 1


async def next_response(stream: trio.abc.ReceiveStream, http: h11.Connection) -> tuple[int, bytes]:
    status, body = 0, b""
    while not isinstance(event := http.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.Response):
            status = event.status_code
        else:
            assert isinstance(event, h11.Data)
            body += event.data
    http.start_next_cycle()
    return status, body


@pytest.mark.parametrize(("trusted", "room"), [([], 16), (["0.0.0.0/0", "::/0"], 64)])
async def test_uploads_at_the_same_time_are_bounded(trusted: list[str], room: int) -> None:
    """Of one address to a quarter; behind a proxy that is trusted, addresses are the clients'."""
    async with relaying(trusted_proxies=trusted) as server, trio.open_nursery() as nursery:
        host, _, port = server.relay.addresses[0].rpartition(":")
        slow = []
        for number in range(room):
            stream = await trio.open_tcp_stream(host, int(port))
            await stream.send_all(put(b"slow", PATH, f"X-Forwarded-For: 10.0.0.{number}", "Expect: 100-continue")[:-4])
            slow.append(stream)
        for stream in slow:  # each is being received now
            with trio.fail_after(PATIENCE):
                assert await stream.receive_some() == b"HTTP/1.1 100 \r\n\r\n"
        refused = await ask(server, "PUT", PATH, "X-Forwarded-For: 10.0.1.1", body=b"x")
        assert refused == Answer(503, [JSON, ("retry-after", "1"), *CORS], b'{"error":"Too many uploads at once"}')
        assert await ask(server, "GET", PATH) == NOT_FOUND
        for stream in slow:
            nursery.start_soon(finish, stream)
        while (await ask(server, "PUT", PATH, body=b"x")) != OK:
            pass
        assert await server.counts("blob_uploads_full") >= 1


async def finish(stream: trio.SocketStream) -> None:
    await stream.send_all(b"slow")
    assert await read_answer(stream) == OK
    await stream.aclose()


async def test_an_upload_that_breaks_off_gives_its_place_back() -> None:
    async with relaying() as server:
        host, _, port = server.relay.addresses[0].rpartition(":")
        for _ in range(2):
            for _ in range(16):
                stream = await trio.open_tcp_stream(host, int(port))
                await stream.send_all(put(b"slow")[:-1])
                await stream.aclose()
        while (await ask(server, "PUT", PATH, body=b"x")) != OK:
            pass
        for _ in range(20):
            assert await ask(server, "PUT", PATH, body=b"x" * 8193) == TOO_LARGE
        assert await ask(server, "PUT", PATH, body=b"x") == OK


# An access key


async def test_an_access_key_may_be_asked_for() -> None:
    keyed = [CORS[0], CORS[1], ("access-control-allow-headers", "Content-Type, Authorization")]
    refused = Answer(401, [JSON, ("www-authenticate", "Bearer"), *keyed], b'{"error":"Access key required"}')
    async with relaying(memory=True, blob_store=BlobConfig(access_key="the-blob-key"), admin_key="admin-key") as server:
        assert await ask(server, "OPTIONS", PATH) == Answer(204, keyed, b"")
        for method in ("GET", "PUT", "DELETE", "HEAD"):
            body = b"" if method == "HEAD" else refused.body
            assert await ask(server, method, PATH, body=b"x") == refused._replace(body=body)
            for wrong in ("?key=the-blob-ke", "?key=admin-key", "?other=the-blob-key"):
                assert (await ask(server, method, PATH + wrong, "Authorization: Bearer x")).status == 401
        assert await server.counts("refused_blob_key") == 16
        assert (await ask(server, "PUT", PATH, "Authorization: Bearer the-blob-key", body=b"x")).status == 200
        assert (await ask(server, "GET", f"{PATH}?key=the-blob-key")).json == {"data": "x"}
        assert await ask(server, "GET", "/blob/short") == NO_PAGE._replace(headers=keyed)


async def test_a_large_body_without_a_key_is_not_received() -> None:
    head = put(b"", PATH, "Content-Length: 1000000000").replace(b"Content-Length: 0\r\n", b"")
    async with relaying(blob_store=BlobConfig(access_key="the-blob-key")) as server:
        assert parse(await server.request(head)).status == 401


# Stores of the application's


class Store:
    """Raises whatever it was made with; has no bound of its own."""

    def __init__(self, failure: Exception | None = None, held: bytes | None = None) -> None:
        self.failure = failure
        self.held = held

    async def get(self, key: str) -> bytes | None:
        self._fail()
        return self.held

    async def put(self, key: str, data: bytes) -> None:
        self._fail()
        self.held = data

    async def delete(self, key: str) -> bool:
        self._fail()
        return self.held is not None

    async def stats(self) -> BlobStatistics:
        self._fail()
        return BlobStatistics(entries=1)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class SlowStore:
    """Never answers."""

    async def put(self, *arguments: object) -> Any:
        await trio.sleep_forever()

    get = delete = stats = put


FAILURES: list[tuple[Callable[[], Exception], Answer, str, bool]] = [
    (lambda: BlobTooLarge(5), error(413, "Blob exceeds max size (5 bytes)"), "blob_too_large", False),
    (lambda: ValueError("it exceeds max size"), error(413, "it exceeds max size"), "blob_too_large", False),
    (lambda: BlobStoreFull("at /var/blobs"), error(507, "Blob store is full"), "blob_store_full", False),
    (lambda: BlobStoreBusy("at /var/blobs"), error(503, "Blob store is busy"), "blob_store_busy", False),
    (lambda: BlobStoreError("at /var/blobs"), error(500, "Blob store failed"), "blob_store_failed", True),
    (lambda: OSError("at /var/blobs"), error(500, "Internal error"), "blob_store_failed", True),
    (lambda: trio.TooSlowError("x"), error(500, "Internal error"), "blob_store_failed", True),
    (lambda: ExceptionGroup("x", [ValueError("y")]), error(500, "Internal error"), "blob_store_failed", True),
]


@pytest.mark.parametrize(("failure", "answer", "counter", "logged"), FAILURES)
async def test_a_store_that_fails_costs_its_request_only(
    failure: Callable[[], Exception], answer: Answer, counter: str, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(failure())
    async with relaying(memory=True, blob_store=store) as server:
        for method in ("PUT", "GET", "DELETE"):
            assert await ask(server, method, PATH, body=b"x" if method == "PUT" else None) == answer
        assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3 * logged
        store.failure = None
        assert await server.counts(counter) == 3
        assert await ask(server, "PUT", PATH, body=b"x") == OK


async def test_a_store_that_does_not_answer_has_a_deadline(autojump_clock: MockClock) -> None:
    async with relaying(memory=True, blob_store=SlowStore()) as server:
        for method in ("PUT", "GET", "DELETE"):
            began = trio.current_time()
            assert await ask(server, method, PATH) == error(503, "Blob store is busy")
            assert trio.current_time() - began == pytest.approx(10)
        assert await server.counts("blob_store_timeout") == 3


async def test_a_store_without_a_bound_gets_no_more_than_the_default() -> None:
    store = Store()
    async with relaying(memory=True, blob_store=store) as server:
        assert await ask(server, "PUT", PATH, body=b"x" * 8193) == TOO_LARGE
        assert store.held is None
        assert await ask(server, "PUT", PATH, body=b"x" * 8192) == OK


@pytest.mark.parametrize("bound", [3, 20_000])
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_stores_own_bound_holds(wrapped: bool, bound: int) -> None:
    store = MemoryBlobStore(max_blob_size=bound)
    async with relaying(memory=True, blob_store=BlobConfig(store=store) if wrapped else store) as server:
        refused = error(413, f"Blob exceeds max size ({bound} bytes)")
        assert await ask(server, "PUT", PATH, body=b"x" * (bound + 1)) == refused
        assert (await store.stats()).refused == 0  # it was not asked
        assert await ask(server, "PUT", PATH, body=b"x" * bound) == OK


async def test_what_a_store_holds_that_is_no_text_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async with relaying(memory=True, blob_store=Store(held=b"\xffsecret")) as server:
        assert await ask(server, "GET", PATH) == error(500, "Internal error")
        assert await server.counts("blob_store_failed") == 1
        assert "secret" not in caplog.text


class GatedStore(Store):
    """Keeps a blob when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()

    async def put(self, key: str, data: bytes) -> None:
        await self.gate.wait()
        await super().put(key, data)


async def test_a_client_that_leaves_while_its_blob_is_stored_costs_nothing() -> None:
    store = GatedStore()
    async with relaying(memory=True, blob_store=store) as server:
        stream = await server._dial()
        await stream.send_all(put(b"x"))
        await wait_all_tasks_blocked()
        await stream.aclose()
        store.gate.set()
        await wait_all_tasks_blocked()
        assert store.held == b"x"
        assert await ask(server, "PUT", PATH, body=b"y") == OK
