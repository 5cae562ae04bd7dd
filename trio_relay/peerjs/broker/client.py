"""A client's connection, and what the broker keeps for it."""

from __future__ import annotations

from typing import Final

import trio

from ..._bounded import TokenBucket
from ...serving.outbox import Outbox
from ...transports.websocket import WebSocketConnection
from .hooks import BrokerClient
from .messages import encode_name

__all__ = ["LiveClient"]


class LiveClient:
    """One WebSocket under an id.

    Attributes:
        id: its id; `name`: the same as JSON.
        token: its secret.
        arrived: its place in the order in which clients asked to be let in.
        crowd: whose limits it shares: its IP address or network.
        connected_at: Unix time in seconds.
        rate: of its messages; None: there is no limit.
        joined: whether it was ever registered.
        replaced: whether it came back on another socket.
        registered: whether it can be reached, and may send.
        goodbye: set when the broker has closed the connection; None while it does not.
    """

    # fmt: off
    __slots__ = (
        "__weakref__", "arrived", "connected_at", "connection", "crowd", "goodbye", "id", "ip", "joined", "name",
        "outbox", "rate", "registered", "replaced", "token",
    )
    # fmt: on

    def __init__(
        self,
        id: str,
        token: str,
        ip: str,
        crowd: str,
        connected_at: float,
        *,
        arrived: int,
        connection: WebSocketConnection,
        outbox: Outbox,
        rate: TokenBucket | None,
    ) -> None:
        self.id: Final = id
        self.name: Final = encode_name(id)
        self.token: Final = token
        self.arrived: Final = arrived
        self.ip: Final = ip
        self.crowd: Final = crowd
        self.connected_at: Final = connected_at
        self.connection: Final = connection
        self.outbox: Final = outbox
        self.rate: Final = rate
        self.joined = self.replaced = self.registered = False
        self.goodbye: trio.Event | None = None

    def __repr__(self) -> str:
        return f"<LiveClient {self.id} from {self.ip}>"

    def view(self) -> BrokerClient:
        """What hooks may see."""
        return BrokerClient(self.id, self.ip, self.connected_at)
