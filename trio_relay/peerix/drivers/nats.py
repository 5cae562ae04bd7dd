"""The driver for NATS servers."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from ...exceptions import DriverError, HandshakeError
from ...transports.streams import check_tls
from ...wire.json import JSONValue
from .broker_url import Scheme, parse_broker_url
from .byte_stream import ByteStream, dial_broker
from .connected import BrokerSession, ConnectedDriver
from .nats_keys import UserKey
from .nats_protocol import NatsInfo, is_subject
from .nats_session import NatsSession

__all__ = ["NatsDriver"]

_SCHEMES: Final = {
    "nats": Scheme(4222),
    "tls": Scheme(4222, secure=True),
    "ws": Scheme(80, websocket=True),
    "wss": Scheme(443, secure=True, websocket=True),
}
_KEYS_ONLY: Final = (
    " (it wants a key, which is the argument nkey_seed; users that are known by a JWT are not supported)"
)


class NatsDriver(ConnectedDriver):
    """Carries packets over a NATS server or cluster: subject = `prefix` + namespace, payload = packet.

    The server confirms every subscription by answering a PING that follows it. What it delivers to others is not
    confirmed; a packet that our user may not publish shows as `DriverFailed`. No message comes back to the driver that
    published it: rooms that share a driver hear each other all the same.

    Args:
        url: ``nats://host:port`` (4222), ``tls://host:port``: the same with TLS; ``ws://host:port`` and
            ``wss://host:port``: the WebSocket port.
        prefix: put before every namespace, without a separator.
        user, password, token: for servers that want them. They are sent in plain text without TLS.
        nkey_seed: the seed of a user's NKey, for servers that know their users by key.
        tls: for TLS; with ``nats://`` it makes TLS required. None: the system's authorities, and of ``nats://`` TLS if
            the server wants it.
        handshake_first: TLS begins before the server says anything; for servers that are set up so.
        keepalive: seconds between pings.
        timeout, max_reconnect_delay: see `ConnectedDriver`; a server that says nothing within `timeout` after a ping is
            given up.

    Attributes:
        counts: ``driver_refused`` (packets that our user may not publish), and those of `ConnectedDriver`.

    Raises:
        ValueError: the URL, the prefix or the seed can not be; credentials of two kinds; or a TLS context that would
            speak less than TLS 1.2.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "",
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        nkey_seed: str | None = None,
        tls: ssl.SSLContext | None = None,
        handshake_first: bool = False,
        keepalive: float = 30.0,
        timeout: float = 10.0,
        max_reconnect_delay: float = 30.0,
    ) -> None:
        super().__init__(timeout=timeout, max_reconnect_delay=max_reconnect_delay)
        self._url: Final = parse_broker_url(url, _SCHEMES)
        if not is_subject(f"{prefix}x"):
            raise ValueError(f"expected a prefix that subjects can begin with, not {prefix!r}")
        kinds = sum(given is not None for given in (user, token, nkey_seed))
        if kinds > 1 or (password is not None and user is None):
            raise ValueError("expected a user and a password, or a token, or a seed")
        if not keepalive > 0:
            raise ValueError(f"expected a positive keepalive, not {keepalive!r}")
        if tls is not None:
            check_tls(tls)
            if self._url.scheme.websocket and not self._url.scheme.secure:
                raise ValueError("expected a URL with wss:// for TLS")
        self._prefix: Final = prefix
        self._credentials: Final = {"user": user, "pass": password, "auth_token": token}
        self._key: Final = None if nkey_seed is None else UserKey(nkey_seed)
        self._tls: Final = tls
        self._handshake_first: Final = handshake_first
        self._keepalive: Final = keepalive

    def __repr__(self) -> str:
        return f"<NatsDriver {self._url.shown}, {'active' if self.active else 'inactive'}>"

    def check_namespace(self, namespace: str) -> None:
        """See `Driver`."""
        if not is_subject(self._prefix + namespace):
            raise ValueError(f"expected a namespace without blanks and wildcards, not {namespace!r}")

    async def _publish(self, namespace: str, packet: bytes) -> None:
        await super()._publish(namespace, packet)
        self.deliver_own(namespace, packet)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[BrokerSession]:
        """See `ConnectedDriver`."""
        url = self._url
        if not (url.scheme.websocket or self._handshake_first):
            # The server speaks first, in plain text; then TLS begins.
            url = replace(url, target=replace(url.target, secure=False))
        elif self._handshake_first and not url.scheme.websocket:
            url = replace(url, target=replace(url.target, secure=True))
        stream = await dial_broker(url, self._tls, subprotocol=False)
        session = NatsSession(self, stream, self._prefix, keepalive=self._keepalive, timeout=self._timeout)
        try:
            info = await session.read_info()
            wanted = url.scheme.secure or info.tls_required or self._tls is not None
            if wanted and not (url.scheme.websocket or self._handshake_first):
                await self._secure(session, stream, info)
            await session.greet(self._greeting(info), _KEYS_ONLY if info.nonce and self._key is None else "")
            yield session
        finally:
            await session.aclose()

    async def _secure(self, session: NatsSession, stream: ByteStream, info: NatsInfo) -> None:
        if not (info.tls_required or info.tls_available):
            raise HandshakeError(f"{self._url.target.authority} does not offer TLS")
        session.require_nothing_more()
        await stream.secure(self._url.target, self._tls)

    def _greeting(self, info: NatsInfo) -> dict[str, JSONValue]:
        options: dict[str, JSONValue] = {
            "verbose": False,
            "pedantic": False,
            "tls_required": False,
            "lang": "python",
            "version": "0",
            "name": "trio_relay",
            "protocol": 1,
            "echo": False,
            "headers": False,
            "no_responders": False,
        }
        options.update({name: value for name, value in self._credentials.items() if value is not None})
        if self._key is not None:
            if not info.nonce:
                raise DriverError("the server knows no users by key")
            options.update(nkey=self._key.public, sig=self._key.sign(info.nonce))
        return options
