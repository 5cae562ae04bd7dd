"""The one error tree of the package; closed, busy and would-block conditions raise Trio's own errors.

```
RelayError
├── ProtocolError            a wire rule was broken
│   ├── LocalProtocolError   ... by this program: fix the call
│   └── RemoteProtocolError  ... by the other side: its link closes, nothing else suffers
├── HandshakeError           a link was not established (refused, timed out, wrong key)
├── DeliveryError            a confirmed message was not confirmed; see `outcome`
│   ├── PeerUnreachable
│   ├── NoAcknowledgement
│   ├── SessionTimeout
│   └── MailboxFull
├── PayloadTooLarge
├── NegotiationFailed        a direct link to a known peer could not be made
└── PeerError                an error of the PeerJS world, with its `type` name
```
"""

from __future__ import annotations

from typing import Final, Literal

__all__ = [
    "DeliveryError",
    "HandshakeError",
    "LocalProtocolError",
    "MailboxFull",
    "NegotiationFailed",
    "NoAcknowledgement",
    "Outcome",
    "PayloadTooLarge",
    "PeerError",
    "PeerUnreachable",
    "ProtocolError",
    "RelayError",
    "RemoteProtocolError",
    "SessionTimeout",
]

Outcome = Literal["not_delivered", "unknown"]


class RelayError(Exception):
    """Base of every error that this package defines."""


class ProtocolError(RelayError):
    """A rule of a wire protocol was broken; raised only as one of its two subclasses."""


class LocalProtocolError(ProtocolError):
    """This program asked for something that the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The other side sent something that the protocol does not allow.

    Attributes:
        close_code: WebSocket close code (RFC 6455 section 7.4.1) that answers the violation.
    """

    def __init__(self, message: str, close_code: int = 1002) -> None:
        super().__init__(message)
        self.close_code: Final = close_code


class HandshakeError(RelayError):
    """A link was not established: refused, timed out, or the other side did not prove its id.

    Attributes:
        status: the HTTP status that answered the request for a WebSocket, where that was the reason; else None.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status: Final = status


class DeliveryError(RelayError):
    """A confirmed message got no confirmation.

    Attributes:
        outcome: ``"not_delivered"`` when the message is certainly not in the receiver's mailbox,
            ``"unknown"`` when it left this node and may have arrived.
    """

    def __init__(self, message: str, outcome: Outcome = "unknown") -> None:
        super().__init__(message)
        self.outcome: Final = outcome


class PeerUnreachable(DeliveryError):
    """No relay that was asked has a way to the peer."""


class NoAcknowledgement(DeliveryError):
    """The message was sent, several times over different paths, and no answer came in time."""


class SessionTimeout(DeliveryError):
    """No end-to-end session with the peer could be opened in time."""


class MailboxFull(DeliveryError):
    """The peer answered that its mailbox is full."""


class PayloadTooLarge(RelayError):
    """A payload exceeds `Limits.payload`."""


class NegotiationFailed(RelayError):
    """The peer is known, but a direct link to it could not be made."""


class PeerError(RelayError):
    """An error of the PeerJS world.

    Attributes:
        type: the original's name of the error, for example ``"peer-unavailable"``.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type: Final = type
