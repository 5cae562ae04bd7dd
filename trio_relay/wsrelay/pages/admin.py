"""Who may see the pages for the operator, and how access keys look there.

A request is the operator's if it carries the admin key, or surely comes from this machine: `is_operator`. Web pages of
strangers, which a browser on this machine may show, are not taken for the operator.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections import Counter
from typing import Final

from ...serving.client_address import is_local, parse_networks
from ...transports.routes import Request, Response
from ...wire.addresses import split_host_port
from ..addresses import parse_query_key
from ..config import RelayConfig

__all__ = ["has_key", "is_operator", "mask_key", "refuse_stranger"]

_FORWARDED_FOR: Final = b"x-forwarded-for"
_PROXY_HEADERS: Final = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip"}
)
"""What proxies add; besides them everything that begins with ``x-forwarded-``."""

_STRANGER: Final = (
    "Only for the operator: ask from this machine, at an IP address or localhost, or send the admin key "
    "(Authorization: Bearer KEY, or ?key=KEY)\n"
)
_SECRET: Final = secrets.token_bytes(32)


def has_key(request: Request, key: str) -> bool:
    """Whether a request carries a key: ``Authorization: Bearer KEY``, or ``?key=KEY``.

    How long the comparison takes tells nothing about the key but its length.
    """
    scheme, _, token = (request.header(b"authorization") or b"").partition(b" ")
    named = token.strip() if scheme.lower() == b"bearer" else b""
    asked = (parse_query_key(request.query) or "").encode()
    wanted = key.encode()
    return hmac.compare_digest(named, wanted) | hmac.compare_digest(asked, wanted)


def is_operator(request: Request, config: RelayConfig) -> bool:
    """Whether a request may see what only the operator may.

    True if it has `RelayConfig.admin_key`, or if it comes from this machine: from a loopback address, without a
    proxy that may speak for somebody else (see `client_address.is_local`), and from no web page but the relay's own.
    """
    if config.admin_key is not None and has_key(request, config.admin_key):
        return True
    proxied = any(name in _PROXY_HEADERS or _is_other_forwarded(name) for name, _ in request.headers)
    forwarded = request.header(_FORWARDED_FOR)
    local = is_local(request.remote, forwarded, proxied, parse_networks(config.trusted_proxies))
    return local and not _may_be_of_another_site(request)


def refuse_stranger(request: Request, config: RelayConfig, counts: Counter[str]) -> Response | None:
    """What a page for the operator answers to anybody else, counted as ``refused_admin``; None: it is the operator."""
    if is_operator(request, config):
        return None
    counts["refused_admin"] += 1
    return Response.text(403, _STRANGER)


def mask_key(key: str) -> str:
    """An access key as pages show it: ``ab…yz-0123456789ab``.

    The digits are a digest that tells apart keys that look alike, and is another one after a restart.
    """
    digest = hashlib.blake2b(key.encode(), key=_SECRET, digest_size=6).hexdigest()
    return f"{key[:2]}…{key[-2:]}-{digest}"


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
