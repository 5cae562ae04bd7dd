"""The signalling hub of ``trio-relay serve``: its options become a `HubConfig`."""

from __future__ import annotations

import os
from functools import partial
from typing import Final

from ..peerix.hub.config import ALGORITHMS, HubConfig, JwtConfig
from .options import UsageError
from .serve_peerjs import make_named
from .toml_config import Values, within

__all__ = ["make_hub"]

_MAX_FILE: Final = 1024 * 1024
_PATHS: Final = ("mercure_path", "socketio_path")


def make_hub(values: Values) -> HubConfig:
    """The hub that a configuration asks for; the server listens for it.

    Raises:
        ValueError: an option has a value that makes no sense; the message names it.
        UsageError: a key can't be read.
    """
    options = within(values, "hub", HubConfig)
    for name in _PATHS:
        if options.get(name) is False:
            options[name] = None
    make = partial(HubConfig, listen=None, access_keys=_keys(values), jwt=_jwt(values))
    return make_named(make, options, "hub")


def _keys(values: Values) -> tuple[str, ...]:
    sources = [source for source in ("hub.keys.file", "hub.keys.env") if source in values]
    if not sources:
        return ()
    if len(sources) > 1:
        raise UsageError("hub.keys: expected one of file and env, not both")
    text = _read(values, sources[0])
    lines = text.splitlines() if sources[0] == "hub.keys.file" else text.split(",")
    keys = tuple(key for line in lines if (key := line.strip()) and not key.startswith("#"))
    if not keys:
        # No key would mean that everybody may come in.
        raise UsageError(f"{sources[0]}: expected at least one access key")
    return keys


def _jwt(values: Values) -> JwtConfig | None:
    sources = [source for source in ("hub.jwt.key", "hub.jwt.key_env", "hub.jwt.key_file") if source in values]
    if len(sources) > 1:
        raise UsageError(f"expected one of {' and '.join(sources)}, not both")
    if not sources:
        if "hub.jwt.algorithm" in values:
            raise UsageError("expected a key beside the algorithm: --hub-jwt-key-file FILE, or key in [hub.jwt]")
        return None
    key = values["hub.jwt.key"] if sources == ["hub.jwt.key"] else _read(values, sources[0]).strip()
    algorithm = values.get("hub.jwt.algorithm", ALGORITHMS[0])
    try:
        return JwtConfig(key=key, algorithm=algorithm)
    except ValueError as error:
        # Whether a key is one is decided by the algorithm.
        named = sources[0] if algorithm in ALGORITHMS else "hub.jwt.algorithm"
        raise ValueError(f"{named}: {error}") from error


def _read(values: Values, source: str) -> str:
    """The content of a file, or of a variable of the environment."""
    name: str = values[source]
    if source.endswith("env"):
        if name not in os.environ:
            raise UsageError(f"{source}: environment variable {name} is not set")
        return os.environ[name]
    try:
        with open(name, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"can't read {source} {name}: {error.strerror or error}") from error
    if len(data) > _MAX_FILE:
        raise UsageError(f"{source}: expected a file of at most {_MAX_FILE} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{source}: expected UTF-8") from None
