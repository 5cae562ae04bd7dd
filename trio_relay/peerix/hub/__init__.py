"""The signalling hub: what members in browsers and in Python meet at, a server for the drivers SSE and Socket.IO.

`serve_hub` runs under ``nursery.start``; ``trio-relay serve --hub`` runs it beside other servers.
"""

from .config import HubConfig, JwtConfig
from .serving import Hub, serve_hub
from .statistics import HubStatistics

__all__ = ["Hub", "HubConfig", "HubStatistics", "JwtConfig", "serve_hub"]
