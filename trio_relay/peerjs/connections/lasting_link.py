"""A data connection that goes on without WebRTC, or by another negotiation, when both sides agree to that.

The rules by which both move from one carrier to the next are in `fallback.rounds`; here are the offers and answers of
those rounds. A connection whose other side agrees to nothing is as plain as one of `DataLink`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

import trio

from ...exceptions import NegotiationFailed, PeerError, RemoteProtocolError
from ...node.negotiation import Negotiation
from ...node.services import raise_alone
from ...transports.webrtc import DataChannel
from ..fallback.carrier import Carrier
from ..fallback.lasting import LastingPipe
from ..fallback.sealing import ENTROPY, RelayKey, Role, agree
from ..messages import Answer, Offer, RelayTerms, encode_answer, encode_offer
from ..options import log
from ..pipe import Pipe
from ..serialization.serializer import Serializer
from .channel_pipe import ChannelPipe
from .data_link import DataLink
from .host import Fallback, Host

__all__ = ["LastingLink"]


class LastingLink(DataLink):
    """Implements `Link`.

    Args:
        fallback: what this peer has instead of WebRTC.
    """

    def __init__(
        self, host: Host, fallback: Fallback, peer: str, offer: Offer, serializer: Serializer, *, incoming: bool
    ) -> None:
        self._fallback: Final = fallback
        self._key: Final = RelayKey(secrets.token_bytes(ENTROPY))
        self._role: Final[Role] = "answerer" if incoming else "originator"
        self._ours = RelayTerms(self._key.public)
        self._theirs = offer.relay if incoming else None
        self._pipe: LastingPipe | None = None
        self._first: DataChannel | NegotiationFailed = NegotiationFailed("not tried")
        self._first_stack = AsyncExitStack()
        super().__init__(host, peer, offer, serializer, incoming=incoming)
        self._begin_round(0)

    # From the broker

    def on_offer(self, offer: Offer) -> bool:
        """The offer of a later round, if it is of the same side as the first; else it means another connection."""
        terms, known = offer.relay, self._theirs
        if not self._incoming or self._pipe is None or terms is None or known is None or terms.key != known.key:
            return False
        if terms.round > self._ours.round:
            self._theirs = terms
            self._begin_round(terms.round)
            self._negotiation.cancel("the other side began anew")
            self._negotiation = self._make_negotiation(offer)
        self._pipe.offer_came(terms.round)
        return True

    def on_answer(self, answer: Answer) -> None:
        """The answer of this round; another one comes too late."""
        terms = answer.relay
        if terms is not None and terms.round != self._ours.round:
            self._host.counts["lasting_old_answers"] += 1
            return
        if self._theirs is not None and (terms is None or terms.key != self._theirs.key):
            self._host.counts["lasting_old_answers"] += 1
            return
        self._theirs = terms
        super().on_answer(answer)

    def on_unavailable(self, error: PeerError) -> None:
        """The broker can not reach the other side: this negotiation comes to nothing."""
        super().on_unavailable(error)
        self._negotiation.cancel(str(error))

    # The task

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Pipe]:
        async with self._first_stack:
            try:
                self._first = await self._enter(self._first_stack)
            except NegotiationFailed as error:
                if self._theirs is None:
                    raise self._explain(error) from error
                self._first = error
            if self._theirs is not None:
                async with self._lasting() as pipe:
                    yield pipe
            elif not isinstance(self._first, NegotiationFailed):
                yield ChannelPipe(self._first)

    @asynccontextmanager
    async def _lasting(self) -> AsyncIterator[Pipe]:
        pipe = self._pipe = LastingPipe(
            self._role,
            self._negotiate,
            self._open_relay,
            timing=self._fallback.timing,
            counts=self._host.counts,
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run, pipe)
                try:
                    await pipe.wait_open()
                    yield pipe
                finally:
                    await pipe.aclose()
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise_alone(group)

    @staticmethod
    async def _run(pipe: LastingPipe) -> None:
        with suppress(PeerError):  # whoever uses the pipe is told
            await pipe.run()

    # Rounds

    def _begin_round(self, number: int) -> None:
        """What we offer, or answer, in this round."""
        meeting = None
        if self._fallback.relayed and self._incoming:
            meeting = self._theirs.broker if self._theirs is not None else None
        elif self._fallback.relayed:
            meeting = secrets.token_hex(16)
        self._ours = RelayTerms(self._key.public, meeting, self._fallback.node, number)

    @asynccontextmanager
    async def _negotiate(self, number: int) -> AsyncIterator[DataChannel]:
        if number == 0:
            async with self._first_stack:
                if isinstance(self._first, NegotiationFailed):
                    raise self._first
                yield self._first
            return
        if not self._incoming:
            self._begin_round(number)
            self._negotiation = self._make_negotiation(self._offer)
        async with AsyncExitStack() as stack:
            yield await self._enter(stack)

    def _open_relay(self, number: int) -> AbstractAsyncContextManager[Carrier] | None:
        theirs = self._theirs
        if number != self._ours.round or theirs is None:
            return None
        if not self._incoming and theirs.round != number:
            # It did not answer this time; it will come to this meeting if it has the offer.
            theirs = replace(theirs, broker=self._ours.broker if theirs.broker is not None else None)
        mine = self._host.id
        try:
            secret = agree(
                self._key,
                theirs.key,
                self._role,
                connection_id=self._offer.connection_id,
                originator=self._peer if self._incoming else mine,
                answerer=mine if self._incoming else self._peer,
                round_=number,
            )
        except RemoteProtocolError as error:
            self._host.counts["lasting_bad_keys"] += 1
            log.warning("no relay to %r: %s", self._peer, error)
            return None
        return self._fallback.relays.open(self._peer, self._ours, theirs, secret)

    # Its negotiation

    def _make_negotiation(self, offer: Offer) -> Negotiation:
        webrtc = self._fallback.webrtc
        sdp = offer.sdp if self._incoming else None
        lasting = self._theirs is not None
        return Negotiation(webrtc, sdp, self._describe, label=offer.label, ordered=True, strict=lasting)

    def _describe(self, sdp: str) -> None:
        connection_id = self._offer.connection_id
        if self._incoming:
            terms = self._ours if self._theirs is not None else None
            self._host.signal(encode_answer(self._peer, Answer("data", connection_id, sdp, terms)))
        else:
            self._host.signal(encode_offer(self._peer, replace(self._offer, sdp=sdp, relay=self._ours)))
