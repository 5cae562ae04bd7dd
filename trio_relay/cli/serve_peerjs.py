"""The PeerJS broker of ``trio-relay serve``: its options become a `BrokerConfig`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ..peerjs.broker.config import BrokerConfig, RelayedConfig
from .toml_config import Values, within

__all__ = ["make_broker", "make_named"]

T = TypeVar("T")


def make_broker(values: Values) -> BrokerConfig:
    """The broker that a configuration asks for; the server listens for it.

    Raises:
        ValueError: an option has a value that makes no sense; the message names it.
    """
    relayed = None
    if values.get("peerjs.relayed.enabled", True):
        relayed = make_named(RelayedConfig, within(values, "peerjs.relayed", RelayedConfig), "peerjs.relayed")
    make = partial(BrokerConfig, relayed=relayed, listen=None)
    return make_named(make, within(values, "peerjs", BrokerConfig), "peerjs")


def make_named(make: Callable[..., T], options: dict[str, Any], table: str) -> T:
    """What a part is made of these options; a `ValueError` names the one that makes no sense, and its table."""
    # One by one first: not every message has the name.
    for name, value in options.items():
        try:
            make(**{name: value})
        except ValueError as error:
            raise ValueError(f"{table}.{name}: {error}") from error
    return make(**options)
