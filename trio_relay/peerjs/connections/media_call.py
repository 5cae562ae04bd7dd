"""The task of one call: it is offered or answered, negotiated, open, and over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

import trio

from ...exceptions import NegotiationFailed, PeerError
from ...transports.media_tracks import check_offered
from ...transports.webrtc import MediaFactory, MediaPeer, MediaTrack, WebRTCConfig
from ...wire.description import Candidate
from ..messages import Answer, CandidateMessage, Offer
from .media_connection import MediaConnection

__all__ = ["MediaCall"]

_CANDIDATES: Final = 64
"""Of the other side, that wait to be taken, also while an incoming call waits to be answered."""
_EXPECTED: Final = (NegotiationFailed, PeerError)


class MediaCall:
    """Run it once, in a task of its own.

    Args:
        factory: makes the connection, when the call is offered or answered.
        offer: the other side's, of an incoming call; of ours all but its description.
        send_offer, send_answer: take what the other side has to get; they do not wait, and may raise `PeerError`.
        incoming: whose offer it is.
        tracks: of an outgoing call, at least one.
        timeout: seconds that an outgoing call may take until it is open.
        ring_timeout: seconds that an incoming call waits to be answered.
        negotiating: a place for each negotiation at once.

    Raises:
        ValueError: an outgoing call has no tracks, or some that it can not have: see `transports.media_tracks`.
    """

    def __init__(
        self,
        factory: MediaFactory,
        config: WebRTCConfig,
        peer: str,
        offer: Offer,
        *,
        send_offer: Callable[[Offer], None],
        send_answer: Callable[[Answer], None],
        counts: Counter[str],
        incoming: bool = False,
        tracks: Iterable[MediaTrack] = (),
        timeout: float = 30.0,
        ring_timeout: float = 120.0,
        negotiating: trio.CapacityLimiter | None = None,
    ) -> None:
        tracks = tuple(tracks)
        if not incoming:
            check_offered(tracks)
        self.connection: Final = MediaConnection(peer, offer, incoming=incoming, tracks=tracks, stop=self.stop)
        self._factory: Final = factory
        self._config: Final = config
        self._peer: Final = peer
        self._offer: Final = offer
        self._incoming: Final = incoming
        self._send_offer: Final = send_offer
        self._send_answer: Final = send_answer
        self._counts: Final = counts
        self._timeout: Final = timeout
        self._ring_timeout: Final = ring_timeout
        self._negotiating: Final = negotiating or trio.CapacityLimiter(1)
        self._answer: str | None = None
        self._answered: Final = trio.Event()
        self._candidates_in, self._candidates_out = trio.open_memory_channel[Candidate | None](_CANDIDATES)
        self._scope: Final = trio.CancelScope()
        self._refusal: PeerError | None = None
        self._started = False

    def __repr__(self) -> str:
        return f"<MediaCall {self.connection!r}>"

    @property
    def key(self) -> tuple[str, str]:
        """The other peer's id and the connection's."""
        return self._peer, self._offer.connection_id

    # From the broker; none of these waits

    def on_offer(self, offer: Offer) -> bool:
        """A second offer means another call under the same id."""
        return False

    def on_answer(self, answer: Answer) -> None:
        """The other side's answer; the first one counts."""
        if self._answer is None:
            self._answer = answer.sdp
            self._answered.set()

    def on_candidate(self, message: CandidateMessage) -> None:
        """One more address of the other side; those that come before the call is answered are kept."""
        try:
            self._candidates_in.send_nowait(message.candidate)
        except (trio.WouldBlock, trio.BrokenResourceError):
            self._counts["candidates_ignored"] += 1

    def on_unavailable(self, error: PeerError) -> None:
        """The broker can not reach the other peer; what is open stays so."""
        if not self.connection.open:
            self._refusal = error
            self._scope.cancel()

    def stop(self) -> None:
        """Ends it, without waiting."""
        self._scope.cancel()
        if not self._started:
            self.connection.end("the call was given up")

    # The task

    async def run(self, *, task_status: trio.TaskStatus[MediaConnection] = trio.TASK_STATUS_IGNORED) -> None:
        """Starts, for a caller of `nursery.start`, when the call is open; ends when it is over.

        Raises:
            PeerError: ``negotiation-failed`` or what the broker said: it never was open, and nobody here wanted that.
        """
        self._started = True
        connection = self.connection
        reason, failure = "the call was given up", None
        opened = False
        try:
            with self._scope:
                async with self._candidates_out, AsyncExitStack() as stack:
                    media = await self._open(stack)
                    connection.open_on(media)
                    opened = True
                    task_status.started(connection)
                    reason = await media.wait_closed()
            if self._refusal is not None and not opened:
                failure = self._refusal
            elif not opened and not self._incoming:
                failure = PeerError("negotiation-failed", f"call to {self._peer}: {reason}")
        except _EXPECTED as error:
            failure = self._explain(error)
        finally:
            connection.end(reason if failure is None else str(failure), failure)
        if failure is not None:
            raise failure

    def _explain(self, error: NegotiationFailed | PeerError) -> PeerError:
        if isinstance(error, PeerError):
            return error
        whose = "call of" if self._incoming else "call to"
        failure = PeerError("negotiation-failed", f"{whose} {self._peer}: {error}")
        failure.__cause__ = error
        return failure

    async def _open(self, stack: AsyncExitStack) -> MediaPeer:
        """The connection, open; `stack` closes it.

        Raises:
            NegotiationFailed: why there is none.
        """
        if self._incoming:
            with trio.move_on_after(self._ring_timeout) as ringing:
                await self.connection.wait_answer()
            if ringing.cancelled_caught:
                raise NegotiationFailed(f"it was not answered here within {self._ring_timeout:g} s")
        timeout = self._config.negotiation_timeout if self._incoming else self._timeout
        with trio.move_on_after(timeout):
            media = await stack.enter_async_context(self._factory(self._config))
            await self._negotiate(media)
            return media
        unanswered = not self._incoming and self._answer is None
        what = "nobody answered within" if unanswered else "no connection after"
        raise NegotiationFailed(f"{what} {timeout:g} s")

    async def _negotiate(self, media: MediaPeer) -> None:
        failures: list[NegotiationFailed | PeerError] = []
        async with trio.open_nursery() as nursery:

            async def attempt(function: Callable[[MediaPeer], object]) -> None:
                try:
                    await function(media)  # type: ignore[misc]
                except _EXPECTED as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(attempt, self._feed)
            await attempt(self._connect)
            nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]

    async def _connect(self, media: MediaPeer) -> None:
        tracks = self.connection.local_tracks
        if self._incoming:
            async with self._negotiating:
                sdp = await media.create_answer(self._offer.sdp, tracks)
                self._send_answer(Answer("media", self._offer.connection_id, sdp))
                await media.wait_connected()
            return
        async with self._negotiating:
            sdp = await media.create_offer(tracks)
        self._send_offer(replace(self._offer, sdp=sdp))
        await self._answered.wait()
        assert self._answer is not None
        async with self._negotiating:
            await media.accept_answer(self._answer)
            await media.wait_connected()

    async def _feed(self, media: MediaPeer) -> None:
        async for candidate in self._candidates_out:
            await media.add_candidate(candidate)
