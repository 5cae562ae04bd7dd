"""What turns values into messages of a connection, and back."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

__all__ = ["CLOSE", "MAX_DEPTH", "Control", "Serializer", "SerializerFactory", "SerializerLimits"]


class Control(enum.Enum):
    """What `Serializer.decode` returns beside values."""

    CLOSE = "close"


MAX_DEPTH: Final = 128
"""Code that calls itself for each level, here or in an application, is safe on values of this depth."""

CLOSE: Final = Control.CLOSE
"""Among decoded values: the other side has sent all that it will send, and asks this one to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SerializerLimits:
    """What a serializer may hold for the other side.

    Attributes:
        max_value: bytes of one received value, and of all unfinished ones together; one that exceeds it is refused as
            soon as that is known. Under ``binary`` lists and dicts in it may take half as much memory, or 1 MiB.
        max_depth: how deep a value may nest, received or sent; a scalar has depth 0. At most `MAX_DEPTH`.
        max_unfinished: values of which some parts have arrived and others have not.
    """

    max_value: int = 256 * 1024 * 1024
    max_depth: int = 64
    max_unfinished: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.max_depth <= MAX_DEPTH:
            raise ValueError(f"expected a depth from 1 to {MAX_DEPTH}, not {self.max_depth}")
        if self.max_value < 1 or self.max_unfinished < 1:
            raise ValueError("expected limits of 1 or more")


class Serializer(Protocol):
    """The serialization of one connection; each connection has an instance of its own, for both directions.

    Pure: no I/O, no clock.
    """

    @property
    def name(self) -> str:
        """What stands in an offer as ``serialization``."""
        ...

    @property
    def is_stream(self) -> bool:
        """Whether messages only make sense one after the other: the connection must keep their order, and lose none."""
        ...

    def encode(self, value: Any) -> Iterable[bytes | str]:
        """The messages of one value, in their order; may be made while they are sent.

        What is wrong with the value is raised by this call, before the first message is taken. Large bytes-like
        objects may be read only when their messages are taken, so they must not change until then.

        Raises:
            LocalProtocolError: the value has no such form: what was expected, what came, and where.
            PayloadTooLarge: it is larger than this serialization can carry.
        """
        ...

    def encode_close(self) -> bytes | str | None:
        """The message by which the other side decodes `CLOSE`, or None if this serialization has none."""
        ...

    def decode(self, message: bytes | str) -> list[Any]:
        """The values that this message completes, in their order: none, one, or several; `CLOSE` may be among them.

        Raises:
            RemoteProtocolError: the other side broke a rule; the connection ends. So it does at any other error, which
                is logged as a fault of the serializer.
        """
        ...

    @property
    def unfinished(self) -> int:
        """Bytes held of values that are not complete."""
        ...


SerializerFactory: TypeAlias = Callable[[SerializerLimits], Serializer]
"""Makes the serializer of one connection."""
