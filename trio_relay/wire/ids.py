"""160-bit node ids and the XOR metric between them."""

from __future__ import annotations

from typing import Final, NewType

__all__ = ["ID_LENGTH", "NodeId", "as_node_id", "bucket_index", "distance", "parse_node_id", "short"]

ID_LENGTH: Final = 20

NodeId = NewType("NodeId", bytes)
"""20 bytes: the first 20 of SHA-256(public key), or any 20 for an original peer-relay node."""


def as_node_id(value: object) -> NodeId:
    """Checks that `value` is 20 bytes.

    Raises:
        TypeError: not `bytes`.
        ValueError: not 20 long.
    """
    if not isinstance(value, bytes):
        raise TypeError(f"expected a node id as {ID_LENGTH} bytes, not {type(value).__name__}")
    if len(value) != ID_LENGTH:
        raise ValueError(f"expected a node id of {ID_LENGTH} bytes, not {len(value)}")
    return NodeId(value)


def parse_node_id(text: str) -> NodeId:
    """Reads the form in which people and JSON write ids: 40 hexadecimal digits.

    Raises:
        ValueError: anything else.
    """
    if len(text) == 2 * ID_LENGTH and text.isascii() and text.isalnum():
        try:
            return NodeId(bytes.fromhex(text))
        except ValueError:
            pass
    raise ValueError(f"expected a node id of {2 * ID_LENGTH} hexadecimal digits, not {text[:60]!r}")


def distance(a: bytes, b: bytes) -> int:
    """XOR distance of two ids as an integer below 2**160."""
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


def bucket_index(a: bytes, b: bytes) -> int:
    """Which distance range `b` is in as seen from `a`: -1 for the same id, 159 for the far half."""
    return distance(a, b).bit_length() - 1


def short(node_id: bytes) -> str:
    """The first eight hexadecimal digits, for logs."""
    return node_id[:4].hex()
