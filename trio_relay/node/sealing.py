"""How this machine seals: which ciphers are fast on it, and its randomness."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Final

from ..overlay.session.secrets import has_kem
from ..overlay.session.sessions import Sealing
from ..wire.session import Cipher

__all__ = ["make_sealing"]

_CPU_INFO: Final = Path("/proc/cpuinfo")


def make_sealing(*, post_quantum: bool = True) -> Sealing:
    """The `Sealing` of a node on this machine.

    Args:
        post_quantum: use ML-KEM-768 beside X25519 where both ends have it.
    """
    ciphers = Cipher.CHACHA20_POLY1305
    if _has_fast_aes():
        ciphers |= Cipher.AES_256_GCM
    return Sealing(os.urandom, int(ciphers), post_quantum and has_kem())


@cache
def _has_fast_aes() -> bool:
    """Whether the processor has instructions for AES; without, it is three times as slow and leaks by its timing."""
    try:
        words = _CPU_INFO.read_text(errors="replace").split()
    except OSError:
        # Not Linux: all of these have had them for a decade.
        return platform.machine().lower() in ("x86_64", "amd64", "arm64", "aarch64")
    return "aes" in words
