"""Where a broker is, and what a peer asks it for."""

from __future__ import annotations

import re
import secrets
import ssl
import urllib.parse
from dataclasses import dataclass, field
from typing import Final

from ...exceptions import PeerError
from ...transports.streams import check_tls
from ...wire.addresses import join_host_port
from ...wire.urls import WebSocketUrl, parse_ws_url

__all__ = ["COMPATIBLE_VERSION", "BrokerAddress", "check_id", "random_token"]

COMPATIBLE_VERSION: Final = "1.5.5"
"""The version of `peerjs` whose messages a peer speaks: what it tells the broker."""

_ID: Final = re.compile("[A-Za-z0-9]+(?:[ _-][A-Za-z0-9]+)*")
_SAFE_IN_PATH: Final = "/%:@!$&'()*+,;="


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """A broker.

    Attributes:
        host: name or IP address.
        path: what the broker has as ``path``; slashes around it are added.
        key: what the broker has as ``key``. No secret.
        secure: whether it is spoken to over TLS.
        ssl_context: for that; None: the system's authorities.

    Raises:
        ValueError: no URL can be made of these, or the context would speak less than TLS 1.2.
    """

    host: str
    port: int
    path: str = "/"
    key: str = "peerjs"
    secure: bool = False
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        bare = self.host.removeprefix("[").removesuffix("]")
        parsed = parse_ws_url(f"ws://{join_host_port(bare, self.port)}/")
        if (parsed.port, parsed.target) != (self.port, "/"):
            raise ValueError(f"expected the name or the address of a host, not {self.host!r}")
        middle = self.path.strip("/")
        object.__setattr__(self, "host", parsed.host)
        object.__setattr__(self, "path", f"/{middle}/" if middle else "/")
        if not (self.key and self.key.isprintable() and self.path.isprintable()):
            raise ValueError(f"expected a key and a path of printable characters, not {self.key!r} and {self.path!r}")
        if self.ssl_context is not None:
            check_tls(self.ssl_context)

    @property
    def authority(self) -> str:
        """``host:port``."""
        return join_host_port(self.host, self.port)

    def http_url(self, method: str, ts: str) -> WebSocketUrl:
        """What to ask for over HTTP; `ts` differs in every request, so that no cache answers it.

        Args:
            method: ``"id"`` or ``"peers"``.
        """
        query = urllib.parse.urlencode({"ts": ts, "version": COMPATIBLE_VERSION})
        return self._url(f"{_quote(self.key)}/{method}?{query}")

    def websocket_url(self, id: str, token: str, *, relay: bool = False) -> WebSocketUrl:
        """Where the peer `id` registers. It holds the token: not for logs.

        Args:
            relay: ask whether the broker carries connections that WebRTC can not.
        """
        members = {"key": self.key, "id": id, "token": token, "version": COMPATIBLE_VERSION}
        if relay:
            members["relay"] = "1"
        return self._url(f"peerjs?{urllib.parse.urlencode(members, quote_via=urllib.parse.quote, safe='')}")

    def meeting_url(self, id: str, token: str, peer: str, meeting: str) -> WebSocketUrl:
        """Where two peers meet that can not reach each other. It holds the token: not for logs.

        Args:
            peer: the other one's id.
            meeting: what both call it, 32 hexadecimal digits.
        """
        members = {"key": self.key, "id": id, "token": token, "peer": peer, "meeting": meeting}
        return self._url(f"peerjs/relay?{urllib.parse.urlencode(members, quote_via=urllib.parse.quote, safe='')}")

    def _url(self, rest: str) -> WebSocketUrl:
        path = urllib.parse.quote(self.path, safe=_SAFE_IN_PATH)
        return WebSocketUrl(self.secure, self.host, self.port, path + rest)


def check_id(id: str) -> None:
    """Sees to it that a peer can have the id: letters and digits, and between them single spaces, ``-`` and ``_``.

    Raises:
        PeerError: ``invalid-id``.
    """
    if not _ID.fullmatch(id):
        wanted = "letters and digits, between them single spaces, '-' or '_'"
        raise PeerError("invalid-id", f"expected an id of {wanted}, not {id[:60]!r}")


def random_token() -> str:
    """What only a peer and its broker know: with it, and no other, the peer's id can be registered again."""
    return secrets.token_hex(16)


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")
