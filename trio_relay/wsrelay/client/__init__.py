"""The client of a relay server: stays connected, keeps its watches, tells messages from what the server says."""

from .client import RelayClient, open_relay_client
from .core import RelayMessage
from .endings import RelayRefused, RelayReplaced

__all__ = ["RelayClient", "RelayMessage", "RelayRefused", "RelayReplaced", "open_relay_client"]
