"""``/blob/{key}``: PUT, GET, HEAD and DELETE of small texts that clients leave for each other.

What differs from `@sumicom/ws-relay` 0.1.2: sizes are bytes, a body that is too large is not received, one that is not
UTF-8 is refused, every call of the store has a deadline, and an access key may be asked for.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar, TypeVarTuple

import trio

from ...serving.client_address import rate_name
from ...serving.rates import ConnectionCounter
from ...transports.routes import BodyTooLarge, Request, Response
from ...wire.json import JSONValue, encode
from ..config import BlobConfig, RelayConfig
from ..stores.blob_shares import BlobShares
from ..stores.blobs import MAX_BLOB_SIZE, Blobs, BlobStatistics, BlobStoreBusy, BlobStoreError, BlobStoreFull
from ..stores.keys import is_key_format
from .admin import has_key

if TYPE_CHECKING:
    from ..relay import RelayCore

__all__ = ["BlobPages", "blob_statistics", "json_response"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_log: Final = logging.getLogger("trio_relay.wsrelay")

_STORE_TIMEOUT: Final = 10.0
"""Seconds for one call of the store."""
_UPLOADS: Final = 64
"""Blobs that are being received or stored at once: so many are in memory besides those in the store."""
_UPLOADS_OF_ONE: Final = 16
"""Of those, from one IP address (IPv6: one /64): slow clients of one place do not keep others out."""
_TOO_LARGE: Final = "exceeds max size"
"""In the text of an error by which any store may say so, as in the original."""
_METHODS: Final = ((b"allow", b"GET, HEAD, PUT, DELETE, OPTIONS"),)


def json_response(status: int, value: JSONValue, *headers: tuple[bytes, bytes]) -> Response:
    """A response of JSON."""
    return Response.typed(status, encode(value), "application/json", headers)


async def blob_statistics(blobs: Blobs | None, counts: Counter[str]) -> BlobStatistics | None:
    """Counts of the store; None if there is no store, or if it could not tell, which is logged and counted."""
    if blobs is None:
        return None
    try:
        return await _ask(counts, blobs.stats)
    except _Failed:
        return None


class BlobPages:
    """The pages of the relay's blob store."""

    def __init__(self, core: RelayCore) -> None:
        self._core: Final = core
        self._uploads = 0
        self._uploads_by_ip: Final = ConnectionCounter(_UPLOADS_OF_ONE)
        settings = _settings(core.config)
        share = settings.max_share
        if share is None:
            built_in = isinstance(core.config.blob_store, BlobConfig) and settings.store is None
            share = max(settings.max_blobs // 4, 1) if built_in else settings.max_blobs + 1
        self._shares: Final = BlobShares(share, settings.max_blobs, settings.time_to_live)

    async def respond(self, request: Request) -> Response | None:
        """The answer; None if no blob can be at the path."""
        core = self._core
        settings = _settings(core.config)
        key = request.path.removeprefix(f"{settings.route_prefix}/")
        if core.blobs is None or not is_key_format(key):
            return None
        if request.method not in ("GET", "HEAD", "PUT", "DELETE"):
            return Response.text(405, "Method Not Allowed", _METHODS)
        if settings.access_key is not None and not has_key(request, settings.access_key):
            core.counts["refused_blob_key"] += 1
            return json_response(401, {"error": "Access key required"}, (b"www-authenticate", b"Bearer"))
        try:
            if request.method == "PUT":
                return await self._put(request, key, core.blobs)
            if request.method == "DELETE":
                existed = await _ask(core.counts, core.blobs.delete, key)
                self._shares.forget(key)
                return json_response(200 if existed else 404, {"ok": existed})
            return await self._get(key, core.blobs)
        except _Failed as failed:
            return failed.response

    async def _get(self, key: str, blobs: Blobs) -> Response:
        async def read() -> str | None:
            data = await blobs.get(key)
            return None if data is None else data.decode()

        text = await _ask(self._core.counts, read)
        return json_response(404, {"error": "Not found"}) if text is None else json_response(200, {"data": text})

    async def _put(self, request: Request, key: str, blobs: Blobs) -> Response:
        crowd = rate_name(self._core.entrance.client_ip(request))
        if self._uploads >= _UPLOADS or not self._uploads_by_ip.take(crowd):
            self._core.counts["blob_uploads_full"] += 1
            return json_response(503, {"error": "Too many uploads at once"}, (b"retry-after", b"1"))
        self._uploads += 1
        try:
            data = await self._receive(request, blobs)
            if not self._shares.allows(key, crowd, trio.current_time()):
                _fail(self._core.counts, "blob_share_full", 507, "Too many blobs from this address")
            await _ask(self._core.counts, blobs.put, key, data)
            self._shares.put(key, crowd, trio.current_time())
        finally:
            self._uploads -= 1
            self._uploads_by_ip.release(crowd)
        return json_response(200, {"ok": True})

    async def _receive(self, request: Request, blobs: Blobs) -> bytes:
        """The body, if it is a text that the store may take; nothing of a longer one is kept."""
        most = blobs.max_blob_size
        if most is None:
            most = _settings(self._core.config).max_blob_size
        try:
            data = await request.body.read(most)
            data.decode()
        except BodyTooLarge:
            _fail(self._core.counts, "blob_too_large", 413, f"Blob {_TOO_LARGE} ({most} bytes)")
        except UnicodeDecodeError:
            _fail(self._core.counts, "blob_not_text", 400, "Blob is not UTF-8")
        return data


class _Failed(Exception):
    """There is no result, but this response."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response: Final = response


def _fail(counts: Counter[str], counter: str, status: int, text: str) -> NoReturn:
    counts[counter] += 1
    raise _Failed(json_response(status, {"error": text}))


def _settings(config: RelayConfig) -> BlobConfig:
    """For a store of the application's, the defaults."""
    return config.blob_store if isinstance(config.blob_store, BlobConfig) else _DEFAULTS


_DEFAULTS: Final = BlobConfig(max_blob_size=MAX_BLOB_SIZE)


async def _ask(counts: Counter[str], call: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
    """What a call of the store returns.

    Raises:
        _Failed: it failed. Its own words are for the log: they may name files of this machine.
    """
    try:
        with trio.move_on_after(_STORE_TIMEOUT):
            return await call(*arguments)
    except BlobStoreFull:
        _fail(counts, "blob_store_full", 507, "Blob store is full")
    except BlobStoreBusy:
        _fail(counts, "blob_store_busy", 503, "Blob store is busy")
    except Exception as error:
        if _TOO_LARGE in str(error):
            _fail(counts, "blob_too_large", 413, str(error))
        _log.error("the blob store failed", exc_info=error)
        known = isinstance(error, BlobStoreError)
        _fail(counts, "blob_store_failed", 500, "Blob store failed" if known else "Internal error")
    _log.error("the blob store did not answer within %g s", _STORE_TIMEOUT)
    _fail(counts, "blob_store_timeout", 503, "Blob store is busy")
