"""What ``trio-relay serve`` is told: the configuration file, and options in place of some of what it says."""

from __future__ import annotations

import argparse
import os
import ssl
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

from ..identity import Identity
from ..limits import Limits
from ..peerix.hub.config import HubConfig
from ..peerjs.broker.config import BrokerConfig
from ..server import NodeSettings, ServerConfig
from ..wire.urls import parse_ws_url
from ..wsrelay.addresses import Channel
from ..wsrelay.config import BlobConfig, RelayConfig
from ..wsrelay.stores.key_files import FileKeyStore
from ..wsrelay.stores.keys import EnvKeyStore, KeyStore
from .arguments import check_advertised
from .log import LEVELS
from .options import UsageError
from .passphrase import load_identity
from .serve_hub import make_hub
from .serve_peerjs import make_broker
from .tls import Certificate, client_context
from .toml_config import Values, load_file, within
from .webrtc import make_webrtc

__all__ = ["Configuration", "Settings", "overrides"]

T = TypeVar("T")

DEFAULT_LISTEN: Final = "0.0.0.0:8080"
_OPTIONS: Final = {
    "listen": "server.listen",
    "tls_cert": "server.tls_cert",
    "tls_key": "server.tls_key",
    "bootstrap": "overlay.bootstrap",
    "identity": "overlay.identity",
    "passphrase_file": "overlay.passphrase_file",
    "advertise": "overlay.advertise",
    "ca": "overlay.ca",
    "legacy": "overlay.legacy",
    "webrtc": "overlay.webrtc",
    "stun": "overlay.stun",
    "turn": "overlay.turn",
    "channel": "relay.channels",
    "key_file": "relay.keys.file",
    "key_env": "relay.keys.env",
    "open": "relay.keys.open",
    "admin_key_env": "relay.admin_key_env",
    "ui": "relay.ui",
    "blob_file": "relay.blobs.file",
    "rate_limit_connections": "relay.rate_limit_max_connections",
    "rate_limit_messages": "relay.rate_limit_max_messages",
    "peerjs": "peerjs.enabled",
    "peerjs_path": "peerjs.path",
    "peerjs_key": "peerjs.key",
    "peerjs_discovery": "peerjs.allow_discovery",
    "hub": "hub.enabled",
    "hub_origin": "hub.origins",
    "hub_key_file": "hub.keys.file",
    "hub_key_env": "hub.keys.env",
    "hub_jwt_key_file": "hub.jwt.key_file",
    "hub_jwt_algorithm": "hub.jwt.algorithm",
    "log_json": "log.json",
}
"""Argument -> the option of the file whose place it takes."""
_ALTERNATIVES: Final = (
    ("relay.keys.file", "relay.keys.env", "relay.keys.open"),
    ("relay.admin_key", "relay.admin_key_env", "relay.admin_key_file"),
    ("relay.blobs.access_key", "relay.blobs.access_key_env", "relay.blobs.access_key_file"),
    ("hub.keys.file", "hub.keys.env"),
    ("hub.jwt.key", "hub.jwt.key_env", "hub.jwt.key_file"),
)
"""Of each group one option counts."""
_NO_KEYS: Final = (
    "expected a decision on who may use the relay: --key-file FILE or --key-env VARIABLE for those who have an access "
    "key, or --open for everybody (in a configuration file: file, env or open in [relay.keys])"
)
_NO_CHANNELS: Final = (
    "expected at least one channel: --channel NAME, or channels in [relay] of the configuration file; or, instead of a "
    "relay server, --peerjs or --hub"
)
_RENAMED: Final = {"listen": "server.listen", "tls": "server.tls_cert"} | {
    "overlay": "overlay.enabled",
    "relay": "relay.enabled",
    "peerjs": "peerjs.enabled",
    "hub": "hub.enabled",
    "hub.access_keys": "hub.keys",
    "relay.key_store": "relay.keys",
    "relay.blob_store": "relay.blobs",
    "overlay.client_tls": "overlay.ca",
}


def option_name(name: str) -> str:
    """An option of `ServerConfig` as the configuration file calls it."""
    return _RENAMED.get(name, name)


def overrides(arguments: argparse.Namespace) -> Values:
    """The options that the command line gives, under the names of the configuration file.

    Raises:
        UsageError: some contradict each other.
    """
    given = {name: getattr(arguments, argument) for argument, name in _OPTIONS.items()}
    values = {name: value for name, value in given.items() if value not in (None, False)}
    if arguments.no_overlay:
        for name in values:
            if name.startswith("overlay."):
                raise UsageError(
                    f"expected --no-overlay alone, not beside --{name.partition('.')[2].replace('_', '-')}"
                )
        values["overlay.enabled"] = False
    if not values.keys().isdisjoint({"overlay.stun", "overlay.turn"}):
        values["overlay.webrtc"] = True
    if arguments.verbose:
        values["log.level"] = "debug"
    for name, value in arguments.limit or ():
        values[f"limits.{name}"] = value
    return values


def merge(file: Values, given: Values) -> Values:
    """The file's options with those of the command line in their place."""
    hidden = {name for group in _ALTERNATIVES for name in group if not given.keys().isdisjoint(group)}
    # Who gives an option of a part wants the part.
    parts = ("overlay", "relay", "relay.blobs", "peerjs", "hub")
    hidden |= {f"{part}.enabled" for part in parts if any(name.startswith(f"{part}.") for name in given)}
    return {name: value for name, value in file.items() if name not in hidden} | given


@dataclass(frozen=True, slots=True)
class Settings:
    """All that is needed to serve.

    Attributes:
        certificate: whose context `config` has; None: no TLS.
    """

    config: ServerConfig
    certificate: Certificate | None
    log_json: bool
    log_level: str


class Configuration:
    """The file and the command line, which can be read again: keys, identity and certificate stay the same objects."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._file: Final[str | None] = arguments.config
        self._given: Final = overrides(arguments)
        self._made: Final[dict[Hashable, Any]] = {}
        self._loaded = False

    def load(self) -> Settings:
        """Reads the configuration file and what it names; may ask for a passphrase, the first time.

        Raises:
            UsageError: a file can't be read, or an option has a value that makes no sense.
        """
        values = merge(load_file(self._file) if self._file is not None else {}, self._given)
        level = values.get("log.level", "info")
        if level not in LEVELS:
            raise UsageError(f"log.level: expected {', '.join(LEVELS)}, not {level!a}")
        certificate = self._certificate(values)
        try:
            broker = make_broker(values) if _wants(values, "peerjs") else None
            hub = make_hub(values) if _wants(values, "hub") else None
            config = ServerConfig(
                listen=values.get("server.listen", DEFAULT_LISTEN),
                tls=certificate.context if certificate is not None else None,
                overlay=self._overlay(values) if values.get("overlay.enabled", True) else None,
                relay=self._relay(values) if _wants_relay(values) else None,
                peerjs=broker,
                hub=hub,
                limits=_limits(values, broker, hub),
            )
        except ValueError as error:
            raise UsageError(f"{self._file}: {error}" if self._file is not None else str(error)) from error
        self._loaded = True
        return Settings(config, certificate, values.get("log.json", False), level)

    def _once(self, source: Hashable, make: Callable[[], T]) -> T:
        """What was made of this source before, or is made now."""
        if source not in self._made:
            self._made[source] = make()
        found: T = self._made[source]
        return found

    def _certificate(self, values: Values) -> Certificate | None:
        chain, key = values.get("server.tls_cert"), values.get("server.tls_key")
        if chain is None and key is None:
            return None
        if chain is None or key is None:
            raise UsageError("expected --tls-cert and --tls-key together (tls_cert and tls_key in [server])")
        return self._once(("certificate", chain, key), lambda: Certificate(chain, key))

    def _overlay(self, values: Values) -> NodeSettings:
        identity, passphrase = values.get("overlay.identity"), values.get("overlay.passphrase_file")
        if identity is None and passphrase is not None:
            raise UsageError("expected --identity beside --passphrase-file (identity in [overlay])")
        ca = values.get("overlay.ca")
        stun, turn = _as_list(values.get("overlay.stun", [])), _as_list(values.get("overlay.turn", []))
        return NodeSettings(
            bootstrap=_checked("overlay.bootstrap", _as_list(values.get("overlay.bootstrap", [])), parse_ws_url),
            identity=self._identity(identity, passphrase) if identity is not None else None,
            advertise=_checked("overlay.advertise", _as_list(values.get("overlay.advertise", [])), check_advertised)
            or None,
            client_tls=self._client_tls(ca) if ca is not None else None,
            legacy=values.get("overlay.legacy", False),
            webrtc=make_webrtc(values.get("overlay.webrtc", bool(stun or turn)), stun, turn),
        )

    def _identity(self, file: str, passphrase_file: str | None) -> Identity:
        source = "identity", file, passphrase_file
        if self._loaded and source not in self._made:
            # Another one can not come into force; to read it could mean to ask for a passphrase.
            return Identity.generate()
        return self._once(source, lambda: load_identity(file, passphrase_file))

    def _client_tls(self, ca: str) -> ssl.SSLContext:
        return self._once(("authorities", ca), lambda: client_context(ca))

    def _relay(self, values: Values) -> RelayConfig:
        if not values.get("relay.channels"):
            raise UsageError(_NO_CHANNELS)
        options = within(values, "relay", RelayConfig)
        options["channels"] = [
            channel if isinstance(channel, str) else Channel(**channel) for channel in values["relay.channels"]
        ]
        options["key_store"] = self._key_store(values)
        options["admin_key"] = _secret(values, "relay.admin_key")
        options["blob_store"] = _blobs(values)
        if options.get("key_check_interval") is False:
            options["key_check_interval"] = None
        return RelayConfig(**options, listen=None)

    def _key_store(self, values: Values) -> KeyStore | Literal[False]:
        given = {name: values[f"relay.keys.{name}"] for name in ("file", "env") if f"relay.keys.{name}" in values}
        if values.get("relay.keys.open"):
            given["open"] = True
        if not given:
            raise UsageError(_NO_KEYS)
        if len(given) > 1:
            raise UsageError(f"relay.keys: expected one of {' and '.join(given)}, not both")
        if "open" in given:
            return False
        ((kind, source),) = given.items()
        make: Callable[[str], KeyStore] = FileKeyStore if kind == "file" else EnvKeyStore
        try:
            return self._once(("keys", kind, source), lambda: make(source))
        except OSError as error:
            raise UsageError(f"can't read key file {source}: {error.strerror or error}") from error


def _limits(values: Values, broker: BrokerConfig | None, hub: HubConfig | None) -> Limits:
    """Unless the number of sockets is given, broker and hub can have all clients and meetings that they may have."""
    limits = Limits(**within(values, "limits"))
    if "limits.connections" in values:
        return limits
    more = (broker.sockets if broker is not None else 0) + (hub.max_clients if hub is not None else 0)
    return replace(limits, connections=limits.connections + more)


def _wants(values: Values, part: str) -> bool:
    """Who gives an option of broker or hub wants it."""
    wanted: bool = values.get(f"{part}.enabled", any(name.startswith(f"{part}.") for name in values))
    return wanted


def _wants_relay(values: Values) -> bool:
    """It is what `serve` is for, unless there is a broker or hub and nothing is said of a relay."""
    said = any(name.startswith("relay.") for name in values)
    wanted: bool = values.get("relay.enabled", said or not (_wants(values, "peerjs") or _wants(values, "hub")))
    return wanted


def _blobs(values: Values) -> BlobConfig | Literal[False]:
    if not values.get("relay.blobs.enabled", True):
        return False
    options = within(values, "relay.blobs", BlobConfig)
    if options.get("time_to_live") is False:
        options["time_to_live"] = None
    try:
        return replace(BlobConfig(**options), access_key=_secret(values, "relay.blobs.access_key"))
    except ValueError as error:
        # `RelayConfig` calls it after its own attribute.
        raise ValueError(str(error).replace("blob_store.", "relay.blobs.")) from None


def _secret(values: Values, name: str) -> str | None:
    """A secret from the configuration file, a variable of the environment, or a file of its own (its first line)."""
    sources = [source for source in (name, f"{name}_env", f"{name}_file") if source in values]
    if len(sources) > 1:
        raise UsageError(f"expected one of {' and '.join(sources)}, not both")
    if not sources:
        return None
    (source,) = sources
    value: str = values[source]
    if source == name:
        return value
    if source.endswith("_env"):
        if value not in os.environ:
            raise UsageError(f"{source}: environment variable {value} is not set")
        return os.environ[value].strip()
    try:
        with open(value, "rb") as lines:
            return lines.readline(1024).decode("latin-1").strip()
    except OSError as error:
        raise UsageError(f"can't read {source} {value}: {error.strerror or error}") from error


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _checked(name: str, urls: list[str], check: Callable[[str], object]) -> list[str]:
    """The URLs, if they are that."""
    for url in urls:
        try:
            check(url)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return urls
