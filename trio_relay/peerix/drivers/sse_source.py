"""One stream of events from a broker: opened, kept, and opened again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from http.client import responses
from typing import Final

import trio

from ...exceptions import DriverError
from ...transports.backoff import Backoff
from ...transports.http_client import HttpAnswer, HttpConnection
from ...transports.routes import Headers
from .connected import explain
from .http_exchange import HTTP_FAILURES
from .sse_stream import SseEvent, SseParser, SseRetry, SseSkipped

__all__ = ["MAX_DATA", "SseSource", "describe_status"]

MAX_DATA: Final = 352 * 1024
"""Bytes of one event: the largest packet as base64, and a little."""
STREAM_TYPE: Final = "text/event-stream"
_STABLE_AFTER: Final = 10.0
"""Seconds after which a stream counts as stable: the back-off begins anew."""
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be others a little later."""
_UNFIT: Final = re.compile(rb"\A | \Z|[\x00-\x1f\x7f]")
"""In an id that no header can hold."""


class _Refused(Exception):
    """The broker does not want to give this stream."""


class _TryLater(Exception):
    """Nor now; perhaps later, after so many seconds at least."""

    def __init__(self, reason: str, wait: float) -> None:
        super().__init__(reason)
        self.wait: Final = wait


class SseSource:
    """What an EventSource is in a browser, for one namespace. `run` it once.

    A stream that ends, or can not be had for now, is asked for again after a growing, random wait, to which that is
    added which the broker wants clients to wait. A stream that is refused the first time is given up, and `refusal`
    says why; one that is refused later is asked for again after the longest wait.

    Args:
        target: path and query of the request.
        dial: makes a connection.
        headers: of the request.
        random: see `Backoff`.
        longest: seconds between two attempts.
        timeout: seconds until the head of an answer has come.
        max_silence: seconds after which a broker that says nothing is given up; None: never.
        counts: see `SseDriver`.
        on_data: called with the data of each event of the type ``message``.
        on_change: called when `up` has changed, or an attempt has failed.
        on_error: called with why a stream ended or was not opened.

    Attributes:
        scope: cancels `run`.
        up: whether the stream is open.
        reason: why it is not, after an attempt has failed; else empty.
        refusal: why the broker refused the first attempt; else empty.
        changed: where those wait who want to know.
    """

    def __init__(
        self,
        target: str,
        dial: Callable[[], Awaitable[HttpConnection]],
        headers: Headers,
        *,
        random: Callable[[], float],
        longest: float,
        timeout: float,
        max_silence: float | None,
        counts: Counter[str],
        on_data: Callable[[str], None],
        on_change: Callable[[], None],
        on_error: Callable[[DriverError], None],
    ) -> None:
        self._target: Final = target
        self._dial: Final = dial
        self._headers: Final = headers
        self._backoff: Final = Backoff(longest, random)
        self._longest: Final = longest
        self._timeout: Final = timeout
        self._silence: Final = float("inf") if max_silence is None else max_silence
        self._counts: Final = counts
        self._on_data: Final = on_data
        self._on_change: Final = on_change
        self._on_error: Final = on_error
        self._retry = 0.0
        self._last_id = ""
        self._known = False  # whether it has been up
        self.scope: Final = trio.CancelScope()
        self.up = False
        self.reason = ""
        self.refusal = ""
        self.changed: Final = trio.lowlevel.ParkingLot()

    async def run(self) -> None:
        """Keeps the stream until it is refused, or cancelled by `scope`."""
        try:
            with self.scope:
                while True:
                    wait = await self._attempt()
                    if self.refusal:
                        break
                    await trio.sleep(wait)
        finally:
            self.up = False
            self.settle("the driver was closed")

    def settle(self, refusal: str) -> None:
        """Ends the waiting of all who wait for it."""
        self.refusal = self.refusal or refusal
        self.changed.unpark_all()

    async def _attempt(self) -> float:
        """One stream, from its beginning to its end; returns how long to wait before the next one."""
        connection: HttpConnection | None = None
        began: float | None = None
        least = self._retry
        try:
            with trio.fail_after(self._timeout):
                connection = await self._dial()
                self._check(await connection.request("GET", self._target, self._request_headers()))
            began = trio.current_time()
            self._rise()
            await self._read(connection)
        except trio.TooSlowError:
            reason = f"the broker did not answer within {self._timeout:g} s"
        except (DriverError, *HTTP_FAILURES) as error:
            reason = explain(error)
        except _TryLater as error:
            reason, least = str(error), max(least, error.wait)
        except _Refused as error:
            reason, least = str(error), self._longest
            if not self._known:
                self._counts["driver_unreachable"] += 1
                self.settle(reason)
                return 0.0
        finally:
            if connection is not None:
                connection.close()
        self._fall(reason, began)
        # The stream itself may have said how long to wait.
        return min(max(least, self._retry) + self._backoff.next(), self._longest)

    def _request_headers(self) -> Headers:
        last_id = self._last_id.encode()
        if not last_id or _UNFIT.search(last_id):
            return self._headers
        return (*self._headers, (b"last-event-id", last_id))

    def _check(self, answer: HttpAnswer) -> None:
        status = answer.status
        if status in _PASSING:
            wait = answer.header(b"retry-after")
            raise _TryLater(describe_status(status), float(wait) if wait.isascii() and wait.isdigit() else 0.0)
        if status != HTTPStatus.OK:
            raise _Refused(describe_status(status))
        kind = answer.header(b"content-type").partition(";")[0].strip()
        if kind.lower() != STREAM_TYPE:
            raise _Refused(f"expected {STREAM_TYPE} from the broker, not {kind[:60]!r}")
        coding = answer.header(b"content-encoding").lower()
        if coding not in ("", "identity"):
            raise _Refused(f"expected no content-encoding from the broker, got {coding[:60]!r}")

    def _rise(self) -> None:
        self._counts["driver_connected"] += 1
        self._known = self.up = True
        self.reason = ""
        self.changed.unpark_all()
        self._on_change()

    def _fall(self, reason: str, began: float | None) -> None:
        self.up = False
        self.reason = reason
        if began is None:
            self._counts["driver_unreachable"] += 1
        else:
            self._counts["driver_lost"] += 1
            if trio.current_time() - began >= _STABLE_AFTER:
                self._backoff.reset()
        self._on_change()
        self._on_error(DriverError(reason))

    async def _read(self, connection: HttpConnection) -> None:
        parser = SseParser(MAX_DATA, self._last_id)
        while True:
            data = b""
            with trio.move_on_after(self._silence) as patience:
                data = await connection.read()
            if patience.cancelled_caught:
                raise DriverError(f"the broker has said nothing for {self._silence:g} s")
            if not data:
                raise DriverError("the broker ended the stream")
            for item in parser.parse_untrusted(data):
                if isinstance(item, SseRetry):
                    self._retry = min(item.delay, self._longest)
                elif isinstance(item, SseSkipped):
                    self._counts["driver_oversized"] += 1
                else:
                    self._take(item)
            self._last_id = parser.last_id

    def _take(self, event: SseEvent) -> None:
        if event.type == "message":
            self._on_data(event.data)
        else:
            self._counts["driver_unwanted"] += 1


def describe_status(status: int) -> str:
    """What an answer says that is not what we want."""
    more = ""
    if status == HTTPStatus.NO_CONTENT:
        more = ": it does not want clients to ask again"
    elif status == HTTPStatus.UNAUTHORIZED:
        more = ": it wants a token, or another one"
    elif 300 <= status < 400:
        more = ", and redirects are not followed"
    return f"the broker answered {status} {responses.get(status, '')}".rstrip() + more
