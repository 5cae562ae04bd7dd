"""The task of one data connection: it is negotiated, open, and over."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

import trio

from ...exceptions import NegotiationFailed, PeerError, RemoteProtocolError
from ...node.negotiation import Negotiation
from ...transports.webrtc import DataChannel
from ..messages import Answer, CandidateMessage, Offer, encode_answer, encode_offer
from ..pipe import Pipe
from ..serialization.json import JSONSerializer
from ..serialization.serializer import Serializer
from .channel_pipe import ChannelPipe
from .data_connection import DataConnection
from .early import Key
from .held import HoldsTooMuch
from .host import Host

__all__ = ["DataLink"]

_WAITING: Final = 30.0
"""Seconds that an offer may wait for its turn: then whoever made it waits no more."""


class DataLink:
    """Implements `Link`.

    Args:
        peer: the other peer's id.
        offer: of the other side; or ours, whose description is made here.
        incoming: whose offer it is.
    """

    def __init__(self, host: Host, peer: str, offer: Offer, serializer: Serializer, *, incoming: bool) -> None:
        self.connection: Final = DataConnection(
            peer, offer, serializer, host.limits, host.held, self.stop, incoming=incoming
        )
        self._host: Final = host
        self._serializer: Final = serializer
        self._peer: Final = peer
        self._offer: Final = offer
        self._incoming: Final = incoming
        self._refusal: PeerError | None = None
        self._opened = False
        self._scope: Final = trio.CancelScope()
        self._negotiation = self._make_negotiation(offer)
        self._suit(offer.legacy)

    def __repr__(self) -> str:
        return f"<DataLink {self.connection!r}>"

    @property
    def key(self) -> Key:
        """The other peer's id and the connection's."""
        return self._peer, self._offer.connection_id

    # From the broker

    def on_offer(self, offer: Offer) -> bool:
        """A second offer means another connection under the same id."""
        return False

    def on_answer(self, answer: Answer) -> None:
        """The other side's answer; the first one counts."""
        self._suit(answer.legacy)
        self._negotiation.answer(answer.sdp)

    def on_candidate(self, message: CandidateMessage) -> None:
        """One more address of the other side."""
        if not self._negotiation.candidate(message.candidate):
            self._host.counts["candidates_ignored"] += 1

    def on_unavailable(self, error: PeerError) -> None:
        """The broker can not reach the other peer; what is open stays so."""
        if not self.connection.open:
            self._refusal = error
            self._negotiation.cancel(str(error))

    def stop(self) -> None:
        """Ends it, without waiting."""
        self._negotiation.cancel("the connection was given up")
        self._scope.cancel()

    # The task

    async def run(self, *, task_status: trio.TaskStatus[DataConnection] = trio.TASK_STATUS_IGNORED) -> None:
        """Starts when it is open.

        Raises:
            PeerError: it could not be made.
        """
        try:
            with self._scope:
                async with self._open() as pipe:
                    await self._serve(pipe, task_status)
        except BaseException:
            # Cancelled, alone or in a group; who has the connection must not take that for the other side's closing.
            self.connection.abandon()
            raise
        finally:
            self.connection.end()
        if not self._opened:
            raise PeerError("negotiation-failed", f"connection to {self._peer}: it was given up")

    async def _serve(self, pipe: Pipe, task_status: trio.TaskStatus[DataConnection]) -> None:
        connection, counts = self.connection, self._host.counts
        with trio.CancelScope() as scope:
            connection.open_on(pipe, scope.cancel)
            self._opened = True
            if self._incoming and not self._host.arrived(connection):
                counts["accept_full"] += 1
                return
            task_status.started(connection)
            try:
                await connection.read()
            except trio.ClosedResourceError:
                pass  # it was closed here meanwhile
            except trio.BrokenResourceError as error:
                connection.fail(str(error))
            except HoldsTooMuch as error:
                counts["receive_total_full"] += 1
                connection.fail(str(error))
            except RemoteProtocolError as error:
                counts["connection_bad_data"] += 1
                connection.fail(f"the other side broke the protocol: {error}")
            finally:
                connection.stop_reading()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Pipe]:
        """The connection, for the block.

        Raises:
            PeerError: it could not be made.
        """
        async with AsyncExitStack() as stack:
            try:
                channel = await self._enter(stack)
            except NegotiationFailed as error:
                raise self._explain(error) from error
            yield ChannelPipe(channel)

    def _suit(self, legacy: bool) -> None:
        """`peerjs` up to 1.4 reads JSON from text messages alone."""
        if legacy and isinstance(self._serializer, JSONSerializer):
            self._serializer.as_text = True

    # Its negotiation

    def _make_negotiation(self, offer: Offer) -> Negotiation:
        return Negotiation(
            self._host.webrtc,
            offer.sdp if self._incoming else None,
            self._describe,
            label=offer.label,
            ordered=offer.reliable,
            strict=False,
        )

    async def _enter(self, stack: AsyncExitStack) -> DataChannel:
        """Negotiates; `stack` closes what comes of it."""
        host = self._host
        limiters = (host.answering_to(self._peer), host.answering) if self._incoming else (host.offering,)
        async with AsyncExitStack() as places:
            with trio.move_on_after(self._patience) as waiting:
                for limiter in limiters:
                    await places.enter_async_context(limiter)
            if waiting.cancelled_caught:
                raise NegotiationFailed("too many other connections are being made")
            opened = await stack.enter_async_context(self._negotiation.run())
        return opened.channel

    @property
    def _patience(self) -> float:
        """Seconds for a place; for our own offer the caller has the deadline, of another's nobody knows it."""
        return _WAITING if self._incoming else math.inf

    def _explain(self, error: NegotiationFailed) -> PeerError:
        if self._refusal is not None:
            return self._refusal
        return PeerError("negotiation-failed", f"connection to {self._peer}: {error}")

    def _describe(self, sdp: str) -> None:
        """Sends our description to the other side."""
        if self._incoming:
            self._host.signal(encode_answer(self._peer, Answer("data", self._offer.connection_id, sdp)))
        else:
            self._host.signal(encode_offer(self._peer, replace(self._offer, sdp=sdp)))
