"""What the commands that open a node have in common."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..identity import Identity
from ..limits import Limits
from ..node.node import Node
from ..node.opening import open_node
from ..transports.webrtc import WebRTCConfig

__all__ = ["NodeOptions", "UsageError", "open_from"]


class UsageError(Exception):
    """The command can't start as it was asked to; exit code 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """The arguments of `open_node`, checked and loaded."""

    listen: Sequence[str] = ()
    bootstrap: Sequence[str] = ()
    advertise: Sequence[str] | None = None
    identity: Identity | None = None
    tls: ssl.SSLContext | None = None
    client_tls: ssl.SSLContext | None = None
    webrtc: bool | WebRTCConfig = False
    legacy: bool = False
    limits: Limits | None = None


@asynccontextmanager
async def open_from(options: NodeOptions) -> AsyncIterator[Node]:
    """Opens the node.

    Raises:
        UsageError: an address can't be listened on, too many are advertised, or WebRTC is not installed.
    """
    opened = False
    try:
        async with open_node(
            options.listen,
            options.bootstrap,
            identity=options.identity,
            advertise=options.advertise,
            tls=options.tls,
            client_tls=options.client_tls,
            webrtc=options.webrtc,
            legacy=options.legacy,
            limits=options.limits,
        ) as node:
            opened = True
            yield node
    except OSError as error:
        if opened:
            raise
        raise UsageError(f"can't listen on {' and '.join(options.listen)}: {error.strerror or error}") from error
    except (ValueError, ImportError) as error:
        if opened:
            raise
        raise UsageError(str(error)) from error
