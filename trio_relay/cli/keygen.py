"""``trio-relay keygen FILE``."""

from __future__ import annotations

import os

from ..identity import Identity
from .options import UsageError

__all__ = ["run"]


def run(file: str, *, force: bool) -> int:
    """Writes a new identity and prints its id."""
    identity = Identity.generate()
    try:
        if not force and os.path.lexists(file):
            raise UsageError(f"{file} exists; --force overwrites it")
        identity.save(file)
    except OSError as error:
        raise UsageError(f"can't write {file}: {error.strerror}") from error
    print(identity.id.hex())
    return 0
