"""The options of a room: the original's under Python names, with its defaults, and what goes beyond it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ..transports.bundle import BundleFactory
from ..transports.webrtc import IceServer, WebRTCConfig
from .transfers.limits import TransferLimits

__all__ = ["DEFAULT_LABEL", "ChannelOptions", "RoomLimits", "RoomOptions", "Verify"]

DEFAULT_LABEL: Final = "default"
"""Of channels and streams that nobody named, and the name of a room likewise."""
MAX_LABEL: Final = 1024
"""Bytes of the label of a channel or a stream, and of a channel's protocol."""

Verify: TypeAlias = Callable[[str, Any], bool | Awaitable[bool]]
"""Says whether to connect to a member; it is given its id and its metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOptions:
    """A data channel to each member.

    Attributes:
        label: its name; there is one channel of a label between two members.
        protocol: a name for what is spoken on it. Messages in pieces need a channel without one.
        ordered: whether messages arrive in the order in which they were sent.
        max_packet_lifetime: seconds after which a message is given up.
        max_retransmits: how often a message is repeated before it is given up.

    Raises:
        ValueError: both limits are given, one is negative, or a name is too long.
    """

    label: str = DEFAULT_LABEL
    protocol: str = ""
    ordered: bool = True
    max_packet_lifetime: float | None = None
    max_retransmits: int | None = None

    def __post_init__(self) -> None:
        for name in (self.label, self.protocol):
            check_label(name)
        if self.max_packet_lifetime is not None and self.max_retransmits is not None:
            raise ValueError("expected max_packet_lifetime or max_retransmits, not both")
        if self.max_packet_lifetime is not None and not 0 <= self.max_packet_lifetime <= 65.535:
            raise ValueError(f"expected a max_packet_lifetime of 0 to 65.535 s, not {self.max_packet_lifetime!r}")
        if self.max_retransmits is not None and not 0 <= self.max_retransmits <= 65535:
            raise ValueError(f"expected max_retransmits of 0 to 65535, not {self.max_retransmits!r}")


def check_label(label: str) -> None:
    """Raises ValueError for what can not be the name of a channel or a stream."""
    if len(label.encode(errors="surrogatepass")) > MAX_LABEL:
        raise ValueError(f"expected a label of at most {MAX_LABEL} bytes, not {label[:32]!r}...")
    try:
        label.encode()
    except UnicodeEncodeError:
        raise ValueError(f"expected a label that has a UTF-8 form, not {label!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomLimits:
    """What a room holds at most; times are seconds.

    Attributes:
        members: connections at once, those included that are being made; more are not answered, counted.
        negotiations: connections being made at once; others wait for their turn.
        channels: data channels to one member; one more is closed, counted.
        streams: streams of one member, and of our own.
        verifications: members whose ``verify`` is under way; more are dropped, counted. Each has `verify_timeout`.
        signals: packets that wait to be read; more are dropped, counted.
        strangers: packets a second of keys that were not seen before (each costs a tenth of a millisecond), in the
            long run; four times as many at once.
        metadata: bytes of a member's metadata as JSON.
        events: that wait in one subscription; what does not fit is reported as `EventsLost`.
        retries: how often a member whose connection failed is invited again, with growing waits.
        close_timeout: for the end of a connection.
        transfers: bounds of messages.
    """

    members: int = 256
    negotiations: int = 16
    channels: int = 64
    streams: int = 16
    verifications: int = 64
    verify_timeout: float = 10.0
    signals: int = 1024
    strangers: float = 64.0
    metadata: int = 64 * 1024
    events: int = 1024
    retries: int = 5
    close_timeout: float = 2.0
    transfers: TransferLimits = field(default_factory=TransferLimits)

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if name != "transfers" and not (0 if name == "retries" else 1e-9) <= value < math.inf:
                raise ValueError(f"expected a positive {name}, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomOptions:
    """See `open_room`.

    Raises:
        ValueError: an option has a value that makes no sense; the message names it.
    """

    ice_servers: tuple[IceServer, ...] = ()
    ice_transport_policy: Literal["all", "relay"] = "all"
    candidate_debounce: float = 0.05
    connection_timeout: float = 15.0
    namespace_hashing: bool = True
    signaling_compression: bool = True
    signaling_encryption: bool = True
    verify: Verify | None = None
    join_timeout: float = 15.0
    factory: BundleFactory | None = None
    limits: RoomLimits = field(default_factory=RoomLimits)

    def __post_init__(self) -> None:
        for name in ("candidate_debounce", "connection_timeout"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"expected a {name} of zero or more seconds, not {getattr(self, name)!r}")
        if not self.join_timeout > 0:
            raise ValueError(f"expected a positive join_timeout, not {self.join_timeout!r}")
        self.webrtc()

    def webrtc(self) -> WebRTCConfig:
        """What connections are made with."""
        return WebRTCConfig(
            ice_servers=self.ice_servers,
            ice_transport_policy=self.ice_transport_policy,
            negotiation_timeout=self.connection_timeout or _NO_TIMEOUT,
        )


_NO_TIMEOUT: Final = 3600.0
"""Seconds that stand for no limit, where the machinery needs one."""
