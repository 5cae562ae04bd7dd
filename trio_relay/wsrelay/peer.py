"""A connected peer: what hooks may know of it, and what the relay keeps for it."""

from __future__ import annotations

from typing import Final, NamedTuple

import trio

from ..serving.outbox import Outbox
from ..serving.rates import MessageWindow
from ..transports.websocket import WebSocketConnection
from .addresses import PeerAddress
from .messages import encode_error
from .metering import Account

__all__ = ["BAD_KEY", "HOOK_FAILED", "REPLACED", "SHUTDOWN", "TOO_SLOW", "Ending", "LivePeer", "Peer"]


class Ending(NamedTuple):
    """How the relay ends a connection: what it says in an error frame, if anything, and in the close frame."""

    code: int
    reason: str
    frame: bytes | None = None


REPLACED: Final = Ending(1000, "Replaced", encode_error("REPLACED", "Replaced by new connection"))
BAD_KEY: Final = Ending(1008, "Invalid key", encode_error("INVALID_KEY", "Access key rejected"))
HOOK_FAILED: Final = Ending(1011, "Internal error")
TOO_SLOW: Final = Ending(1008, "Too slow", encode_error("TOO_SLOW", "Messages were not read in time"))
SHUTDOWN: Final = Ending(1001, "Server shutting down")


class Peer:
    """One connection at an address.

    Attributes:
        channel: its channel's name.
        id: its id on the channel.
        address: ``channel:id``.
        ip: the client's address, without a port.
        connected_at: Unix time in seconds.
        key: its access key; None on a relay that wants none.
        bytes_in: received from it in messages, those included that were refused.
        bytes_out: routed messages that were sent to it.
    """

    __slots__ = ("__weakref__", "address", "bytes_in", "bytes_out", "channel", "connected_at", "id", "ip", "key")

    def __init__(self, address: PeerAddress, ip: str, key: str | None, connected_at: float) -> None:
        self.channel, self.id = address
        self.address: Final = address.text
        self.ip: Final = ip
        self.key: Final = key
        self.connected_at: Final = connected_at
        self.bytes_in = self.bytes_out = 0

    def __repr__(self) -> str:
        return f"<Peer {self.address} from {self.ip}>"


class LivePeer(Peer):
    """The same with what the relay's own files need.

    Attributes:
        rate_name: whose rates it shares, besides its key's: its IP address or network.
        reports: whether it asked to be told what became of its messages.
        account: its key's traffic; None on a relay that wants no keys.
        paused: reading from it waits for a slow receiver, or for a hook.
        ending: the relay is closing the connection; None while it is not.
        goodbye: set when it has done so.
        joined: whether it was ever registered.
        registered: whether it can be reached at its address.
    """

    # fmt: off
    __slots__ = (
        "account", "connection", "ending", "goodbye", "joined", "outbox", "paused", "rate_name", "registered",
        "reports", "window",
    )
    # fmt: on

    def __init__(
        self,
        address: PeerAddress,
        ip: str,
        key: str | None,
        connected_at: float,
        *,
        connection: WebSocketConnection,
        outbox: Outbox,
        window: MessageWindow,
        rate_name: str,
        reports: bool,
    ) -> None:
        super().__init__(address, ip, key, connected_at)
        self.connection: Final = connection
        self.outbox: Final = outbox
        self.window: Final = window
        self.account: Account | None = None
        self.rate_name: Final = rate_name
        self.reports: Final = reports
        self.paused = False
        self.ending: Ending | None = None
        self.goodbye: trio.Event | None = None
        self.joined = self.registered = False
