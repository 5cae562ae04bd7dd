"""WebSocket masking (RFC 6455 section 5.3): XOR of every byte with a repeated four-byte key.

The C extension of the `websockets` package is imported here and nowhere else. Where that package has none, the same is
done by one XOR of two long integers, which is linear in the size and has no Python code per byte.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MASKING", "Buffer", "apply_mask", "xor_mask"]

Buffer: TypeAlias = bytes | bytearray | memoryview


def xor_mask(data: Buffer, mask: bytes) -> bytes:
    """Masks or unmasks `data` with the four bytes of `mask`; the masker that needs no C extension.

    Raises:
        ValueError: `mask` is not four bytes long.
    """
    if len(mask) != 4:
        raise ValueError(f"expected a mask of 4 bytes, not {len(mask)}")
    size = len(data)
    repeated = mask * (size // 4) + mask[: size % 4]
    number = int.from_bytes(data, sys.byteorder) ^ int.from_bytes(repeated, sys.byteorder)
    return number.to_bytes(size, sys.byteorder)


apply_mask: Callable[[Buffer, bytes], bytes]
"""Masks or unmasks a buffer with a four-byte mask into new bytes, by the fastest way that is installed."""
MASKING: str
"""Which way that is: ``"websockets C extension"`` or ``"integer xor"``."""

try:
    from websockets.speedups import apply_mask
except ImportError:
    apply_mask = xor_mask
    MASKING = "integer xor"
else:
    MASKING = "websockets C extension"
