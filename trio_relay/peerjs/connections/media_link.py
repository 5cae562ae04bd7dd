"""A call as one of the connections of a peer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import trio

from ...transports.webrtc import MediaTrack
from ..messages import Offer, encode_answer, encode_offer
from .host import Host
from .media_call import MediaCall
from .media_connection import MediaConnection

__all__ = ["MediaLink"]


class MediaLink(MediaCall):
    """Implements `Link`; an incoming call can be accepted as soon as it runs."""

    def __init__(
        self, host: Host, peer: str, offer: Offer, *, incoming: bool, tracks: Iterable[MediaTrack] = ()
    ) -> None:
        super().__init__(
            host.media,
            host.webrtc.config,
            peer,
            offer,
            send_offer=lambda mine: host.signal(encode_offer(peer, mine)),
            send_answer=lambda mine: host.signal(encode_answer(peer, mine)),
            counts=host.counts,
            incoming=incoming,
            tracks=tracks,
            timeout=math.inf,  # `Peer.call` has the deadline
            negotiating=host.answering if incoming else host.offering,
        )
        self._host: Final = host
        self._is_incoming: Final = incoming

    async def run(self, *, task_status: trio.TaskStatus[MediaConnection] = trio.TASK_STATUS_IGNORED) -> None:
        """See `MediaCall.run`."""
        if self._is_incoming and not self._host.arrived(self.connection):
            self._host.counts["accept_full"] += 1
            self.stop()
            return
        await super().run(task_status=task_status)
