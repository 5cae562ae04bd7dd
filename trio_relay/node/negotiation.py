"""One attempt at a WebRTC connection: descriptions and candidates of the other side in, an open data channel out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from ..exceptions import NegotiationFailed
from ..transports.webrtc import CandidatePair, DataChannel, Factory, PeerConnection, WebRTCConfig
from ..wire.description import Candidate
from .services import raise_alone

__all__ = ["Negotiation", "Opened", "WebRTC"]

_CANDIDATES: Final = 64
"""Of the other side, that wait to be taken; honest peers have a dozen."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection whose data channel is open.

    Attributes:
        offer: the offer, ours or theirs; `answer` likewise: what both sides have exchanged.
    """

    channel: DataChannel
    pair: CandidatePair | None
    offer: str
    answer: str


class WebRTC:
    """What makes WebRTC connections for a node.

    Attributes:
        under_way: attempts, with whomever.
    """

    def __init__(self, factory: Factory, config: WebRTCConfig) -> None:
        self.factory: Final = factory
        self.config: Final = config
        self.under_way = 0

    @property
    def busy(self) -> bool:
        """Whether no more attempts may begin now."""
        return self.under_way >= self.config.negotiations

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Counts an attempt while the block lasts.

        Raises:
            NegotiationFailed: too many are under way.
        """
        if self.busy:
            raise NegotiationFailed(f"{self.under_way} other connections are being made")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


class Negotiation:
    """Run it once, in a task of its own.

    Args:
        offer: the other side's, when we answer; None when we offer.
        describe: takes our own description, an offer or an answer, when it is ready; it does not wait.
        establish: what has to be done over the open channel before the connection counts as made.
        label, protocol, ordered: of the data channel, when we offer; it is reliable.
        strict: when we answer, a data channel that is not both ordered and reliable is a failure.
    """

    def __init__(
        self,
        webrtc: WebRTC,
        offer: str | None,
        describe: Callable[[str], None],
        establish: Callable[[Opened], Awaitable[None]] | None = None,
        *,
        label: str = "",
        protocol: str = "",
        ordered: bool = True,
        strict: bool = True,
    ) -> None:
        self._webrtc: Final = webrtc
        self._offer: Final = offer
        self._describe: Final = describe
        self._establish: Final = establish
        self._label: Final = label
        self._protocol: Final = protocol
        self._ordered: Final = ordered
        self._strict: Final = strict
        self._answer = ""
        self._offered = False
        self._answered: Final = trio.Event()
        self._candidates_in, self._candidates_out = trio.open_memory_channel[Candidate | None](_CANDIDATES)
        self._scope: Final = trio.CancelScope()
        self._reason = "given up"

    # From the other side; none of these waits

    def answer(self, answer: str) -> None:
        """The other side's answer; the first one counts."""
        if not self._answered.is_set():
            self._answer = answer
            self._answered.set()

    def candidate(self, candidate: Candidate | None) -> bool:
        """One more address of the other side, None for the end of them; False when too many wait, or it is too late."""
        try:
            self._candidates_in.send_nowait(candidate)
        except (trio.WouldBlock, trio.BrokenResourceError):
            return False
        return True

    def cancel(self, reason: str) -> None:
        """Gives it up, unless it is made already; `run` raises `NegotiationFailed` with that reason."""
        self._reason = reason
        self._scope.cancel()

    # The task

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Opened]:
        """Negotiates, and gives the open channel to the block; the end of the block closes the connection.

        Raises:
            NegotiationFailed: it did not come about: the reason. `establish` may raise other errors.
        """
        webrtc = self._webrtc
        # First the place, then the connection: a refused attempt opens no sockets.
        async with self._candidates_out, AsyncExitStack() as stack:
            with webrtc.attempt():
                if self._scope.cancel_called:
                    raise NegotiationFailed(self._reason)
                connection = await stack.enter_async_context(webrtc.factory(webrtc.config))
                opened = await self._make_in_time(connection, webrtc.config.negotiation_timeout)
            yield opened

    async def _make_in_time(self, connection: PeerConnection, timeout: float) -> Opened:
        opened = None
        with self._scope, trio.move_on_after(timeout) as patience:
            opened = await self._make(connection)
        if opened is None:
            if not patience.cancelled_caught:
                raise NegotiationFailed(self._reason)
            unanswered = self._offered and not self._answered.is_set()
            what = "the other side did not answer within" if unanswered else "no connection after"
            raise NegotiationFailed(f"{what} {timeout:g} s")
        return opened

    async def _make(self, connection: PeerConnection) -> Opened:
        made: list[Opened] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._feed, connection)
                made.append(await self._open(connection))
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            failures, bugs = group.split(NegotiationFailed)
            if failures is not None and bugs is None:
                raise failures.exceptions[0] from None  # both tasks saw the connection fail
            raise_alone(group)
        return made[0]

    async def _open(self, connection: PeerConnection) -> Opened:
        if self._offer is None:
            offer = await connection.create_offer(self._label, protocol=self._protocol, ordered=self._ordered)
            self._describe(offer)
            self._offered = True
            await self._answered.wait()
            answer = self._answer
            await connection.accept_answer(answer)
        else:
            offer = self._offer
            answer = await connection.create_answer(offer)
            self._describe(answer)
        channel = await connection.channel()
        if self._offer is not None and self._strict and not (channel.ordered and channel.reliable):
            raise NegotiationFailed("the other side's data channel is not ordered and reliable")
        opened = Opened(channel, connection.selected_pair(), offer, answer)
        if self._establish is not None:
            await self._establish(opened)
        return opened

    async def _feed(self, connection: PeerConnection) -> None:
        async for candidate in self._candidates_out:
            await connection.add_candidate(candidate)
