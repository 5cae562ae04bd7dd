"""What carries a room's signalling, as `trio-relay room` is told: a broker's URL, or peers of the overlay."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from ..peerix import Driver, MqttDriver, NatsDriver, RelayDriver, SocketIoDriver, SseDriver
from .options import NodeOptions, UsageError, open_from
from .passphrase import read_passphrase
from .room_arguments import SECRET, family_of

__all__ = ["Broker", "open_driver", "read_secret"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """How to reach the broker.

    Attributes:
        url: None: `bootstrap` names peers of the overlay.
        prefix: before every topic; None: the driver's own.
        user: who we are for the broker.
        secret: a password with a user; else a token, or the seed of a key. Not shown by `repr`.
        tls: for what is dialled with TLS; None: the system's authorities.
    """

    url: str | None = None
    bootstrap: tuple[str, ...] = ()
    prefix: str | None = None
    user: str | None = None
    secret: str | None = None
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"Broker({self.url or self.bootstrap!r})"


def read_secret(file: str | None) -> str | None:
    """The first line of a file, else what the environment says; None: there is none.

    Raises:
        UsageError: the file can't be read, or is empty, or not UTF-8.
    """
    if file is None:
        return os.environ.get(SECRET, "").strip() or None
    try:
        return read_passphrase(file).decode()
    except UnicodeDecodeError:
        pass
    raise UsageError(f"{file}: expected UTF-8 on the first line")


@asynccontextmanager
async def open_driver(broker: Broker) -> AsyncIterator[Driver]:
    """A driver for `open_room`, which opens it; for the overlay with the node that it needs.

    Raises:
        UsageError: what the broker was told about does not fit it.
    """
    if broker.url is None:
        _refuse(broker, "user", "secret")
        async with open_from(NodeOptions(bootstrap=broker.bootstrap, client_tls=broker.tls)) as node:
            yield RelayDriver(node) if broker.prefix is None else RelayDriver(node, prefix=broker.prefix)
        return
    try:
        driver = _MAKERS[family_of(broker.url)](broker)
    except (ValueError, ImportError) as error:
        raise UsageError(str(error)) from error
    yield driver


def _refuse(broker: Broker, *names: str) -> None:
    options = {"prefix": "--prefix", "user": "--user", "secret": f"--secret-file or {SECRET}"}
    for name in names:
        if getattr(broker, name) is not None:
            raise UsageError(f"{options[name]} has no meaning for this kind of driver")


def _plain(broker: Broker) -> str:
    """The URL as the driver of its family knows it."""
    assert broker.url is not None
    return broker.url.partition("+")[2] if "+" in broker.url.partition("://")[0] else broker.url


def _common(broker: Broker) -> dict[str, Any]:
    return {} if broker.prefix is None else {"prefix": broker.prefix}


def _tls(broker: Broker) -> ssl.SSLContext | None:
    """``--ca`` is for whatever uses TLS, so it is no error where nothing does."""
    assert broker.url is not None
    return broker.tls if broker.url.partition("://")[0].lower() in _SECURE else None


def _make_nats(broker: Broker) -> Driver:
    secret = broker.secret
    credentials: dict[str, Any] = {"token": secret}
    if broker.user is not None:
        credentials = {"user": broker.user, "password": secret}
    elif secret is not None and secret.startswith("SU") and len(secret) == _SEED:
        credentials = {"nkey_seed": secret}
    return NatsDriver(_plain(broker), tls=_tls(broker), **credentials, **_common(broker))


def _make_mqtt(broker: Broker) -> Driver:
    return MqttDriver(_plain(broker), username=broker.user, password=broker.secret, tls=_tls(broker), **_common(broker))


def _make_mercure(broker: Broker) -> Driver:
    _refuse(broker, "prefix", "user")
    return SseDriver(_plain(broker), token=broker.secret, tls=_tls(broker))


def _make_socket_io(broker: Broker) -> Driver:
    _refuse(broker, "user")
    scheme, _, rest = _plain(broker).partition("://")
    authority, _, path = rest.partition("/")
    options: dict[str, Any] = {"prefix": _EVENTS} | _common(broker)
    if path:
        options["path"] = f"/{path}"
    if broker.secret is not None:
        options["auth"] = {"token": broker.secret}
    return SocketIoDriver(f"{scheme}://{authority}", tls=_tls(broker), **options)


_SECURE: Final = frozenset({"nats", "tls", "nats+wss", "mqtts", "mqtt+wss", "https", "socket.io+https"})
_SEED: Final = 58
_EVENTS: Final = "peerix:"
"""Prefix of Socket.IO's events: that of our hub, and of the original's examples."""
_MAKERS: Final[dict[str, Callable[[Broker], Driver]]] = {
    "nats": _make_nats,
    "mqtt": _make_mqtt,
    "mercure": _make_mercure,
    "socket.io": _make_socket_io,
}
