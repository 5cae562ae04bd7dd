"""The user value by which two `PeerRelay.Socket`s of npm peer-relay 0.0.2 exchange a datagram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeGuard

from ..exceptions import LocalProtocolError, RemoteProtocolError
from .json import JSONValue, array_to_bytes, buffer_to_bytes, bytes_to_buffer, describe

__all__ = ["MAX_ADDRESS", "Datagram", "build_datagram", "parse_datagram_untrusted"]

MAX_ADDRESS: Final = 64
"""Characters of an address; a hexadecimal id has 40."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """Bytes, and where their sender says that they come from."""

    buffer: bytes
    address: str
    """A hexadecimal id, or ``localhost`` or ``127.0.0.1``: how the destination was given."""
    port: int
    """The sender's socket port, 0 to 65535."""


def parse_datagram_untrusted(value: bytes | JSONValue) -> Datagram:
    """Reads a user value as a datagram; its bytes may be a Buffer object, an array or a string (UTF-8).

    Raises:
        RemoteProtocolError: the value is not a datagram.
    """
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"expected a datagram object, not {describe(value)}")
    octets = _parse_buffer(value.get("buffer"))
    if octets is None:
        raise RemoteProtocolError(f"expected the bytes of a datagram, not {describe(value.get('buffer'))}")
    address, port = value.get("address"), value.get("port")
    if not _is_address(address):
        raise RemoteProtocolError(f"expected the address of a datagram, not {describe(address)}")
    if not _is_port(port):
        raise RemoteProtocolError(f"expected a port from 0 to 65535, not {describe(port)}")
    return Datagram(octets, address, port)


def build_datagram(datagram: Datagram) -> dict[str, JSONValue]:
    """The user value for a datagram.

    Raises:
        LocalProtocolError: the address or the port is out of bounds.
    """
    if not _is_address(datagram.address):
        raise LocalProtocolError(f"expected the address of a datagram, not {describe(datagram.address)}")
    if not _is_port(datagram.port):
        raise LocalProtocolError(f"expected a port from 0 to 65535, not {datagram.port!r}")
    return {
        "buffer": bytes_to_buffer(datagram.buffer),
        "address": datagram.address,
        "port": datagram.port,
    }


def _parse_buffer(value: JSONValue) -> bytes | None:
    if isinstance(value, str):
        # As Node does, a lone surrogate becomes U+FFFD.
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
    octets = array_to_bytes(value)
    return buffer_to_bytes(value) if octets is None else octets


def _is_address(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_ADDRESS and value.isascii() and value.isprintable()


def _is_port(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535
