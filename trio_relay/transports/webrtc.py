"""WebRTC as the rest of the package sees it: its configuration, and what an implementation has to offer.

All functions here are Trio's. The implementation over aiortc is `trio_relay.transports.aio`; it is loaded only where
WebRTC is asked for. `WebRTCConfig.factory` puts another in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

from ..wire.description import Candidate

__all__ = [
    "CandidatePair",
    "CandidateType",
    "DataChannel",
    "Factory",
    "IceServer",
    "MediaFactory",
    "MediaKind",
    "MediaPeer",
    "MediaTrack",
    "PeerConnection",
    "RemoteTrack",
    "WebRTCConfig",
]

KIB: Final = 1024

_URL: Final = re.compile(r"(stun|turns?):[A-Za-z0-9._-]{1,253}(?::([0-9]{1,5}))?(?:\?transport=(udp|tcp))?")
_TRANSPORTS: Final = {"stun": (None,), "turn": (None, "udp", "tcp"), "turns": (None, "tcp")}

CandidateType: TypeAlias = Literal["host", "srflx", "prflx", "relay"]
"""Where an address of a connection comes from: an interface, a STUN server, the other side's packets, a TURN server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IceServer:
    """A STUN or TURN server.

    Attributes:
        urls: one URL: ``stun:HOST[:PORT]``, ``turn:HOST[:PORT][?transport=udp|tcp]``, or
            ``turns:HOST[:PORT][?transport=tcp]``, which is TLS (RFC 7064, RFC 7065). The host is a name or an IPv4
            address.
        username: for TURN.
        credential: for TURN.

    Raises:
        ValueError: it is no such URL, or TURN without a user name and a credential.
    """

    urls: str
    username: str = ""
    credential: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        parts = _URL.fullmatch(self.urls)
        if parts is None or parts[3] not in _TRANSPORTS[parts[1]] or not 0 < int(parts[2] or 1) < 65536:
            shown = re.sub(":.*@", ":...@", self.urls)
            raise ValueError(f"expected stun:HOST:PORT, turn:HOST:PORT or turns:HOST:PORT, not {shown!r}")
        if parts[1] != "stun" and not (self.username and self.credential):
            raise ValueError(f"expected a user name and a credential for {self.urls}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRTCConfig:
    """How a node makes WebRTC links. Sizes are bytes, times are seconds.

    Attributes:
        ice_servers: STUN and TURN servers; none by default: then peers find each other only where no address
            translation is in between. The implementation over aiortc uses the first STUN and the first TURN server.
        ice_transport_policy: ``"relay"`` uses the TURN server and nothing else, and tells nobody our addresses.
        negotiation_timeout: from the first offer to the open channel.
        negotiations: attempts under way, those of others included; one more is refused.
        send_buffer: what may wait inside WebRTC; more waits in the link's backlog, where it is counted.
        receive_window: what the other side may send beyond what was read here; 256 KiB at least.
        factory: makes a `PeerConnection`; default: aiortc.

    Raises:
        ValueError: a value is not positive, or relaying is asked for without a TURN server.
    """

    ice_servers: tuple[IceServer, ...] = ()
    ice_transport_policy: Literal["all", "relay"] = "all"
    negotiation_timeout: float = 10.0
    negotiations: int = 16
    send_buffer: int = 256 * KIB
    receive_window: int = 1024 * KIB
    factory: Factory | None = None

    def __post_init__(self) -> None:
        for name in ("negotiation_timeout", "negotiations", "send_buffer", "receive_window"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")
        if self.ice_transport_policy not in ("all", "relay"):
            raise ValueError(f"ice_transport_policy must be 'all' or 'relay', not {self.ice_transport_policy!r}")
        if self.ice_transport_policy == "relay" and all(s.urls.startswith("stun") for s in self.ice_servers):
            raise ValueError("expected a TURN server in ice_servers, for ice_transport_policy is 'relay'")


@dataclass(frozen=True, slots=True)
class CandidatePair:
    """The two addresses that a connection uses; addresses are ``host:port``, IPv6 in brackets."""

    local: CandidateType
    remote: CandidateType
    local_address: str
    remote_address: str


class DataChannel(Protocol):
    """An open data channel: a pipe of whole messages. One task receives, one sends.

    Errors of every method: `trio.ClosedResourceError` when it was closed on our side, `trio.BrokenResourceError` when
    the connection failed. An exception in the code between an event of the implementation and here, which would be a
    bug, is raised as it is by whoever waits next.
    """

    @property
    def label(self) -> str:
        """As its creator named it."""
        ...

    @property
    def protocol(self) -> str:
        """The subprotocol, as its creator named it."""
        ...

    @property
    def ordered(self) -> bool:
        """Whether messages arrive in the order in which they were sent."""
        ...

    @property
    def reliable(self) -> bool:
        """Whether every message arrives while the connection lasts: no limit of time or repetitions was set."""
        ...

    @property
    def max_message(self) -> int:
        """Bytes in one message: what the other side announced."""
        ...

    @property
    def buffered_amount(self) -> int:
        """Bytes given to `send` that the implementation has not sent yet."""
        ...

    async def receive(self) -> list[bytes | str]:
        """Waits for at least one message and returns all that are there; an empty list: the other side closed."""
        ...

    async def send(self, message: bytes | str) -> None:
        """Waits until no more than `WebRTCConfig.send_buffer` bytes are buffered, then hands the message over.

        Raises:
            ValueError: it is larger than `max_message`.
        """
        ...

    async def drain(self) -> None:
        """Waits until the implementation has handed everything to the network; the other side may have less."""
        ...


class PeerConnection(Protocol):
    """One connection, from its negotiation to its end. Its factory's context manager closes it.

    Errors of its methods: `NegotiationFailed` with the reason; whatever the other side sent, nothing else is raised.
    """

    async def create_offer(self, label: str, *, protocol: str = "", ordered: bool = True) -> str:
        """Makes a reliable data channel, and returns a session description with all candidates."""
        ...

    async def create_answer(self, offer: str) -> str:
        """Takes the other side's offer and returns the answer, with all candidates."""
        ...

    async def accept_answer(self, answer: str) -> None:
        """Takes the other side's answer."""
        ...

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Takes one more address of the other side, None when it has no more; early ones are kept, a bounded number."""
        ...

    async def channel(self) -> DataChannel:
        """Waits until our data channel, or the first of the other side, is open.

        One of the other side may be of any kind: see its `ordered` and `reliable`.
        """
        ...

    def selected_pair(self) -> CandidatePair | None:
        """Which addresses are in use; None before it is known."""
        ...


Factory: TypeAlias = Callable[[WebRTCConfig], AbstractAsyncContextManager[PeerConnection]]
"""Makes one connection; the end of the block closes it, within a bounded time, and leaves nothing behind."""


# Audio and video

MediaKind: TypeAlias = Literal["audio", "video"]


class MediaTrack(Protocol):
    """What is sent: an ``aiortc.MediaStreamTrack``. Its `recv` is asyncio's; aiortc calls it on its loop."""

    kind: str

    @property
    def id(self) -> str:
        """A name of its own."""
        ...

    async def recv(self) -> Any:
        """The next frame."""
        ...

    def stop(self) -> None:
        """The end of it; aiortc calls this when the connection ends that it was given to."""
        ...


class RemoteTrack(Protocol):
    """What the other side sends, as one Trio task reads it: ``async for frame in track``, until the track ends.

    Attributes:
        id: as the other side has named it.
        muted: nothing has come of it yet.
        ended: nothing will come any more; frames may still wait to be received.
        track: the same as an ``aiortc.MediaStreamTrack``, for those who read it on the asyncio loop instead of here.
    """

    @property
    def kind(self) -> MediaKind: ...

    @property
    def id(self) -> str: ...

    @property
    def muted(self) -> bool: ...

    @property
    def ended(self) -> bool: ...

    @property
    def track(self) -> Any: ...

    async def receive(self) -> Any:
        """Waits for the next frame, an ``av.AudioFrame`` or ``av.VideoFrame``.

        Only a few frames wait; of those that nobody receives in time the oldest are lost. While nobody receives any,
        nothing is decoded.

        Raises:
            trio.EndOfChannel: the other side ended the track, or the connection is at its end.
            trio.ClosedResourceError: the connection was closed on our side.
        """
        ...

    def __aiter__(self) -> RemoteTrack: ...

    async def __anext__(self) -> Any: ...


class MediaPeer(Protocol):
    """One connection with audio and video, from its negotiation to its end. Its factory's context manager closes it.

    Errors of `create_offer`, `create_answer`, `accept_answer`, `add_candidate` and `wait_connected`:
    `NegotiationFailed` with the reason; whatever the other side sent, nothing else is raised. The tracks that it
    has sent are stopped when it ends.
    """

    async def create_offer(self, tracks: Sequence[MediaTrack], *, label: str = "undefined") -> str:
        """Makes a session description with these tracks, which share one stream, and all candidates.

        Args:
            label: of a data channel that carries nothing: its end tells the other side that we have hung up.

        Raises:
            ValueError: see `media_tracks.check_offered`.
        """
        ...

    async def create_answer(self, offer: str, tracks: Sequence[MediaTrack] = ()) -> str:
        """Takes the other side's offer and returns the answer, with all candidates.

        Raises:
            ValueError: see `media_tracks.check_answered`.
        """
        ...

    async def accept_answer(self, answer: str) -> None:
        """Takes the other side's answer."""
        ...

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Takes one more address of the other side, None when it has no more; early ones are kept, a bounded number."""
        ...

    async def wait_connected(self) -> None:
        """Waits until media can flow."""
        ...

    async def wait_closed(self) -> str:
        """Waits until the connection is at its end, and returns why: for example, the other side has hung up."""
        ...

    @property
    def remote_tracks(self) -> tuple[RemoteTrack, ...]:
        """Those of the other side: all of them, as soon as its description was taken."""
        ...

    def selected_pair(self) -> CandidatePair | None:
        """Which addresses are in use; None before it is known."""
        ...


MediaFactory: TypeAlias = Callable[[WebRTCConfig], AbstractAsyncContextManager[MediaPeer]]
"""Makes one; the end of the block closes it, within a bounded time, and leaves nothing behind, threads included."""
