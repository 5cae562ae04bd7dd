"""One Socket.IO client: what it sends, over long polling or a WebSocket, and what waits for it.

Rules of this file:

1. Nothing here waits. Who carries the packets, a poll or a WebSocket, takes them from the outlet.
2. A session is on long polling until the packet UPGRADE comes over a WebSocket; then it never goes back.
3. Whoever ends a session says why, to `close`; what waits is written, and nothing more is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

from ...exceptions import RemoteProtocolError
from ...wire.json import JSONValue, array_to_bytes
from ..socketio.engineio import EnginePacket, EngineType, encode_packet
from ..socketio.packets import (
    ROOT,
    SocketPacket,
    SocketType,
    encode_ack,
    encode_connect,
    encode_connect_error,
    encode_event,
    parse_packet_untrusted,
)
from .core import HubCore
from .events import Action, EventNames
from .grants import Grant, Unauthorized
from .outlet import Outlet
from .topics import EVERY
from .updates import Update

__all__ = ["Session"]

_PING: Final = encode_packet(EnginePacket(EngineType.PING))
_MESSAGE: Final = str(int(EngineType.MESSAGE))
_MOST_CONNECTS: Final = 4
"""Of one session: each may have a signature in it that takes a millisecond to check."""


class Session:
    """What is known of one client; a `Client` of the hub.

    Args:
        sid: its name at the Engine.IO level, a secret of both sides.
        public_id: its name at the Socket.IO level.
        token: what it has shown when it came.
        abort: called once, when the session is closed.

    Attributes:
        outlet: packets for it, as text.
        on_websocket: whether it changed to a WebSocket, or began with one.
        probing: whether a WebSocket of it is being tried.
        polling, posting: whether a request of it is being answered.
        overflowed: whether it was closed because it did not read.
        let_in: whether it has said who it is, and may be here.
    """

    # fmt: off
    __slots__ = (
        "__weakref__", "_abort", "_connects", "_core", "_grant", "_names", "_ping_at", "_pinged", "_prefixes",
        "_public_id", "_silent_at", "_token", "crowd", "let_in", "on_websocket", "outlet", "overflowed",
        "polling", "posting", "probing", "sid",
    )
    # fmt: on

    def __init__(
        self,
        core: HubCore,
        names: EventNames,
        crowd: str,
        token: str | None,
        *,
        sid: str,
        public_id: str,
        abort: Callable[[Session], None],
    ) -> None:
        self.sid: Final = sid
        self.crowd: Final = crowd
        self._core: Final = core
        self._names: Final = names
        self._token: Final = token
        self._public_id: Final = public_id
        self._abort: Final = abort
        self.outlet: Final[Outlet[str]] = Outlet(core.outlets, self._overflow)
        self.on_websocket = self.probing = self.polling = self.posting = self.let_in = self.overflowed = False
        self._grant: Grant | None = None
        self._connects = 0
        self._prefixes: Final[dict[str, str]] = {}  # of the event that each topic was subscribed to by
        now = trio.current_time()
        self._silent_at = now + core.config.connect_timeout
        self._ping_at = now + core.config.ping_interval
        self._pinged = False

    def __repr__(self) -> str:
        return f"<Session over {'websocket' if self.on_websocket else 'polling'}, {len(self._prefixes)} topics>"

    @property
    def closed(self) -> bool:
        """Whether it is over; what waits may still be written."""
        return self.outlet.closed

    @property
    def waiting(self) -> int:
        """Bytes."""
        return self.outlet.size

    # A client of the hub

    def deliver(self, update: Update, topic: str) -> None:
        """Takes what was said; what is no packet has no form here."""
        message = update.message(f"{self._prefixes.get(topic, '')}message", topic)
        if message is None:
            self._core.counts["not_a_packet"] += 1
        else:
            self.outlet.put(_MESSAGE + message)

    def end(self) -> None:
        """The hub is over; the client may come back to another one."""
        self.close()

    def close(self) -> None:
        """Ends the session; idempotent."""
        if not self.outlet.closed:
            self.outlet.close()
            self._abort(self)

    def _overflow(self) -> None:
        self.overflowed = True
        self._abort(self)

    # By the clock

    def tick(self, now: float) -> None:
        """Looks whether the client is to be pinged, or is silent, or its grant is over."""
        config = self._core.config
        if self.closed:
            return
        if not self.let_in and now >= self._silent_at:
            self._core.counts["connect_timeout"] += 1
            self.close()
        elif self._grant is not None and time.time() >= self._grant.until:
            self._core.counts["grant_expired"] += 1
            self.close()
        elif now >= self._ping_at:
            if self._pinged:
                self._core.counts["ping_timeout"] += 1
                self.close()
            else:
                self._pinged, self._ping_at = True, now + config.ping_timeout
                self.outlet.put(_PING)

    # What the client sends

    def receive(self, packet: EnginePacket) -> None:
        """Takes a packet.

        Raises:
            RemoteProtocolError: the client broke a rule; the caller closes the session.
        """
        if self.closed:
            return
        match packet.type:
            case EngineType.MESSAGE:
                if isinstance(packet.data, bytes):
                    raise RemoteProtocolError("expected no binary message")
                self._receive_message(parse_packet_untrusted(packet.data), len(packet.data))
            case EngineType.PONG:
                if self._pinged:
                    self._pinged, self._ping_at = False, trio.current_time() + self._core.config.ping_interval
            case EngineType.CLOSE:
                self.close()
            case EngineType.NOOP:
                pass
            case _:
                raise RemoteProtocolError(f"expected no packet {packet.type.name} of engine.io")

    def _receive_message(self, packet: SocketPacket, size: int) -> None:
        if packet.type is SocketType.CONNECT:
            self._connect(packet)
        elif packet.namespace != ROOT or not self.let_in:
            raise RemoteProtocolError(f"expected no packet {packet.type.name} of socket.io before CONNECT")
        elif packet.type is SocketType.EVENT:
            self._receive_event(packet, size)
        elif packet.type is SocketType.DISCONNECT:
            self._core.topics.leave(self)
            self._prefixes.clear()
            self.let_in, self._grant = False, None
            self._silent_at = trio.current_time() + self._core.config.connect_timeout
        elif packet.type is not SocketType.ACK:
            raise RemoteProtocolError(f"expected no packet {packet.type.name} of socket.io")

    def _connect(self, packet: SocketPacket) -> None:
        if packet.namespace != ROOT:
            self._core.counts["refused_namespace"] += 1
            self._send(encode_connect_error("Invalid namespace", packet.namespace))
            return
        if self.let_in:
            raise RemoteProtocolError("expected one CONNECT")
        self._connects += 1
        if self._connects > _MOST_CONNECTS:
            raise RemoteProtocolError(f"expected at most {_MOST_CONNECTS} CONNECT in one session")
        shown = packet.data.get("token") if isinstance(packet.data, dict) else None
        try:
            self._grant = self._core.authority.judge(shown if isinstance(shown, str) else self._token)
        except Unauthorized as error:
            self._core.counts["unauthorized"] += 1
            self._send(encode_connect_error(f"unauthorized: {error}"))
            return
        self.let_in = True
        self._send(encode_connect({"sid": self._public_id}))

    def _receive_event(self, packet: SocketPacket, size: int) -> None:
        assert isinstance(packet.data, list)
        name, *arguments = packet.data
        if not self._core.pays(self.crowd, size):
            refusal: str | None = "too many bytes a second"
        elif not isinstance(name, str) or (found := self._names.get(name)) is None:
            self._core.counts["unknown_event"] += 1
            refusal = "expected an event of peerix"
        else:
            action, prefix = found
            try:
                refusal = self._act(action, prefix, arguments)
            except RemoteProtocolError as error:
                self._core.counts["bad_request"] += 1
                refusal = str(error)
        if refusal is not None:
            # An original client that waits for answers with a timeout looks at nothing but that.
            self._send(encode_event("error", refusal))
        if packet.id is not None:
            self._send(encode_ack(packet.id, *([] if refusal is None else [refusal])))

    def _act(self, action: Action, prefix: str, arguments: list[JSONValue]) -> str | None:
        """Does what an event asks for; returns why not, or None."""
        assert self._grant is not None
        topic = self._topic_untrusted(arguments)
        match action:
            case "subscribe":
                refusal = self._core.subscribe(self, [topic], self._grant)
                if refusal is None:
                    self._prefixes[topic] = prefix
                return refusal
            case "unsubscribe":
                self._core.topics.unsubscribe(self, topic)
                self._prefixes.pop(topic, None)
                return None
            case "publish":
                if not self._grant.may_publish([topic]):
                    self._core.counts["refused_publish"] += 1
                    return "not allowed to publish under this topic"
                packet = array_to_bytes(arguments[1] if len(arguments) > 1 else None)
                if packet is None or len(packet) > self._core.config.max_packet:
                    raise RemoteProtocolError(f"expected at most {self._core.config.max_packet} bytes in an array")
                self._core.publish(Update([topic], self._core.new_id(), packet=packet), self)
                return None

    def _topic_untrusted(self, arguments: list[JSONValue]) -> str:
        topic, most = arguments[0] if arguments else None, self._core.config.max_topic
        if not isinstance(topic, str) or not 0 < len(topic) <= most or topic == EVERY or not topic.isprintable():
            raise RemoteProtocolError(f"expected a topic of 1 to {most} printable characters, not *")
        return topic

    def _send(self, message: str) -> None:
        self.outlet.put(_MESSAGE + message)
