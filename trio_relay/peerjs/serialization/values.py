"""Values of an application on their way out: types, keys, slices of bytes, and where in them a fault is. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from ...exceptions import LocalProtocolError

__all__ = ["BytesLike", "Part", "as_bytes", "at_its_path", "plain", "slices", "with_text_keys"]

Part: TypeAlias = bytes | bytearray | memoryview
"""Some bytes of many; `len` is their number."""

BytesLike: Final = (bytes, bytearray, memoryview, array)
"""What is sent as binary: the bytes of a view or an array as they lie in memory, as those of a typed array are."""


def as_bytes(data: bytes | bytearray | memoryview | array[Any]) -> bytes | memoryview:
    """The bytes of something bytes-like, without a copy unless they are scattered; `len` is their number."""
    if type(data) is bytes:
        return data
    view = memoryview(data)
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


def with_text_keys(value: dict[Any, Any]) -> dict[str, Any]:
    """The same dict with its int keys as text, as an object of JavaScript has them.

    Raises:
        LocalProtocolError: it has keys of other types, or two keys with the same text.
    """
    texts = dict[str, Any]()
    for key, item in value.items():
        if not isinstance(key, str):
            if not isinstance(key, int) or isinstance(key, bool):
                raise LocalProtocolError(f"expected str or int keys in a dict, not {type(key).__name__}")
            key = str(int(key))
        texts[str.__str__(key)] = item
    if len(texts) != len(value):
        raise LocalProtocolError("expected keys that differ as text, got an int and its text")
    return texts


def plain(
    value: Any, scalars: frozenset[type], keys: frozenset[type], leaf: Callable[[Any], Any], depth_left: int
) -> Any:
    """The value with everything in it of a type that an encoder takes; itself where nothing has to change.

    Args:
        scalars: the types that need no change.
        keys: the types that keys of dicts may have; if others are among them, all become text.
        leaf: makes a value of one of `scalars` of anything else that is not a dict, list or tuple.
        depth_left: how deep the value may be nested.

    Raises:
        LocalProtocolError: a key has no text, or the value is nested too deep; and what `leaf` raises.
    """
    kind = type(value)
    if kind in scalars:
        return value
    if not isinstance(value, dict | list | tuple):
        return leaf(value)
    if depth_left == 0:
        raise LocalProtocolError("expected a value that is less deeply nested")
    if isinstance(value, dict):
        if not keys.issuperset(map(type, value)):
            value = with_text_keys(value)
        if kind is dict and scalars.issuperset(map(type, value.values())):
            return value
        return {key: plain(item, scalars, keys, leaf, depth_left - 1) for key, item in value.items()}
    if kind is list and scalars.issuperset(map(type, value)):
        return value
    return [plain(item, scalars, keys, leaf, depth_left - 1) for item in value]


def slices(parts: Sequence[Part], size: int) -> Iterator[list[memoryview]]:
    """Views of `size` bytes together, and of what is left at the end, as they are taken."""
    found = list[memoryview]()
    missing = size
    for part in parts:
        view = memoryview(part)
        start = 0
        while start < len(view):
            piece = view[start : start + missing]
            found.append(piece)
            start += len(piece)
            missing -= len(piece)
            if not missing:
                yield found
                found, missing = [], size
    if found:
        yield found


def at_its_path(
    error: LocalProtocolError, value: Any, encode: Callable[[Any], object], max_depth: int
) -> LocalProtocolError:
    """The error of a value that `encode` has refused, with the place of the fault: ``... at $.a[3]``."""
    path = "$"
    for _ in range(max_depth):
        for step, child in _children(value):
            try:
                encode(child)
            except LocalProtocolError as refused:
                path, value, error = path + step, child, refused
                break
        else:
            break
    return LocalProtocolError(f"{error} at {path}")


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield (f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r:.40}]"), item
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield f"[{index}]", item
