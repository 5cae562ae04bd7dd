"""``trio-relay keygen FILE``."""

from __future__ import annotations

import os

from ..identity import Identity
from .options import UsageError
from .passphrase import ask_new, read_passphrase

__all__ = ["run"]


def run(file: str, *, force: bool, ask: bool = False, passphrase_file: str | None = None) -> int:
    """Writes a new identity and prints its id; asks for a passphrase if it should."""
    if not force and os.path.lexists(file):
        raise UsageError(f"{file} exists; --force overwrites it")
    passphrase: str | bytes | None = None
    if passphrase_file is not None:
        passphrase = read_passphrase(passphrase_file)
    elif ask:
        passphrase = ask_new(file)
    identity = Identity.generate()
    try:
        identity.save(file, passphrase)
    except OSError as error:
        raise UsageError(f"can't write {file}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(identity.id.hex())
    return 0
