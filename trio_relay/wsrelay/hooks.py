"""The application's code inside the relay: what it is asked and told, and how it is called.

Rules of this file:

1. A hook may be a function or a coroutine function; one that waits has a deadline.
2. A hook that raises, or is too slow, costs the connection or message that it was called for, nothing else: it is
   logged with its name, and counted as ``hook_failed``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ..transports.routes import Request, Response
from ..wire.json import JSONValue
from ..wire.websocket_frames import is_sendable_close_code
from .addresses import PeerAddress

if TYPE_CHECKING:
    from .peer import Peer
    from .registry import PeerRegistry

__all__ = ["Hooks", "Refusal", "Verification"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verification:
    """Who asks to be let in.

    Attributes:
        address: channel and id that the client asked for.
        request: its upgrade request.
        ip: its address, without a port.
        key: its access key, or None.
        registry: who is connected.
    """

    address: PeerAddress
    request: Request
    ip: str
    key: str | None
    registry: PeerRegistry

    def __repr__(self) -> str:
        return f"<Verification {self.address.text} from {self.ip}>"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A client is not let in.

    Attributes:
        reason: for the client, in the error frame and the close frame (at most 123 bytes there).
        close_code: of the WebSocket: 1000 to 1014 as far as they may be sent, or 3000 to 4999.
        error_code: in the error frame.

    Raises:
        ValueError: one of them is not of that form.
    """

    reason: str | None = None
    close_code: int = 1008
    error_code: str = "VERIFY_FAILED"

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str | None) or not isinstance(self.error_code, str):
            raise ValueError(f"expected texts as reason and error_code, not {self.reason!r} and {self.error_code!r}")
        if not isinstance(self.close_code, int) or not is_sendable_close_code(self.close_code):
            raise ValueError(f"expected a close_code that may be sent, not {self.close_code!r}")


Maybe: TypeAlias = T | Awaitable[T]
"""A hook's result, or a promise of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The application's functions, all of them optional; each may be ``async``.

    Attributes:
        verify_peer: decides about a client whose key is good, before it can push anybody out: None (or True) lets it
            in. Raising closes it with 1011.
        on_peer_connect: a peer was registered. Raising closes it with 1011.
        on_peer_disconnect: a peer is gone.
        on_message: a JSON object that is neither routed nor known came: peer, value, the bytes, registry. Its result is
            ignored, as the original's is.
        on_routed_message: before a message is forwarded: sender's address, receiver's address, value, the bytes. False
            blocks it. Costs a third of the throughput, for then every message is decoded whole.
        on_http_request: asked before the relay's own pages; a response ends the matter, None passes on.
    """

    verify_peer: Callable[[Verification], Maybe[Refusal | bool | None]] | None = None
    on_peer_connect: Callable[[Peer, PeerRegistry], Maybe[object]] | None = None
    on_peer_disconnect: Callable[[Peer, PeerRegistry], Maybe[object]] | None = None
    on_message: Callable[[Peer, JSONValue, bytes, PeerRegistry], Maybe[object]] | None = None
    on_routed_message: Callable[[str, str, JSONValue, bytes], Maybe[object]] | None = None
    on_http_request: Callable[[Request], Maybe[Response | None]] | None = None
