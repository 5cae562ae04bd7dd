"""WebSocket URLs (RFC 6455 section 3): where to dial, what to ask for, and the one spelling of an authority."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass

from .addresses import join_host_port, split_host_port

__all__ = ["WebSocketUrl", "authority", "host", "parse_ws_url"]

DEFAULT_PORTS = {"ws": 80, "wss": 443}

_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class WebSocketUrl:
    """A parsed ``ws://`` or ``wss://`` URL.

    Attributes:
        secure: whether it is ``wss``.
        host: name in lower case or IP address; IPv6 as in RFC 5952 and without brackets, an IPv4-mapped one with
            its last four bytes in decimal.
        port: the default one filled in.
        target: path and query, as they stand in the request line.
    """

    secure: bool
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """``host:port``."""
        return join_host_port(self.host, self.port)

    @property
    def host_header(self) -> str:
        """The authority, without a default port (RFC 9110 section 7.2)."""
        if self.port == DEFAULT_PORTS["wss" if self.secure else "ws"]:
            return self.authority.rpartition(":")[0]
        return self.authority

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.target}"


def parse_ws_url(url: str) -> WebSocketUrl:
    """Parses a WebSocket URL; user information and fragments are refused.

    Raises:
        ValueError: it is not such a URL; the message says what is wrong.
    """
    if _VISIBLE.fullmatch(url) is None:
        raise ValueError(f"expected a URL of visible ASCII characters, not {url!r}")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in DEFAULT_PORTS:
        raise ValueError(f"expected a URL like ws://host:port or wss://host:port, not {url!r}")
    if "#" in rest:
        raise ValueError(f"expected a URL without a fragment, not {url!r}")
    end = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    host_port, target = rest[:end], rest[end:]
    if "@" in host_port:
        raise ValueError(f"expected a URL without user information, not {url!r}")
    found = split_host_port(host_port)
    if found is None or found[1] == 0:
        raise ValueError(f"expected host:port after {scheme}://, not {host_port!r}")
    host, port = found
    return WebSocketUrl(
        secure=scheme == "wss",
        host=_spell_ipv6(host) if ":" in host else host.lower(),
        port=DEFAULT_PORTS[scheme] if port is None else port,
        target=target if target.startswith("/") else "/" + target,
    )


def _spell_ipv6(host: str) -> str:
    # Python writes IPv4-mapped addresses in two ways, depending on its version; peers compare authorities as text.
    address = ipaddress.IPv6Address(host)
    return str(address) if address.ipv4_mapped is None else f"::ffff:{address.ipv4_mapped}"


def authority(url: str) -> str:
    """``host:port`` of a URL with any scheme, in lower case, with the default port of ws and wss filled in.

    Raises:
        ValueError: it is not a URL with an authority.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in DEFAULT_PORTS:
        return parse_ws_url(url).authority
    found = urllib.parse.urlsplit(url).netloc.lower()
    if not found:
        raise ValueError(f"expected a URL like ws://host:port, not {url!r}")
    return found


def host(url: str) -> str:
    """The host of a URL with any scheme, in lower case, IPv6 without brackets.

    Raises:
        ValueError: it is not a URL with an authority.
    """
    found = split_host_port(authority(url))
    if found is None:
        raise ValueError(f"expected a URL like ws://host:port, not {url!r}")
    return found[0]
