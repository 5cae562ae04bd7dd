"""A WebRTC connection with any number of data channels and streams, negotiated again while it lasts.

All functions here are Trio's; the implementation over aiortc is `trio_relay.transports.aio.bundle`. "Plain" functions
do not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from ..wire.description import Candidate
from .webrtc import CandidatePair, DataChannel, MediaTrack, RemoteTrack, WebRTCConfig

__all__ = ["Bundle", "BundleChannel", "BundleFactory", "BundleState", "StreamTrack"]

BundleState: TypeAlias = Literal["new", "connecting", "connected", "disconnected", "failed", "closed"]
"""``disconnected``: the other side has not answered for some seconds; it may again, and then it is ``connected``."""


class BundleChannel(DataChannel, Protocol):
    """One of several data channels. Its `receive` gives an empty list when the other side closed it."""

    @property
    def open(self) -> bool:
        """Whether messages can be sent now."""
        ...

    async def wait_open(self) -> None:
        """Waits until it is open.

        Raises:
            trio.ClosedResourceError: it was closed here.
            trio.BrokenResourceError: the other side closed it, or the connection failed.
        """
        ...

    async def send(self, message: bytes | str) -> None:
        """As of `DataChannel`; waits until the channel is open, too, and raises what `wait_open` raises."""
        ...

    async def aclose(self) -> None:
        """Closes this channel alone; what was given to `send` is still sent, as far as the connection lasts."""
        ...


@dataclass(frozen=True, slots=True)
class StreamTrack:
    """A track of the other side.

    Attributes:
        stream: the id of its stream (``a=msid``, RFC 8830); empty when it has none.
    """

    track: RemoteTrack
    stream: str


class Bundle(Protocol):
    """One connection, from its negotiation to its end. Its factory's context manager closes it.

    Descriptions are negotiated by one task, one after the other. Errors of `create_offer`, `accept_offer`,
    `accept_answer` and `add_candidate`: `NegotiationFailed` with the reason; whatever the other side sent, nothing
    else is raised. A description that is refused leaves the connection as it was, if that can be (`state` tells).
    """

    def open_channel(
        self,
        label: str,
        *,
        protocol: str = "",
        ordered: bool = True,
        max_retransmits: int | None = None,
        max_packet_lifetime: float | None = None,
        id: int | None = None,
    ) -> BundleChannel:
        """Plain. Makes a data channel; it opens when it can.

        Args:
            max_packet_lifetime: seconds.
            id: of a channel that both sides make by themselves (RFC 8832 section 4, "external negotiation").

        Raises:
            ValueError: both limits are given; one of them, the label, the protocol or the id is out of its range; a
                channel has the same id; or there are `bundle_checks.MAX_CHANNELS` of both sides together.
            trio.ClosedResourceError, trio.BrokenResourceError: the connection is at its end.
        """
        ...

    async def accept_channel(self) -> BundleChannel:
        """Waits for the next data channel that the other side made; those beyond the bound are closed and counted.

        Raises:
            trio.ClosedResourceError: the connection was closed here.
            trio.BrokenResourceError: it failed, or the other side closed it.
        """
        ...

    def set_stream(self, stream: str, tracks: Sequence[MediaTrack]) -> None:
        """Plain. What is sent as the stream of this id from now on; no tracks: nothing.

        A track replaces one of its kind without a new negotiation; otherwise `needs_negotiation` becomes true. Tracks
        that are no longer sent are not stopped; those that are may be sent over several connections at once. A track
        that the other side refuses is not offered again, until it is set again after it was taken away. At the end of
        the connection nothing happens.

        Raises:
            ValueError: the id is not 1 to 64 ASCII characters without spaces; a track is there twice, or neither audio
                nor video; or there are more than `bundle_checks.MAX_SHARED_TRACKS` in all streams.
        """
        ...

    @property
    def needs_negotiation(self) -> bool:
        """Whether something waits to be told to the other side: a first channel, tracks.

        It does not while an offer of ours waits for its answer: after that, `needs_negotiation` says what is left.
        """
        ...

    async def wait_negotiation_needed(self) -> None:
        """Waits until `needs_negotiation`.

        Raises:
            trio.ClosedResourceError: the connection was closed here.
            trio.BrokenResourceError: it failed, or the other side closed it.
        """
        ...

    async def create_offer(self) -> str:
        """Returns a session description of all that there is to be, with all candidates.

        Nothing is changed by it until its answer is accepted; until then, `accept_offer` takes its place (what
        "rollback" does in browsers), and the next `create_offer`, too.
        """
        ...

    async def accept_offer(self, offer: str) -> str:
        """Takes the other side's offer, and returns the answer, with all candidates; an offer of ours is void."""
        ...

    async def accept_answer(self, answer: str) -> None:
        """Takes the answer to the last offer, which is void when this fails.

        Raises:
            NegotiationFailed: also when there is no offer to answer.
        """
        ...

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Takes one more address of the other side, None when it has no more; early ones are kept, a bounded number."""
        ...

    async def accept_track(self) -> StreamTrack:
        """Waits for the next track of the other side; a bounded number waits, more are counted and not told.

        Raises:
            trio.ClosedResourceError: the connection was closed here.
            trio.BrokenResourceError: it failed, or the other side closed it.
        """
        ...

    @property
    def tracks(self) -> tuple[StreamTrack, ...]:
        """Plain. Those of the other side that have not ended."""
        ...

    @property
    def state(self) -> BundleState:
        """Plain. ``closed``: here, or by the other side's goodbye; ``failed``: everything else that ended it."""
        ...

    async def wait_state(self, than: BundleState) -> BundleState:
        """Waits until the state is another than `than`, and returns it."""
        ...

    @property
    def failure(self) -> str:
        """Plain. Why it is ``failed`` or ``closed``; empty before."""
        ...

    def selected_pair(self) -> CandidatePair | None:
        """Plain. Which addresses are in use; None before it is known."""
        ...


BundleFactory: TypeAlias = Callable[[WebRTCConfig], AbstractAsyncContextManager[Bundle]]
"""Makes one; the end of the block closes it, within a bounded time, and leaves nothing behind, threads included."""
