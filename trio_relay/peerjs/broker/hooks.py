"""The application's code inside a broker: what it is asked and told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from ...transports.routes import Request
from ...wire.json import JSONValue

__all__ = ["BrokerClient", "BrokerHooks", "Registration"]

T = TypeVar("T")
Maybe: TypeAlias = T | Awaitable[T]
"""A hook's result, or a promise of it."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Who asks to be let in.

    Attributes:
        id: that it wants to be known by.
        token: its secret, which lets it come back under the same id.
        ip: its address, without a port.
        request: its upgrade request.
    """

    id: str
    token: str = field(repr=False)
    ip: str
    request: Request


@dataclass(frozen=True, slots=True)
class BrokerClient:
    """A registered client, as hooks see it.

    Attributes:
        id: its id.
        ip: its address, without a port.
        connected_at: Unix time in seconds.
    """

    id: str
    ip: str
    connected_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerHooks:
    """The application's functions, all of them optional; each may be ``async``.

    A hook that raises, or is too slow, costs the client or message that it was called for, nothing else.

    Attributes:
        authenticate: decides about a client before it can take an id, after its key was found right: None or True lets
            it in; False refuses it, and a text does so with these words.
        on_connection: a client was registered, or came back on another socket; the original's event ``connection``.
        on_disconnect: a client is gone, and nobody has come (back) under its id meanwhile; the original's event
            ``disconnect``.
        on_message: a client sent a frame: client, type, receiver or None, payload; the original's event ``message``.
            Every frame is decoded whole for it, which costs throughput.
        on_error: a frame that is none, or a client that broke a rule: what went wrong; the original's event ``error``.
    """

    authenticate: Callable[[Registration], Maybe[bool | str | None]] | None = None
    on_connection: Callable[[BrokerClient], Maybe[object]] | None = None
    on_disconnect: Callable[[BrokerClient], Maybe[object]] | None = None
    on_message: Callable[[BrokerClient, str, str | None, JSONValue], Maybe[object]] | None = None
    on_error: Callable[[str], Maybe[object]] | None = None
