"""What an address is worth: how far it reaches, whose network it is in, and its one spelling. No name is resolved."""

from __future__ import annotations

import enum
import ipaddress
import re
from typing import NamedTuple

__all__ = [
    "Endpoint",
    "Scope",
    "is_dialable",
    "join_host_port",
    "network_group",
    "parse_listen",
    "scope",
    "split_host_port",
]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

GROUP_PREFIX = {4: 24, 6: 64}
"""Bits that one owner usually holds: a /24 is the smallest routed IPv4 block, a /64 one IPv6 site's subnet."""

BROADCAST = ipaddress.IPv4Address("255.255.255.255")

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_PORT = re.compile(r"[0-9]{1,5}")


class Scope(enum.IntEnum):
    """How far an address reaches; a greater value is a narrower scope."""

    GLOBAL = 0
    PRIVATE = 1
    """Private, shared and link-local networks."""
    LOOPBACK = 2


class Endpoint(NamedTuple):
    """A host, IPv6 without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


def scope(host: str) -> Scope:
    """The scope of an IP address or host name; names are global, except ``localhost`` and what ends in it."""
    address = _parse_ip(host)
    if address is None:
        name = host.lower().rstrip(".")
        return Scope.LOOPBACK if name == "localhost" or name.endswith(".localhost") else Scope.GLOBAL
    # The unspecified address reaches this machine when it is dialled.
    if address.is_loopback or address.is_unspecified:
        return Scope.LOOPBACK
    return Scope.GLOBAL if address.is_global else Scope.PRIVATE


def is_dialable(host: str) -> bool:
    """Whether `host` can name one other end: a name, or an address of one machine."""
    address = _parse_ip(host)
    if address is None:
        return _is_name(host)
    return not (address.is_unspecified or address.is_multicast or address == BROADCAST)


def network_group(host: str) -> str:
    """The network that `host` is in, for limits per owner.

    Returns:
        The /24 of an IPv4 address, the /64 of an IPv6 address, a name itself in lower case, and ``""`` for
        loopback, which has no limit.
    """
    if scope(host) is Scope.LOOPBACK:
        return ""
    address = _parse_ip(host)
    if address is None:
        return host.lower().rstrip(".")
    return str(ipaddress.ip_network((address, GROUP_PREFIX[address.version]), strict=False))


def join_host_port(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(text: str) -> tuple[str, int | None] | None:
    """Host (IPv6 without brackets) and port of ``host[:port]``; None when it is not of that form."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or _parse_ip(host) is None or (rest and rest[0] != ":"):
            return None
        port = rest[1:] if rest else None
    else:
        host, colon, after = text.partition(":")
        if not _is_name(host) and _parse_ip(host) is None:
            return None
        port = after if colon else None
    if port is None:
        return host, None
    if _PORT.fullmatch(port) is None or int(port) > 65535:
        return None
    return host, int(port)


def parse_listen(listen: str) -> Endpoint:
    """Where to listen: ``127.0.0.1:0``, ``[::1]:0``, ``0.0.0.0:80``, ``localhost:1234``.

    Raises:
        ValueError: it is not of that form.
    """
    found = split_host_port(listen)
    if found is None or found[1] is None:
        raise ValueError(f"expected an address to listen on like 127.0.0.1:8000 or [::1]:0, not {listen!r}")
    return Endpoint(found[0], found[1])


def _is_name(host: str) -> bool:
    """Whether `host` is a name; resolvers read one that ends in a number (``127.1``) as an IPv4 address."""
    if len(host) > 253 or _NAME.fullmatch(host) is None:
        return False
    return _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is None


def _parse_ip(host: str) -> IPAddress | None:
    """The address in `host`, without zone, and the IPv4 address inside an IPv4-mapped one; None for a name."""
    number, percent, _ = host.partition("%")
    try:
        address = ipaddress.ip_address(number)
    except ValueError:
        return None
    if percent and address.version == 4:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
