"""The body of a response that is made while it is sent, and the client that may go away meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import h11
import trio

from .requests import RequestReader
from .routes import Streamed

__all__ = ["Streaming"]


class Streaming:
    """Sends one `Streamed` response, all but its end.

    While it is made, what the client sends is kept for the next request, `most_ahead` bytes at most; a client that has
    sent more, without waiting for the end of the response, is not watched any more.

    Args:
        head: makes the head; its argument is the number of bytes in the body, None if that is not known.

    Attributes:
        began: whether anything was sent.
        gone: whether the client went away before the end.
        failure: what `Streamed.make` raised, if that was its own fault.
        last: what it returned.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        reader: RequestReader,
        head: Callable[[int | None], h11.Response],
        most_ahead: int,
    ) -> None:
        self._stream: Final = stream
        self._reader: Final = reader
        self._http: Final = reader.http
        self._head: Final = head
        self._most_ahead: Final = most_ahead
        self._broken: Exception | None = None
        self.began = False
        self.gone = False
        self.failure: Exception | None = None
        self.last = b""

    async def run(self, response: Streamed) -> None:
        """Returns when the body was made, the client is gone, or the making failed.

        Raises:
            Refused: the client did not take a piece in time.
            trio.BrokenResourceError: the stream broke.
            trio.ClosedResourceError: it was closed on our side.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            try:
                self.last = await response.make(self._send)
            except Exception as error:
                self.failure = error
            nursery.cancel_scope.cancel()
        if self._broken is not None and not self.gone:
            raise self._broken

    async def finish(self) -> None:
        """Sends the last piece and the end; errors are those of `run`."""
        head = b"" if self.began else self._http.send(self._head(len(self.last))) or b""
        piece = self._http.send(h11.Data(data=self.last)) or b"" if self.last else b""
        await self._reader.write(b"".join((head, piece, self._http.send(h11.EndOfMessage()) or b"")))

    async def _send(self, data: bytes) -> None:
        if not data:
            await trio.lowlevel.checkpoint()
            return
        if self._broken is not None:
            raise self._broken
        head = b"" if self.began else self._http.send(self._head(None)) or b""
        self.began = True
        try:
            await self._reader.write(head + (self._http.send(h11.Data(data=data)) or b""))
        except Exception as error:
            self._broken = error
            raise

    async def _watch(self, making: trio.CancelScope) -> None:
        """Ends the making when the client is gone."""
        ahead = 0
        try:
            while ahead < self._most_ahead:
                data = await self._stream.receive_some(self._most_ahead - ahead)
                if not data:
                    break
                self._http.receive_data(bytes(data))
                ahead += len(data)
            else:
                return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.gone = True
        making.cancel()
