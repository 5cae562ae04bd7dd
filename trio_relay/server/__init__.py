"""One port for everything: the overlay's node, relay server, PeerJS broker and signalling hub behind one listener."""

from .config import NodeSettings, ServerConfig
from .serving import Reloaded, Server, open_server

__all__ = ["NodeSettings", "Reloaded", "Server", "ServerConfig", "open_server"]
