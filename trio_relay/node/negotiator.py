"""WebRTC links between nodes of this package: carries out the attempts that the router starts, answers and ends."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import trio

from ..exceptions import HandshakeError, NegotiationFailed, RemoteProtocolError
from ..overlay.actions import Answered, EndNegotiation, Negotiate
from ..transports.data_channel import DataChannelConnection
from ..wire.description import binding
from ..wire.hello import SUBPROTOCOL
from ..wire.ids import short
from .negotiation import Negotiation, Opened, WebRTC
from .proving import Introduced, LegacyPeer, prove_as_acceptor, prove_as_dialler
from .runtime import Runtime

__all__ = ["Negotiator"]

logger = logging.getLogger("trio_relay")

_EXPECTED: Final = (
    NegotiationFailed,
    HandshakeError,
    RemoteProtocolError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""How an attempt may end; whatever else comes out of one is a bug, and ends the node."""


class Negotiator:
    """One task an attempt; it becomes the reader of the link."""

    def __init__(self, runtime: Runtime, webrtc: WebRTC) -> None:
        self._runtime: Final = runtime
        self._webrtc: Final = webrtc
        self._attempts: Final = dict[bytes, Negotiation]()

    def act(self, action: Negotiate | Answered | EndNegotiation) -> None:
        """Carries out what the router wants; does not wait."""
        attempt = self._attempts.get(action.negotiation)
        match action:
            case Negotiate() if attempt is None:
                self._begin(action)
            case Negotiate():
                # Strangers choose the ids of their offers; this one's first attempt has not ended here.
                self._runtime.services.start_soon(self._report, action, "the other side used an id twice")
            case Answered() if attempt is not None:
                attempt.answer(action.answer)
            case EndNegotiation() if attempt is not None:
                attempt.cancel(action.reason)

    def _begin(self, action: Negotiate) -> None:
        runtime, webrtc = self._runtime, self._webrtc
        if runtime.desk.closed:
            return
        made: list[tuple[DataChannelConnection, Introduced]] = []

        async def establish(opened: Opened) -> None:
            connection = DataChannelConnection(opened.channel, opened.pair, runtime.limits, webrtc.config)
            made.append((connection, await self._introduce(connection, action, opened)))

        attempt = Negotiation(
            webrtc,
            action.offer,
            partial(self._describe, action.negotiation),
            establish,
            label=SUBPROTOCOL,
            protocol=SUBPROTOCOL,
        )
        # At once: it may be ended before its task runs.
        self._attempts[action.negotiation] = attempt
        runtime.services.start_soon(self._run, action, attempt, made)

    async def _run(
        self, action: Negotiate, attempt: Negotiation, made: list[tuple[DataChannelConnection, Introduced]]
    ) -> None:
        """An attempt from its beginning, and the link that comes of it to its end."""
        try:
            async with attempt.run():
                self._forget(action, attempt)
                connection, introduced = made.pop()
                running = self._runtime.run_link(
                    connection,
                    introduced.peer,
                    introduced.messages,
                    dialled=action.offer is None,
                    rtt=introduced.rtt,
                    negotiation=action.negotiation,
                )
                del introduced  # an idle link does not hold it
                await running
        except _EXPECTED as error:
            logger.debug("no WebRTC link with %s: %s", short(action.id), error)
            await self._report(action, str(error))
        finally:
            self._forget(action, attempt)

    def _forget(self, action: Negotiate, attempt: Negotiation) -> None:
        if self._attempts.get(action.negotiation) is attempt:
            del self._attempts[action.negotiation]

    async def _report(self, action: Negotiate, reason: str) -> None:
        """It came to nothing; does not wait."""
        runtime = self._runtime
        runtime.counts["negotiations_failed"] += 1
        runtime.act(runtime.router.negotiation_failed(action.negotiation, reason, trio.current_time()))

    def _describe(self, negotiation: bytes, description: str) -> None:
        runtime = self._runtime
        runtime.act(runtime.router.described(negotiation, description, trio.current_time()))

    async def _introduce(self, connection: DataChannelConnection, action: Negotiate, opened: Opened) -> Introduced:
        """Both ends prove their keys, and that the other saw the same descriptions: no relay is in between."""
        runtime = self._runtime
        router = runtime.router
        authority = binding(opened.offer, opened.answer)
        try:
            with trio.fail_after(runtime.limits.handshake_timeout):
                if action.offer is None:
                    introduced = await prove_as_dialler(
                        connection,
                        runtime.identity,
                        record=lambda: router.record.raw,
                        authority=authority,
                        expected=action.id,
                        from_record=True,
                    )
                else:
                    introduced = await prove_as_acceptor(
                        connection,
                        runtime.identity,
                        record=router.record.raw,
                        authorities=(authority,),
                        admit=runtime.admit,
                    )
        except trio.TooSlowError as error:
            raise NegotiationFailed("the channel opened, but the other side did not prove its id in time") from error
        if isinstance(introduced, LegacyPeer):
            raise NegotiationFailed("the other side sent text over a channel between nodes")
        if introduced.peer.id != action.id or introduced.peer.authority != authority:
            raise NegotiationFailed("the channel leads to somebody else")
        if introduced.peer.probe:
            raise NegotiationFailed("the other side wants no link, but probes for one")
        return introduced
