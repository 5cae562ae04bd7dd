"""The driver for MQTT 5 brokers."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ...transports.streams import check_tls
from .broker_url import Scheme, parse_broker_url
from .byte_stream import dial_broker
from .connected import BrokerSession, ConnectedDriver
from .mqtt_packets import is_topic
from .mqtt_session import MqttSession

__all__ = ["MqttDriver"]

_SCHEMES: Final = {
    "mqtt": Scheme(1883),
    "mqtts": Scheme(8883, secure=True),
    "ws": Scheme(80, websocket=True),
    "wss": Scheme(443, secure=True, websocket=True),
}


class MqttDriver(ConnectedDriver):
    """Carries packets over an MQTT 5 broker: topic = `prefix` + namespace, payload = packet, QoS 0, not retained.

    No message comes back to the driver that published it: rooms that share a driver hear each other all the same. With
    QoS 0 a broker does not confirm what it is sent, and may drop it: the signalling of a room begins anew then.

    Args:
        url: ``mqtt://host:port`` (1883), ``mqtts://host:port`` (8883): the same over TLS; ``ws://host:port/path`` and
            ``wss://host:port/path``: over a WebSocket, often with the path ``/mqtt``.
        prefix: put before every namespace, without a separator.
        username, password: for brokers that want them. They are sent in plain text without TLS.
        client_id: how the broker knows us; a second client with it ends the first one's connection. Default: random,
            and new for every connection.
        tls: for TLS; None: the system's authorities.
        keepalive: seconds between pings; the broker may want more of them.
        timeout, max_reconnect_delay: see `ConnectedDriver`; a broker that says nothing within `timeout` after a ping is
            given up.

    Attributes:
        counts: ``driver_retained`` (retained messages, which are from earlier), and those of `ConnectedDriver`.

    Raises:
        ValueError: the URL, the prefix, a credential or the client identifier can not be; a TLS context without TLS, or
            one that would speak less than TLS 1.2.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "",
        username: str | None = None,
        password: str | None = None,
        client_id: str | None = None,
        tls: ssl.SSLContext | None = None,
        keepalive: float = 30.0,
        timeout: float = 10.0,
        max_reconnect_delay: float = 30.0,
    ) -> None:
        super().__init__(timeout=timeout, max_reconnect_delay=max_reconnect_delay)
        self._url: Final = parse_broker_url(url, _SCHEMES)
        if not is_topic(f"{prefix}x"):
            raise ValueError(f"expected a prefix that topics can begin with, not {prefix!r}")
        _require_texts(username, password, client_id)
        if not keepalive > 0:
            raise ValueError(f"expected a positive keepalive, not {keepalive!r}")
        if tls is not None:
            check_tls(tls)
            if not self._url.scheme.secure:
                raise ValueError("expected a URL with mqtts:// or wss:// for TLS")
        self._prefix: Final = prefix
        self._username: Final = username
        self._password: Final = password
        self._client_id: Final = client_id
        self._tls: Final = tls
        self._keepalive: Final = keepalive

    def __repr__(self) -> str:
        return f"<MqttDriver {self._url.shown}, {'active' if self.active else 'inactive'}>"

    def check_namespace(self, namespace: str) -> None:
        """See `Driver`."""
        super().check_namespace(namespace)
        if not is_topic(self._prefix + namespace):
            raise ValueError(f"expected a namespace without wildcards, not {namespace!r}")

    async def _publish(self, namespace: str, packet: bytes) -> None:
        await super()._publish(namespace, packet)
        self.deliver_own(namespace, packet)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[BrokerSession]:
        """See `ConnectedDriver`."""
        stream = await dial_broker(self._url, self._tls, subprotocol="mqtt")
        session = MqttSession(self, stream, self._prefix, keepalive=self._keepalive, timeout=self._timeout)
        try:
            client_id = self._client_id or f"trio_relay-{secrets.token_hex(6)}"
            await session.greet(client_id, self._username, self._password)
            yield session
        finally:
            await session.aclose()


def _require_texts(*texts: str | None) -> None:
    for text in texts:
        try:
            good = text is None or (len(text.encode()) <= 65535 and "\0" not in text)
        except UnicodeEncodeError:
            good = False
        if not good:
            raise ValueError("expected a username, a password and a client_id of at most 65535 bytes, without U+0000")
