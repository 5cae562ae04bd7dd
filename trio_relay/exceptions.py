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
│   ├── MailboxFull
│   └── TopicUnavailable
├── PayloadTooLarge
├── NegotiationFailed        a direct link to a known peer could not be made
├── PeerError                an error of the PeerJS world, with its `type` name
└── RoomError                an error of the Peerix world, with its `code`
    ├── DriverError          what carries the signalling of a room failed
    └── TransferFailed       a message did not arrive whole at a member; see `reason`
```
"""

from __future__ import annotations

from typing import Final, Literal

__all__ = [
    "DeliveryError",
    "DriverError",
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
    "RoomError",
    "RoomErrorCode",
    "SessionTimeout",
    "TopicUnavailable",
    "TransferFailed",
    "TransferFailure",
]

Outcome = Literal["not_delivered", "unknown"]

RoomErrorCode = Literal[
    "UNKNOWN_ERROR",
    "SIGNALING_ERROR",
    "NEGOTIATION_ERROR",
    "ICECANDIDATE_ERROR",
    "MEDIASTREAM_ERROR",
    "DATACHANNEL_ERROR",
]

TransferFailure = Literal[
    "aborted-by-receiver",
    "aborted-by-sender",
    "cancelled",
    "disconnected",
    "no-channel",
    "out-of-order",
    "source-failed",
    "stalled",
    "timeout",
    "too-large",
    "unsupported-channel",
]
"""Why a message did not arrive whole. ``cancelled`` is by this program; ``stalled``: nobody read it here in time;
``timeout``: the other side took nothing, or did not confirm, in time."""


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


class TopicUnavailable(DeliveryError):
    """No relay took a subscription, or a publication, in time."""


class PayloadTooLarge(RelayError):
    """A payload exceeds `Limits.payload`, or the data of a publication 56 KiB."""


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


class RoomError(RelayError):
    """An error of the Peerix world.

    Attributes:
        code: the original's name of the error.
    """

    def __init__(self, code: RoomErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: Final = code


class DriverError(RoomError):
    """A driver can not carry something now, or its broker refused it."""

    def __init__(self, message: str) -> None:
        super().__init__("SIGNALING_ERROR", message)


class TransferFailed(RoomError):
    """A message did not arrive whole.

    Attributes:
        member: the id of the other side.
        reason: why.
    """

    def __init__(self, member: str, reason: TransferFailure, message: str) -> None:
        super().__init__("DATACHANNEL_ERROR", message)
        self.member: Final = member
        self.reason: Final = reason
