"""By which name of a broker a room or a peer is reached. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from . import base62

__all__ = ["namespace"]

_OTHER: Final = re.compile(r"[^A-Za-z0-9_-]")


def namespace(name: str, *, hashing: bool) -> str:
    """Where packets for a room (its name) or a peer (its id) are published; a driver puts its prefix before it.

    Args:
        name: any text; half a surrogate pair counts as U+FFFD.
        hashing: base62 of the SHA-256 of the name in UTF-8, 43 characters at most; otherwise the name, with ``_``
            instead of each character that is not one of ``A-Za-z0-9_-``. The same for all members of a room.
    """
    if not hashing:
        return _OTHER.sub("_", name)
    try:
        data = name.encode()
    except UnicodeEncodeError:
        data = name.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    return base62.encode(hashlib.sha256(data).digest())
