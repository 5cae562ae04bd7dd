"""Who is at the other end of a request that may have come through proxies. Pure.

A header that anybody can write is believed only from a proxy that the operator trusts. IP addresses have one spelling
here: without zone, and an IPv4-mapped IPv6 address is its IPv4 address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from ..wire.addresses import GROUP_PREFIX, split_host_port

__all__ = ["UNKNOWN", "IPNetwork", "client_ip", "is_local", "parse_networks", "rate_name"]

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN: Final = "unknown"
"""The IP of a client whose connection has no address, as in `@sumicom/ws-relay`."""

_LOOPBACK: Final = "127.0.0.1"
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def parse_networks(networks: Iterable[str]) -> tuple[IPNetwork, ...]:
    """Networks like ``10.0.0.0/8`` and ``fd00::/8``, or single addresses.

    Raises:
        ValueError: one is not of that form, or has bits set behind its prefix.
    """
    return tuple(map(_parse_network, networks))


def client_ip(remote: str, forwarded: bytes | None, trusted: Sequence[IPNetwork]) -> str:
    """The IP address of the client of a request.

    Args:
        remote: ``host:port`` of the socket's other end.
        forwarded: the value of X-Forwarded-For, several joined by commas; None if there is none.
        trusted: where proxies are whose X-Forwarded-For counts.

    Returns:
        The socket's address if that is no trusted proxy. Otherwise the last entry of `forwarded` that is none: what
        stands before it, a client may have written. If an entry is no address, or all are proxies, the last
        proxy that is known. `UNKNOWN` if `remote` has no host; its host if that is a name.
    """
    if forwarded is None and (usual := _usual_ip(remote)) is not None:
        return usual
    socket = _socket_ip(remote)
    if socket is None:
        host = split_host_port(remote)
        return host[0] if host is not None else UNKNOWN
    return _spell(_walk(socket, forwarded, trusted)[0])


def is_local(remote: str, forwarded: bytes | None, other_proxy_header: bool, trusted: Sequence[IPNetwork]) -> bool:
    """Whether a request surely comes from this machine itself, so that it may see what only the operator may.

    True if the socket's other end is loopback and no proxy may speak for another client: there is no header of one,
    or the proxy is trusted and X-Forwarded-For leads, without a bad entry, to a client that is loopback too. A proxy
    on this machine that adds no header cannot be told from a local client.

    Args:
        remote: ``host:port`` of the socket's other end.
        forwarded: the value of X-Forwarded-For; None if there is none.
        other_proxy_header: whether Forwarded (RFC 7239), or another header that only proxies send, is there. They
            are not read: the answer is no.
        trusted: where proxies are whose X-Forwarded-For counts.
    """
    socket = _socket_ip(remote)
    if socket is None or not socket.is_loopback or other_proxy_header:
        return False
    if forwarded is None:
        return True
    client, is_sure = _walk(socket, forwarded, trusted)
    return _is_trusted(socket, trusted) and is_sure and client.is_loopback


@lru_cache(4096)
def rate_name(ip: str) -> str:
    """What limits per IP count under: an IPv4 address, the /64 of an IPv6 address, one name for all of loopback.

    Anything else is its own name.
    """
    address = _parse_ip(ip)
    if address is None:
        return ip
    if address.is_loopback:
        return _LOOPBACK
    if isinstance(address, ipaddress.IPv4Address):
        return _spell(address)
    return str(ipaddress.IPv6Network((address, GROUP_PREFIX[6]), strict=False))


def _walk(socket: IPAddress, forwarded: bytes | None, trusted: Sequence[IPNetwork]) -> tuple[IPAddress, bool]:
    """The client, as `client_ip` has it, and whether no entry on the way was bad."""
    client = socket
    if forwarded is None:
        return client, True
    for entry in reversed(forwarded.decode("latin-1").split(",")):
        if not _is_trusted(client, trusted):
            break
        address = _parse_entry(entry.strip())
        if address is None:
            return client, False
        client = address
    return client, True


def _is_trusted(address: IPAddress, trusted: Sequence[IPNetwork]) -> bool:
    return any(address in network for network in trusted)


def _socket_ip(remote: str) -> IPAddress | None:
    found = split_host_port(remote)
    return None if found is None else _parse_ip(found[0])


def _parse_entry(entry: str) -> IPAddress | None:
    """An address, in brackets or not, with or without a port: proxies write all of these."""
    address = _parse_ip(entry)
    if address is None:
        found = split_host_port(entry)
        address = None if found is None else _parse_ip(found[0])
    return address


def _usual_ip(remote: str) -> str | None:
    """The host of ``IPv4:port``; None for anything else, and for what is wrong."""
    host, _, port = remote.partition(":")
    if not (len(port) <= 5 and port.isascii() and port.isdigit() and int(port) <= 65535):
        return None
    address = _parse_ip(host)
    return _spell(address) if isinstance(address, ipaddress.IPv4Address) else None


@lru_cache(4096)
def _spell(address: IPAddress) -> str:
    """One string for all connections of an address; not interned, for Python 3.12 keeps such strings for ever."""
    return str(address)


@lru_cache(4096)
def _parse_ip(text: str) -> IPAddress | None:
    number, percent, _ = text.partition("%")
    try:
        address = ipaddress.ip_address(number)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return None if percent else address
    return address.ipv4_mapped or address


def _parse_network(text: str) -> IPNetwork:
    try:
        network = ipaddress.ip_network(str(text))
    except ValueError as error:
        raise ValueError(f"expected a network like 10.0.0.0/8, fd00::/8 or an address: {error}") from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        # Mapped addresses are compared as the IPv4 addresses that they are.
        mapped = ipaddress.IPv4Address(int(network.network_address) & 0xFFFFFFFF)
        return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network
