"""The configuration file of ``trio-relay serve``: which options there are, their types, and what is wrong with a file.

What comes out is flat, one value for each dotted name like ``relay.max_watches``, so that options of the command line
can take the place of some. No error shows a value: it may be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias

from ..limits import Limits
from .options import UsageError

__all__ = ["SCHEMA", "Values", "load_file", "parse_config", "within"]

Values: TypeAlias = dict[str, Any]
"""Dotted names of options and their values, checked against `SCHEMA`."""

_MAX_FILE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Kind:
    """A type of values.

    Attributes:
        wanted: in words.
        accepts: whether a value is of the type.
        is_path: whether it is a file, relative to the configuration file.
    """

    wanted: str
    accepts: Callable[[object], bool]
    is_path: bool = False


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_channels(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str | dict) for item in value)


_TEXT: Final = _Kind("a string", _is_text)
_PATH: Final = _Kind("a string", _is_text, is_path=True)
_WHOLE: Final = _Kind("a whole number", _is_whole)
_NUMBER: Final = _Kind("a number", _is_number)
_FLAG: Final = _Kind("true or false", _is_flag)
_LIST: Final = _Kind("a list of strings", _is_list)
_TEXT_OR_LIST: Final = _Kind("a string or a list of strings", lambda value: _is_text(value) or _is_list(value))
_FLAG_OR_TEXT: Final = _Kind("true, false or a string", lambda value: _is_flag(value) or _is_text(value))
_TEXT_OR_FALSE: Final = _Kind("a string or false", lambda value: value is False or _is_text(value))
_NUMBER_OR_FALSE: Final = _Kind("a number or false", lambda value: value is False or _is_number(value))
_CHANNELS: Final = _Kind("a list of names or tables", _is_channels)

_RELAY: Final = {
    "enabled": _FLAG,
    "channels": _CHANNELS,
    "heartbeat_interval": _NUMBER,
    "rate_limit_window": _NUMBER,
    "rate_limit_max_connections": _WHOLE,
    "rate_limit_max_messages": _WHOLE,
    "on_invalid_key": _TEXT,
    "stats_window": _NUMBER,
    "stats_history": _WHOLE,
    "cors": _FLAG_OR_TEXT,
    "origins": _LIST,
    "trusted_proxies": _LIST,
    "max_bytes_per_second_per_key": _NUMBER,
    "burst_bytes_per_key": _NUMBER,
    "max_bytes_per_second_per_ip": _NUMBER,
    "burst_bytes_per_ip": _NUMBER,
    "max_message": _WHOLE,
    "max_watches": _WHOLE,
    "slow_consumer": _TEXT,
    "slow_consumer_timeout": _NUMBER,
    "queue_bytes": _WHOLE,
    "queue_messages": _WHOLE,
    "verify_timeout": _NUMBER,
    "hook_timeout": _NUMBER,
    "key_check_interval": _NUMBER_OR_FALSE,
    "drain_timeout": _NUMBER,
    "show_keys": _FLAG,
    "open_stats": _FLAG,
    "ui": _FLAG,
}
_BLOBS: Final = {
    "enabled": _FLAG,
    "file": _PATH,
    "max_blob_size": _WHOLE,
    "max_blobs": _WHOLE,
    "max_bytes": _WHOLE,
    "max_share": _WHOLE,
    "time_to_live": _NUMBER_OR_FALSE,
    "route_prefix": _TEXT,
}
_PEERJS: Final = {
    "enabled": _FLAG,
    "path": _TEXT,
    "key": _TEXT,
    "expire_timeout": _NUMBER,
    "alive_timeout": _NUMBER,
    "concurrent_limit": _WHOLE,
    "cleanup_interval": _NUMBER,
    "allow_discovery": _FLAG,
    "trusted_proxies": _LIST,
    "cors_origins": _LIST,
    "max_connections_per_ip": _WHOLE,
    "max_messages_per_second": _NUMBER,
    "burst_messages": _WHOLE,
    "max_message": _WHOLE,
    "max_id": _WHOLE,
    "queue_messages": _WHOLE,
    "queue_bytes": _WHOLE,
    "queued_messages": _WHOLE,
    "queued_bytes": _WHOLE,
    "slow_messages": _WHOLE,
    "slow_bytes": _WHOLE,
    "hook_timeout": _NUMBER,
    "drain_timeout": _NUMBER,
    "open_metrics": _FLAG,
}
_RELAYED: Final = {
    "enabled": _FLAG,
    "meetings": _WHOLE,
    "meetings_per_ip": _WHOLE,
    "wait": _NUMBER,
    "idle": _NUMBER,
    "bytes_per_second": _NUMBER,
    "queue_bytes": _WHOLE,
}
_HUB: Final = {
    "enabled": _FLAG,
    "mercure_path": _TEXT_OR_FALSE,
    "socketio_path": _TEXT_OR_FALSE,
    "prefixes": _LIST,
    "allow_wildcard": _FLAG,
    "origins": _LIST,
    "trusted_proxies": _LIST,
    "max_clients": _WHOLE,
    "max_clients_per_ip": _WHOLE,
    "max_topics": _WHOLE,
    "max_subscribers": _WHOLE,
    "max_subscriptions": _WHOLE,
    "max_topic": _WHOLE,
    "max_packet": _WHOLE,
    "bytes_per_second": _NUMBER,
    "burst_bytes": _WHOLE,
    "slow_messages": _WHOLE,
    "slow_bytes": _WHOLE,
    "keepalive": _NUMBER,
    "retry": _NUMBER,
    "ping_interval": _NUMBER,
    "ping_timeout": _NUMBER,
    "connect_timeout": _NUMBER,
    "drain_timeout": _NUMBER,
    "open_metrics": _FLAG,
}
_CHANNEL: Final = {"name": _TEXT, "on_duplicate": _TEXT, "watchable_by": _LIST}


def _secret(name: str) -> dict[str, _Kind]:
    """A secret can be given here, or where the file's readers do not see it."""
    return {name: _TEXT, f"{name}_env": _TEXT, f"{name}_file": _PATH}


def _in(table: str, options: Mapping[str, _Kind]) -> dict[str, _Kind]:
    return {f"{table}.{name}": kind for name, kind in options.items()}


SCHEMA: Final[dict[str, _Kind]] = {
    **_in("server", {"listen": _TEXT_OR_LIST, "tls_cert": _PATH, "tls_key": _PATH}),
    **_in("overlay", {"enabled": _FLAG, "bootstrap": _TEXT_OR_LIST, "identity": _PATH, "passphrase_file": _PATH}),
    **_in("overlay", {"advertise": _TEXT_OR_LIST, "ca": _PATH, "legacy": _FLAG}),
    **_in("overlay", {"webrtc": _FLAG, "stun": _TEXT_OR_LIST, "turn": _TEXT_OR_LIST}),
    **{f"limits.{item.name}": _WHOLE if item.type == "int" else _NUMBER for item in fields(Limits)},
    **_in("relay", _RELAY),
    **_in("relay", _secret("admin_key")),
    **_in("relay.keys", {"file": _PATH, "env": _TEXT, "open": _FLAG}),
    **_in("relay.blobs", _BLOBS),
    **_in("relay.blobs", _secret("access_key")),
    **_in("peerjs", _PEERJS),
    **_in("peerjs.relayed", _RELAYED),
    **_in("hub", _HUB),
    **_in("hub.keys", {"file": _PATH, "env": _TEXT}),
    **_in("hub.jwt", {**_secret("key"), "algorithm": _TEXT}),
    **_in("log", {"json": _FLAG, "level": _TEXT}),
}
"""Every option of the file."""

_TABLES: Final = frozenset(name.rpartition(".")[0] for name in SCHEMA)


def load_file(path: str) -> Values:
    """Reads a configuration file; paths in it are relative to its folder.

    Raises:
        UsageError: it can't be read, is no TOML, or has an option that does not exist or is of another type.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"can't read configuration {path}: {error.strerror or error}") from error
    if len(data) > _MAX_FILE:
        raise UsageError(f"{path}: expected a configuration of at most {_MAX_FILE} bytes")
    try:
        return parse_config(data.decode(), os.path.dirname(os.path.abspath(path)))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: expected UTF-8, not byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}") from error


def parse_config(text: str, folder: str) -> Values:
    """The options of a file's text; `folder` is where relative paths begin.

    Raises:
        ValueError: it is no TOML, or an option does not exist or is of another type; the message names it.
    """
    values: Values = dict(_options(tomllib.loads(text), "", folder))
    for channel in values.get("relay.channels") or []:
        if isinstance(channel, dict):
            _check_channel(channel)
    return values


def within(values: Values, table: str, kind: type[Any] | None = None) -> dict[str, Any]:
    """The options of one table by their last names; of `kind`, a dataclass, those that are fields of it."""
    known = {item.name for item in fields(kind)} if kind is not None else None
    split = {name.rpartition(".")[2]: value for name, value in values.items() if name.rpartition(".")[0] == table}
    return {name: value for name, value in split.items() if known is None or name in known}


def _options(table: Mapping[str, object], prefix: str, folder: str) -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if name in SCHEMA:
            _check(SCHEMA[name], name, value)
            yield name, os.path.join(folder, str(value)) if SCHEMA[name].is_path else value
        elif name in _TABLES:
            yield from _options(_as_table(name, value), f"{name}.", folder)
        else:
            what = "table" if isinstance(value, dict) else "option"
            raise ValueError(f"there is no {what} {name!a}{_nearest(name, [*SCHEMA, *_TABLES])}")


def _as_table(name: str, value: object) -> Mapping[str, object]:
    """A table; one that can be switched on and off may also be true, false, or there without an option."""
    has_switch = f"{name}.enabled" in SCHEMA
    if has_switch and (isinstance(value, bool) or value == {}):
        return {"enabled": value is not False}
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected a table{', true or false' * has_switch}, not {_describe(value)}")
    return value


def _check_channel(channel: Mapping[str, object]) -> None:
    for name, value in channel.items():
        if name not in _CHANNEL:
            raise ValueError(f"there is no option {name!a} of relay.channels{_nearest(name, _CHANNEL)}")
        _check(_CHANNEL[name], f"relay.channels.{name}", value)
    if "name" not in channel:
        raise ValueError("relay.channels: expected a name in each table")


def _check(kind: _Kind, name: str, value: object) -> None:
    if not kind.accepts(value):
        raise ValueError(f"{name}: expected {kind.wanted}, not {_describe(value)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    """A hint: the name that was meant, if one is like it."""
    table, _, last = name.rpartition(".")
    names = {other: other.rpartition(".") for other in known}
    siblings = {parts[2]: other for other, parts in names.items() if parts[0] == table}
    near = [siblings[other] for other in difflib.get_close_matches(last, siblings, 1)]
    near += [other for other, parts in names.items() if parts[2] == last]  # in the wrong table
    return f"; is it {near[0]}?" if near else ""


def _describe(value: object) -> str:
    """The type of a value in words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return "infinity" if math.isinf(value) else "nan"
    names = {str: "a string", int: "a whole number", float: "a fraction", list: "a list", dict: "a table"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "a date or time")
