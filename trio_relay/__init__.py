"""A peer-to-peer message relay node for Trio programs.

Layers, highest first; a file imports only from its own folder and from layers below (`tests/test_layers.py`):

1. `cli`: the command line
2. `server`: a node and a relay server on one port
3. `wsrelay`: a slice of its own, the relay server for clients that can not reach each other, and its client
4. `serving`: what the servers of slices share
5. `node`: the nursery that runs one peer, and what the application sees of it
6. `overlay` (pure: routing, membership, directory), `transports` (all I/O)
7. `identity`
8. `wire` (pure: bytes to values and back)
9. `limits`, `exceptions`, `_bounded`

`testing` is for programs that test themselves with this package.
"""

from .exceptions import (
    DeliveryError,
    HandshakeError,
    LocalProtocolError,
    MailboxFull,
    NegotiationFailed,
    NoAcknowledgement,
    PayloadTooLarge,
    PeerError,
    PeerUnreachable,
    ProtocolError,
    RelayError,
    RemoteProtocolError,
    SessionTimeout,
    TopicUnavailable,
)
from .identity import Identity
from .limits import Limits
from .node.admit import Admit
from .node.datagram import DatagramSocket, open_datagram_socket
from .node.node import Node
from .node.opening import open_node
from .node.subscriptions import Subscription
from .node.values import (
    Event,
    EventsLost,
    LinkChanged,
    LinkDown,
    LinkInfo,
    LinkUp,
    Message,
    NodeStatistics,
    Publication,
    Receipt,
)
from .transports.webrtc import IceServer, WebRTCConfig
from .wire.ids import NodeId, parse_node_id
from .wire.record import PeerRecord

__all__ = [
    "Admit",
    "DatagramSocket",
    "DeliveryError",
    "Event",
    "EventsLost",
    "HandshakeError",
    "IceServer",
    "Identity",
    "Limits",
    "LinkChanged",
    "LinkDown",
    "LinkInfo",
    "LinkUp",
    "LocalProtocolError",
    "MailboxFull",
    "Message",
    "NegotiationFailed",
    "NoAcknowledgement",
    "Node",
    "NodeId",
    "NodeStatistics",
    "PayloadTooLarge",
    "PeerError",
    "PeerRecord",
    "PeerUnreachable",
    "ProtocolError",
    "Publication",
    "Receipt",
    "RelayError",
    "RemoteProtocolError",
    "SessionTimeout",
    "Subscription",
    "TopicUnavailable",
    "WebRTCConfig",
    "open_datagram_socket",
    "open_node",
    "parse_node_id",
]
