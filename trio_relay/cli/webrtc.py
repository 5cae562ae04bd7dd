"""``--webrtc``, ``--stun`` and ``--turn``: how a node makes WebRTC links, from the command line or a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from ..transports.webrtc import IceServer, WebRTCConfig
from .options import UsageError

__all__ = ["CREDENTIAL", "make_webrtc", "parse_stun", "parse_turn"]

CREDENTIAL: Final = "TRIO_RELAY_TURN_CREDENTIAL"
"""Environment variable with the credential of a TURN server whose URL has none: others can read a command line."""


def parse_stun(url: str) -> IceServer:
    """``stun:HOST[:PORT]``; `ValueError` otherwise."""
    if not url.startswith("stun:"):
        raise ValueError(f"expected stun:HOST or stun:HOST:PORT, not {url!r}")
    return IceServer(urls=url)


def parse_turn(url: str) -> IceServer:
    """``turn:USER[:CREDENTIAL]@HOST[:PORT][?transport=tcp]``, or ``turns:``, with ``%`` escapes in the first part.

    Raises:
        ValueError: it is no such URL, or neither it nor the environment has a credential.
    """
    scheme, _, rest = url.partition(":")
    login, at, server = rest.rpartition("@")
    user, colon, credential = login.partition(":")
    if scheme not in ("turn", "turns") or not (at and user and server):
        # The URL may hold a credential: it is not shown.
        raise ValueError("expected turn:USER@HOST:PORT or turn:USER:CREDENTIAL@HOST:PORT (or turns:...)")
    secret = unquote(credential) if colon else os.environ.get(CREDENTIAL, "").strip()
    if not secret:
        raise ValueError(f"expected a credential for {scheme}:{server} in the URL or in the variable {CREDENTIAL}")
    return IceServer(urls=f"{scheme}:{server}", username=unquote(user), credential=secret)


def make_webrtc(enabled: bool, stun: Sequence[str], turn: Sequence[str]) -> bool | WebRTCConfig:
    """What `open_node` takes as `webrtc`.

    Raises:
        UsageError: a URL is none, or a TURN server has no credential.
    """
    if not enabled:
        return False
    try:
        return WebRTCConfig(ice_servers=tuple(map(parse_stun, stun)) + tuple(map(parse_turn, turn)))
    except ValueError as error:
        raise UsageError(str(error)) from error
