"""Who may see the pages for the operator, and how access keys look there.

A request is the operator's if it carries the admin key, or surely comes from this machine: `is_operator`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import Counter
from typing import Final

from ...serving.client_address import parse_networks
from ...serving.operator import is_at_this_machine
from ...transports.routes import Request, Response
from ..addresses import parse_query_key
from ..config import RelayConfig

__all__ = ["has_key", "is_operator", "mask_key", "refuse_stranger"]

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

    True if it has `RelayConfig.admin_key`, or if it comes from this machine: see `is_at_this_machine`.
    """
    if config.admin_key is not None and has_key(request, config.admin_key):
        return True
    return is_at_this_machine(request, parse_networks(config.trusted_proxies))


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
