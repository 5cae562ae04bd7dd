"""The origins of web pages, as browsers write them. Pure."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["require_origin"]

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[!-.0-@\[-~]+")
_DEFAULT_PORT: Final = re.compile(r"https://.*:443|http://.*:80")


def require_origin(name: str, origin: str) -> None:
    """Raises ValueError for what no browser sends as Origin (RFC 6454 section 6.2), which would never match.

    Args:
        name: of the option that it is in.
    """
    if origin == "null":
        return
    if _ORIGIN.fullmatch(origin) is None or _DEFAULT_PORT.fullmatch(origin) is not None:
        raise ValueError(f"expected an origin like https://example.org in {name}, not {origin!r}")
