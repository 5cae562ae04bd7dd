"""The Mercure door: event streams for those who listen, forms of those who publish.

Nothing that was published is kept: who comes back has missed what was said meanwhile, and is told so. A client that is
refused gets a status and one line of text; a browser's EventSource then gives up, as it should, and where there is no
room (429, 503), the driver has to be opened again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from ...exceptions import RemoteProtocolError
from ...transports.routes import BodyTooLarge, Headers, Request, Response, Sender, Streamed
from .core import HubCore, NoRoom
from .forms import parse_publication_untrusted, parse_query_untrusted
from .grants import Grant, Unauthorized
from .outlet import Outlet
from .updates import Update

__all__ = ["MercureDoor"]

_METHODS: Final = b"GET, POST, OPTIONS"
_FORM: Final = "application/x-www-form-urlencoded"
_COMMENT: Final = b":\n\n"
_WRITE_SIZE: Final = 64 * 1024
_STREAM: Final[Headers] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"private, no-cache"),
    # Of proxies that would keep events back until there are more.
    (b"x-accel-buffering", b"no"),
)
_EARLIEST: Final[Headers] = ((b"last-event-id", b"earliest"),)


class MercureDoor:
    """One path of one hub."""

    def __init__(self, core: HubCore) -> None:
        self._core: Final = core

    async def respond(self, request: Request) -> Response | Streamed:
        """The answer to any request; a `Responder`."""
        core = self._core
        if not core.access.admits(request):
            core.counts["refused_origin"] += 1
            return self._refuse(request, 403, "expected a page of another origin")
        if request.path != core.config.mercure_path:
            return self._refuse(request, 404, "Not Found")
        if request.method == "OPTIONS":
            return Response(204, b"", core.access.preflight(request, _METHODS))
        if request.method not in ("GET", "POST"):
            return self._refuse(request, 405, "expected GET or POST", ((b"allow", _METHODS),))
        try:
            return await self._publish(request) if request.method == "POST" else self._subscribe(request)
        except RemoteProtocolError as error:
            core.counts["bad_request"] += 1
            return self._refuse(request, 400, str(error))
        except Unauthorized as error:
            core.counts["unauthorized"] += 1
            return self._refuse(request, 401, str(error), ((b"www-authenticate", b"Bearer"),))
        except BodyTooLarge as error:
            core.counts["too_large"] += 1
            return self._refuse(request, 413, str(error))

    def _refuse(self, request: Request, status: int, text: str, headers: Headers = ()) -> Response:
        return Response.text(status, f"{text}\n", (*headers, *self._core.access.cors(request)))

    # Those who listen

    def _subscribe(self, request: Request) -> Response | Streamed:
        core = self._core
        query = parse_query_untrusted(request.query, core.config.max_topic)
        if not query.topics:
            raise RemoteProtocolError("expected a topic in the query")
        grant = core.authority.judge(core.access.token(request, query.token))
        if (forbidden := core.forbids(query.topics, grant)) is not None:
            return self._refuse(request, 403, forbidden)
        if (full := core.topics.judge(None, query.topics)) is not None:
            return self._refuse(request, 429, core.refuse_full(full))
        crowd, stream = core.access.crowd(request), _EventStream(core, grant)
        try:
            core.require_room(crowd)
        except NoRoom as error:
            status = 429 if error.crowded else 503
            return self._refuse(request, status, str(error), ((b"retry-after", b"10"),))

        async def make(send: Sender) -> bytes:
            with suppress(NoRoom):  # who was faster took the place
                core.enter(stream, crowd)
                if core.subscribe(stream, query.topics, grant) is None:
                    await stream.run(send)
            return b""

        resumed = _EARLIEST if query.resumes or request.header(b"last-event-id") is not None else ()
        headers = (*_STREAM, *resumed, *core.access.cors(request))
        return Streamed(200, make, headers, held=True, ended=partial(core.leave, stream, crowd))

    # Those who publish

    async def _publish(self, request: Request) -> Response:
        core = self._core
        content_type = (request.header(b"content-type") or b"").decode("latin-1").partition(";")[0]
        if content_type.strip().lower() != _FORM:
            return self._refuse(request, 415, f"expected {_FORM}")
        # The names of topics in the query are of no account here.
        in_query = parse_query_untrusted(request.query, core.config.max_topic).token
        grant = core.authority.judge(core.access.token(request, in_query))
        body, crowd = await request.body.read(core.config.max_payload), core.access.crowd(request)
        # To decode a form takes time, too.
        if not core.pays(crowd, len(body)):
            return self._refuse_fast(request)
        # A packet is base64 here.
        most = 4 * -(-core.config.max_packet // 3)
        said = parse_publication_untrusted(body, core.config.max_topic, most)
        if not grant.may_publish(said.topics):
            core.counts["refused_publish"] += 1
            return self._refuse(request, 403, "not allowed to publish under this topic")
        if said.private and core.authority.open:
            raise RemoteProtocolError("expected no private update: there is no authorization here")
        more = len(said.topics) - 1
        # There may be other clients under each topic, and something waits for each of them.
        if more and not core.pays(crowd, more * len(body)):
            return self._refuse_fast(request)
        id = said.id or core.new_id()
        core.publish(Update(said.topics, id, data=said.data, type=said.type, retry=said.retry))
        return Response.text(200, id, core.access.cors(request))

    def _refuse_fast(self, request: Request) -> Response:
        return self._refuse(request, 429, "too many bytes a second", ((b"retry-after", b"1"),))


class _EventStream:
    """One client that listens."""

    def __init__(self, core: HubCore, grant: Grant) -> None:
        self._core: Final = core
        self._outlet: Final[Outlet[bytes]] = Outlet(core.outlets, self._overflow)
        # Of a token that expires, the clock of the wall says when.
        self._until: Final = trio.current_time() + max(grant.until - time.time(), 0.0)

    @property
    def waiting(self) -> int:
        """Bytes."""
        return self._outlet.size

    def deliver(self, update: Update, topic: str) -> None:
        self._outlet.put(update.event())

    def end(self) -> None:
        self._outlet.close()

    def _overflow(self) -> None:
        # It ends at the latest when a write takes too long.
        self._core.topics.leave(self)

    async def run(self, send: Sender) -> None:
        """Sends events until the hub, or the client's time, is over."""
        await send(b"retry: %d\n\n" % round(self._core.config.retry * 1000))
        while True:
            keepalive = trio.current_time() + self._core.config.keepalive
            with trio.move_on_at(min(keepalive, self._until)):
                await self._outlet.wait()
            if trio.current_time() >= self._until:
                self._core.counts["grant_expired"] += 1
                return
            events = self._outlet.take(_WRITE_SIZE)
            if self._outlet.closed and not events:
                return
            await send(b"".join(events) or _COMMENT)
