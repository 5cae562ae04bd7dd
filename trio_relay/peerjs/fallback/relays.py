"""Which relay both peers of a connection have in common, and how it is opened."""

from __future__ import annotations

import secrets
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from ...limits import Limits
from ...node.services import raise_alone
from ..messages import RelayTerms
from .broker_pipe import open_broker_pipe
from .carrier import RelayPipe, SealedCarrier
from .overlay_pipe import OverlayHub
from .sealing import SALT_SIZE, RelaySecret, SealedCarriage

__all__ = ["Relays"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relays:
    """The relays of one peer.

    Attributes:
        hub: of its node; None: it has none.
        meeting_url: where its broker has meetings: a function of the other peer's id and the meeting's name; None: the
            broker has none. A URL holds the peer's token.
        limits: of the WebSocket to the broker; `ssl_context` likewise.
        counts: ``relay_repeated``, and those of `OverlayHub`.
    """

    hub: OverlayHub | None = None
    meeting_url: Callable[[str, str], str] | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)
    ssl_context: ssl.SSLContext | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def open(
        self, peer: str, ours: RelayTerms, theirs: RelayTerms, secret: RelaySecret
    ) -> AbstractAsyncContextManager[SealedCarrier] | None:
        """The relay for one round of a connection: the overlay if both have a node, else the broker if both named it.

        The caller sets the deadline of entering: it takes until the other side has come, too.

        Args:
            peer: the other peer's id.
            ours: what we said in this round; `theirs` what the other side said.
            secret: of the round.

        Returns:
            None: there is no relay in common.

        Raises:
            OSError, HandshakeError: when it is entered: the broker can not be reached, or has no meetings.
            trio.BrokenResourceError: likewise: there was no way to the other side, or it left again.
            RemoteProtocolError: likewise: what came is not from the other side.
        """
        if self.hub is not None and ours.node is not None and theirs.node is not None:
            outgoing, incoming = secret.outgoing_tag, secret.incoming_tag
            return self._sealed(self.hub.open(theirs.node, outgoing=outgoing, incoming=incoming), secret)
        if self.meeting_url is not None and ours.broker is not None and ours.broker == theirs.broker:
            url = self.meeting_url(peer, ours.broker)
            return self._sealed(open_broker_pipe(url, limits=self.limits, ssl_context=self.ssl_context), secret)
        return None

    @asynccontextmanager
    async def _sealed(
        self, opening: AbstractAsyncContextManager[RelayPipe], secret: RelaySecret
    ) -> AsyncIterator[SealedCarrier]:
        try:
            async with opening as pipe:
                salt = secrets.token_bytes(SALT_SIZE)
                carriage = SealedCarriage(secret, pipe.medium, salt, counts=self.counts, reorder=pipe.reorder)
                carrier = SealedCarrier(pipe, carriage)
                await carrier.open()
                yield carrier
        except BaseExceptionGroup as group:
            raise_alone(group)
