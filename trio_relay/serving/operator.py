"""Who is surely at this machine, and so may see what only the operator may.

Web pages of strangers, which a browser on this machine may show, are not taken for the operator.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from ..transports.routes import Request
from ..wire.addresses import split_host_port
from .client_address import IPNetwork, is_local

__all__ = ["is_at_this_machine"]

_FORWARDED_FOR: Final = b"x-forwarded-for"
_PROXY_HEADERS: Final = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip"}
)
"""What proxies add; besides them everything that begins with ``x-forwarded-``."""


def is_at_this_machine(request: Request, trusted: Sequence[IPNetwork]) -> bool:
    """Whether a request comes from a program on this machine, and from no web page but the server's own.

    That is, from a loopback address, without a proxy that may speak for somebody else (see `client_address.is_local`).

    Args:
        trusted: where proxies are whose X-Forwarded-For counts.
    """
    proxied = any(name in _PROXY_HEADERS or _is_other_forwarded(name) for name, _ in request.headers)
    local = is_local(request.remote, request.header(_FORWARDED_FOR), proxied, trusted)
    return local and not _may_be_of_another_site(request)


def _is_other_forwarded(name: bytes) -> bool:
    return name.startswith(b"x-forwarded-") and name != _FORWARDED_FOR


def _may_be_of_another_site(request: Request) -> bool:
    """Whether a web page of somebody else may have made a browser on this machine ask.

    A browser names the page in Origin when another site may read the answer. A site whose own name leads to a
    loopback address ("DNS rebinding") shows in Host.
    """
    if request.header(b"origin") is not None:
        return True
    host = request.header(b"host")
    if host is None:
        return False  # HTTP/1.0: no browser
    found = split_host_port(host.decode("latin-1"))
    return found is None or not _is_own_name(found[0])


def _is_own_name(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
