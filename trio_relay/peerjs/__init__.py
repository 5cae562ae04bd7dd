"""PeerJS for Trio: peers that talk to `peerjs` in browsers, and the broker that they meet at (PeerServer).

`open_peer` is an async context manager around a `Peer`, `serve_broker` runs under ``nursery.start``. Wire-compatible
with `peerjs` 1.5 (and the data connections of 1.4 and 0.3) and with `peer` 1.0.
"""

from ..exceptions import PeerError
from .broker.config import BrokerConfig, RelayedConfig
from .broker.hooks import BrokerClient, BrokerHooks, Registration
from .broker.serving import Broker, serve_broker
from .broker.statistics import BrokerStatistics
from .connections.data_connection import DataConnection
from .connections.media_connection import MediaConnection
from .errors import PEER_ERROR_TYPES, PeerErrorType
from .events import ConnectionFailed, PeerEvent, PeerLost, PeerOpened
from .opening import open_peer
from .options import PeerLimits, PeerOptions
from .peer import Peer, PeerStatistics
from .serialization.serializer import CLOSE, Serializer, SerializerFactory, SerializerLimits

__all__ = [
    "CLOSE",
    "PEER_ERROR_TYPES",
    "Broker",
    "BrokerClient",
    "BrokerConfig",
    "BrokerHooks",
    "BrokerStatistics",
    "ConnectionFailed",
    "DataConnection",
    "MediaConnection",
    "Peer",
    "PeerError",
    "PeerErrorType",
    "PeerEvent",
    "PeerLimits",
    "PeerLost",
    "PeerOpened",
    "PeerOptions",
    "PeerStatistics",
    "Registration",
    "RelayedConfig",
    "Serializer",
    "SerializerFactory",
    "SerializerLimits",
    "open_peer",
    "serve_broker",
]
