"""What a peer asks its broker for over HTTP: an id, and the list of all ids."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Final

import trio

from ...exceptions import HandshakeError, PeerError, RemoteProtocolError
from ...limits import Limits
from ...transports.dial import TlsUnavailable, dial_stream
from ...transports.http_client import HttpConnection
from ...wire.json import decode_untrusted, describe
from ...wire.urls import WebSocketUrl
from .address import BrokerAddress
from .endings import printable

__all__ = ["fetch_id", "fetch_peers"]

_MAX_BODY: Final = 1024 * 1024
_MAX_ID: Final = 256


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes


async def fetch_id(broker: BrokerAddress, *, limits: Limits, timeout: float) -> str:
    """Has the broker make an id.

    Raises:
        PeerError: ``server-error``: it does not answer, or not with an id; ``ssl-unavailable``: TLS can not be had.
    """
    hint = "; if the broker has a path, it must be named here, too" if broker.path == "/" else ""
    answer = await _ask(broker, "id", limits, timeout)
    if answer.status != 200:
        raise _failed(broker, "id", f"expected status 200, got {answer.status}{hint}")
    try:
        id = answer.body.decode()
    except UnicodeDecodeError:
        raise _failed(broker, "id", f"expected an id, got {len(answer.body)} bytes{hint}") from None
    if not (0 < len(id) <= _MAX_ID and id.isprintable() and id.strip() == id):
        raise _failed(broker, "id", f"expected an id, got {describe(printable(id))}{hint}")
    return id


async def fetch_peers(broker: BrokerAddress, *, limits: Limits, timeout: float) -> list[str]:
    """The ids of all peers at the broker.

    Raises:
        PeerError: ``server-error``: the broker does not tell them, does not answer, or not with a list;
            ``ssl-unavailable``: TLS can not be had.
    """
    answer = await _ask(broker, "peers", limits, timeout)
    if answer.status == 401:
        raise _failed(broker, "peers", "discovery is off there: the broker's option `allow_discovery` turns it on")
    if answer.status != 200:
        raise _failed(broker, "peers", f"expected status 200, got {answer.status}")
    try:
        peers = decode_untrusted(answer.body)
    except RemoteProtocolError as error:
        raise _failed(broker, "peers", str(error)) from error
    if not isinstance(peers, list):
        raise _failed(broker, "peers", f"expected a list of ids, got {describe(peers)}")
    ids = [peer for peer in peers if isinstance(peer, str)]
    if len(ids) != len(peers):
        raise _failed(broker, "peers", "expected a list of texts, got other values in it")
    return ids


async def _ask(broker: BrokerAddress, method: str, limits: Limits, timeout: float) -> _Answer:
    """One request on a connection of its own; redirects are not followed."""
    url = broker.http_url(method, f"{time.time_ns() // 1_000_000}.{secrets.randbelow(10**16)}")
    try:
        with trio.fail_after(timeout):
            return await _get(broker, url, limits)
    except trio.TooSlowError:
        raise _failed(broker, method, f"no answer within {timeout:g} s") from None
    except TlsUnavailable as error:
        raise PeerError("ssl-unavailable", str(error)) from error
    except (HandshakeError, RemoteProtocolError) as error:
        raise _failed(broker, method, str(error)) from error
    except trio.BrokenResourceError as error:
        raise _failed(broker, method, "the connection broke") from error
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that has no form in the DNS
        raise _failed(broker, method, getattr(error, "strerror", None) or str(error)) from error


def _failed(broker: BrokerAddress, method: str, reason: str) -> PeerError:
    what = "an id" if method == "id" else "the list of peers"
    return PeerError("server-error", f"could not get {what} from {broker.authority}: {reason}")


async def _get(broker: BrokerAddress, url: WebSocketUrl, limits: Limits) -> _Answer:
    stream = await dial_stream(url, limits=limits, ssl_context=broker.ssl_context)
    connection = HttpConnection(stream, url.host_header, limits)
    try:
        answer = await connection.request("GET", url.target, ((b"accept", b"*/*"), (b"connection", b"close")))
        return _Answer(answer.status, await connection.read_all(_MAX_BODY))
    finally:
        connection.close()
