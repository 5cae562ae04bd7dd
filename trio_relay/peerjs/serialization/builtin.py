"""The serializations by name: what comes with the package, and what an application adds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ...exceptions import LocalProtocolError, RemoteProtocolError
from .binary import BinarySerializer
from .json import JSONSerializer
from .msgpack import MsgPackSerializer
from .raw import RawSerializer
from .serializer import SerializerFactory, SerializerLimits

__all__ = ["BUILTIN", "Serializers"]

BUILTIN: Final[Mapping[str, SerializerFactory]] = MappingProxyType(
    {
        "binary": BinarySerializer,
        "binary-utf8": BinarySerializer,
        "default": BinarySerializer,
        "json": JSONSerializer,
        "raw": RawSerializer,
        "none": RawSerializer,
        "MsgPack": MsgPackSerializer,
    }
)
"""By every name that may be asked for. In an offer stands the name of the serializer itself."""

_SHOWN: Final = 60


class Serializers:
    """The serializations of one peer.

    Args:
        custom: more of them; they take the place of built-in ones of the same name ("default" is what a connection
            has for which none is asked for). Each must be named as its serializers name themselves.
    """

    __slots__ = ("_factories",)

    def __init__(self, custom: Mapping[str, SerializerFactory] | None = None) -> None:
        self._factories: Final = {**BUILTIN, **(custom or {})}

    def requested(self, name: str) -> tuple[str, SerializerFactory]:
        """What a connection of ours has: the name for its offer, and what makes its serializer.

        Raises:
            LocalProtocolError: there is none of that name.
        """
        factory = self._factories.get(name)
        if factory is None:
            raise LocalProtocolError(
                f"expected one of {', '.join(sorted(self._factories))} as serialization, not {name!r}"
            )
        return factory(SerializerLimits()).name, factory

    def offered_untrusted(self, name: str) -> SerializerFactory:
        """What makes the serializer of a connection that another peer offers.

        Raises:
            RemoteProtocolError: there is none of that name here.
        """
        factory = self._factories.get(name)
        if factory is None:
            raise RemoteProtocolError(f"expected a serialization that is known here, got {name[:_SHOWN]!r}")
        return factory
