"""A relay server for clients that can not reach each other, wire-compatible with `@sumicom/ws-relay` 0.1.2.

Clients connect to ``/{channel}/{id}`` and write JSON messages to each other's address ``channel:id``; they may watch
who is connected, and exchange small blobs over HTTP.
"""

from ..transports.routes import Request, Response
from .addresses import Channel, PeerAddress, default_parse_id, percent_decoded
from .client.client import RelayClient, open_relay_client
from .client.core import RelayMessage
from .client.endings import RelayRefused, RelayReplaced
from .client.events import (
    ClientEvent,
    ClientStatistics,
    Connected,
    ConnectFailed,
    Disconnected,
    PresenceChanged,
    ServerError,
    Undelivered,
)
from .config import BlobConfig, RelayConfig
from .hooks import Hooks, Refusal, Verification
from .metering import KeyTraffic, Window
from .peer import Peer
from .registry import ChannelStatistics, PeerRegistry, RegistryStatistics
from .serving import Relay, serve_relay
from .statistics import RelayStatistics
from .stores.blobs import (
    BlobStatistics,
    BlobStore,
    BlobStoreBusy,
    BlobStoreError,
    BlobStoreFull,
    BlobTooLarge,
    MemoryBlobStore,
)
from .stores.key_files import FileKeyStore
from .stores.keys import EnvKeyStore, KeyStore
from .stores.sqlite_blobs import SqliteBlobStore

__all__ = [
    "BlobConfig",
    "BlobStatistics",
    "BlobStore",
    "BlobStoreBusy",
    "BlobStoreError",
    "BlobStoreFull",
    "BlobTooLarge",
    "Channel",
    "ChannelStatistics",
    "ClientEvent",
    "ClientStatistics",
    "ConnectFailed",
    "Connected",
    "Disconnected",
    "EnvKeyStore",
    "FileKeyStore",
    "Hooks",
    "KeyStore",
    "KeyTraffic",
    "MemoryBlobStore",
    "Peer",
    "PeerAddress",
    "PeerRegistry",
    "PresenceChanged",
    "Refusal",
    "RegistryStatistics",
    "Relay",
    "RelayClient",
    "RelayConfig",
    "RelayMessage",
    "RelayRefused",
    "RelayReplaced",
    "RelayStatistics",
    "Request",
    "Response",
    "ServerError",
    "SqliteBlobStore",
    "Undelivered",
    "Verification",
    "Window",
    "default_parse_id",
    "open_relay_client",
    "percent_decoded",
    "serve_relay",
]
