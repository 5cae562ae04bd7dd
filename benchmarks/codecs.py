"""WebSocket codecs without I/O, ours and others', behind one face: bytes of frames to messages, and back.

What the face costs is the same for all: one method call for each message sent and each read.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import wsproto.connection
import wsproto.events

from trio_relay.limits import Limits
from trio_relay.wire.websocket import Role, WebSocketCodec

__all__ = ["CODECS", "Codec"]

_MOST: Final = Limits().websocket_message


class Codec(Protocol):
    """One end of a connection that is open."""

    def encode(self, payload: bytes) -> bytes:
        """One binary message as one frame."""
        ...

    def decode(self, data: bytes) -> Sequence[bytes]:
        """The messages of one read."""
        ...


class _Ours:
    """`WebSocketCodec`; the pieces of a message are joined, as others do."""

    def __init__(self, client: bool) -> None:
        self._codec = WebSocketCodec(
            Role.CLIENT if client else Role.SERVER,
            max_message=_MOST,
            max_fragments=Limits().websocket_fragments,
            new_mask=lambda: os.urandom(4),
        )

    def encode(self, payload: bytes) -> bytes:
        return b"".join(self._codec.send_binary([payload]))

    def decode(self, data: bytes) -> Sequence[bytes]:
        return self._codec.receive_data(data)  # type: ignore[return-value]


class _Wsproto:
    """What trio-websocket uses."""

    def __init__(self, client: bool) -> None:
        kind = wsproto.connection.ConnectionType
        self._connection = wsproto.connection.Connection(kind.CLIENT if client else kind.SERVER)

    def encode(self, payload: bytes) -> bytes:
        return self._connection.send(wsproto.events.BytesMessage(payload))

    def decode(self, data: bytes) -> Sequence[bytes]:
        self._connection.receive_data(data)
        return [event.data for event in self._connection.events()]  # type: ignore[attr-defined]


class _Websockets:
    """The protocol of the `websockets` package, below its handshake."""

    def __init__(self, client: bool) -> None:
        import websockets.protocol

        side = websockets.protocol.Side.CLIENT if client else websockets.protocol.Side.SERVER
        self._protocol = websockets.protocol.Protocol(side, max_size=_MOST)

    def encode(self, payload: bytes) -> bytes:
        self._protocol.send_binary(payload)
        return b"".join(self._protocol.data_to_send())

    def decode(self, data: bytes) -> Sequence[bytes]:
        self._protocol.receive_data(data)
        return [event.data for event in self._protocol.events_received()]  # type: ignore[union-attr, misc]


CODECS: Final[dict[str, Callable[[bool], Codec]]] = {"trio_relay": _Ours, "wsproto": _Wsproto}
if importlib.util.find_spec("websockets") is not None:
    CODECS["websockets"] = _Websockets
