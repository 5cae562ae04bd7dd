"""Finds secrets in text: whole or in part, raw, escaped, hex, base64, or as numbers."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Final

_PART: Final = 8


class Leaks:
    """Text is searched for the first and the last 8 bytes of each secret, which no text holds by accident."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        needles: dict[str, bytes] = {}
        for secret in secrets:
            assert len(secret) >= _PART
            if len(set(secret)) > 1:
                needles |= dict.fromkeys(_spellings(secret), secret)
        assert needles, "no secrets to look for"
        self._needles: Final = needles

    def in_text(self, text: str) -> list[bytes]:
        """The secrets that a text holds."""
        lower = text.lower()
        return [secret for needle, secret in self._needles.items() if needle in text or needle in lower]


def _spellings(secret: bytes) -> Iterator[str]:
    yield str(int.from_bytes(secret, "big"))
    yield str(int.from_bytes(secret, "little"))
    for part in (secret[:_PART], secret[-_PART:]):
        yield part.hex()
        yield part.hex(" ")
        yield part.hex(":")
        yield repr(part)[2:-1]
        yield part.decode("latin-1")
        yield repr(list(part))[1:-1]
        yield f"{int.from_bytes(part, 'big'):x}"
    for skip in range(3):
        # In base64 a part begins anew every third byte.
        whole = secret[skip : skip + (len(secret) - skip) // 3 * 3]
        yield base64.b64encode(whole).decode()[:12]
        yield base64.urlsafe_b64encode(whole).decode()[:12]


def reachable(root: object, package: str) -> Iterator[object]:
    """Every object of a package's classes that can be reached from one, through containers and other objects."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        skipped = isinstance(one, type | ModuleType | FunctionType | BuiltinFunctionType | int | float | str | bytes)
        if one is None or skipped or id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, MethodType):
            waiting.append(one.__self__)
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, Iterable) and type(one).__module__ in ("builtins", "collections"):
            waiting += list(one)
        elif type(one).__module__.split(".")[0] == package:
            yield one
        waiting += attributes(one)


def attributes(one: object) -> list[object]:
    """What its instance dictionary and slots hold."""
    names = [name for cls in type(one).__mro__ for name in getattr(cls, "__slots__", ())]
    return [*getattr(one, "__dict__", {}).values(), *(getattr(one, name) for name in names if hasattr(one, name))]


def said_by(one: object) -> str:
    """Everything by which an object is usually printed."""
    return "\n".join([repr(one), str(one), f"{one}", f"{one!r:>20}", ascii(one), "%s %r" % (one, one)])  # noqa: UP031


def said_by_error(error: BaseException) -> str:
    """An exception and those in its chain."""
    below = error.__cause__ or error.__context__
    return said_by(error) + repr(error.args) + ("" if below is None else said_by_error(below))
