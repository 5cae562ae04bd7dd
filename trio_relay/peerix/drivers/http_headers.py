"""Headers that an application wants its requests to a broker to have. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ...transports.routes import Headers

__all__ = ["make_headers"]

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[!-~](?:[\t -~]*[!-~])?|")
_OURS: Final = re.compile(
    "host|content-length|transfer-encoding|connection|upgrade|accept-encoding|last-event-id|sec-websocket-.*"
)
_AUTHORIZATION: Final = "authorization"


def make_headers(ours: Mapping[str, str], theirs: Mapping[str, str] | None, token: str | None = None) -> Headers:
    """Headers of a request, with names in lower case.

    Args:
        ours: may be replaced by theirs.
        theirs: of the application.
        token: what ``Authorization: Bearer`` is to show.

    Raises:
        ValueError: one is no header, or not the application's business, or there twice. The message shows no value,
            which may be a key.
    """
    found = dict(ours)
    given: set[str] = set()
    for name, value in (theirs or {}).items():
        lower = name.lower()
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise ValueError(f"expected an HTTP header of printable ASCII characters in {name!r}")
        if lower in given or _OURS.fullmatch(lower):
            raise ValueError(f"expected another header than {name!r}, once each")
        given.add(lower)
        found[lower] = value
    if token is not None:
        if _AUTHORIZATION in given:
            raise ValueError("expected a token or an Authorization header")
        if not token or _VALUE.fullmatch(token) is None:
            raise ValueError("expected a token of printable ASCII characters")
        found[_AUTHORIZATION] = f"Bearer {token}"
    return tuple((name.encode("ascii"), value.encode("ascii")) for name, value in found.items())
