"""JSON from strangers, with the semantics of JavaScript's `JSON.parse`; the only place that reads or writes it.

What differs from `JSON.parse`, and why:

- Nesting is bounded (`MAX_DEPTH`), by a scan of the text before either decoder runs, so both obey it alike.
- Text that only the slow decoder reads (see below) may have `_SLOW_ITEMS` commas and brackets.
- An integer literal of up to `MAX_INTEGER_LITERAL` characters is an exact `int` (a double rounds above 2**53);
  a longer one is what `JSON.parse` makes of it, infinity. `-0` is the integer 0.

msgspec reads almost everything. It refuses some valid JSON (lone surrogates, `1e400`, long numbers), so what it
refuses goes to the standard library's decoder, which is about ten times slower and has the last word.
"""

from __future__ import annotations

import gc
import json
import math
from itertools import accumulate
from typing import Final, NoReturn, TypeAlias

import msgspec

from ..exceptions import LocalProtocolError, RemoteProtocolError

__all__ = [
    "MAX_DEPTH",
    "MAX_INTEGER_LITERAL",
    "JSONValue",
    "array_to_bytes",
    "buffer_to_bytes",
    "bytes_to_buffer",
    "decode_untrusted",
    "describe",
    "encode",
    "require_shallow",
]

JSONValue: TypeAlias = bool | int | float | str | list["JSONValue"] | dict[str, "JSONValue"] | None
"""What JSON can hold. Strings may contain lone surrogates; floats from strangers may be infinite."""

MAX_DEPTH: Final = 64
"""Arrays and objects inside each other; a scalar has depth 0. Recursive code is safe on such values."""

MAX_INTEGER_LITERAL: Final = 4300
"""Characters, sign included: msgspec's bound, which is Python's default for the quadratic `int(text)`."""

_INVALID_PAYLOAD: Final = 1007
"""Close code for data that is not what its type says, here UTF-8 (RFC 6455 section 7.4.1)."""

_ALIKE: Final = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS: Final = bytes.maketrans(b"[]", b"\x01\xff")
_LEAF_ROUNDS: Final = 8
_LARGE: Final = 16 * 1024
_SLOW_ITEMS: Final = 50_000
"""Members and elements, about, of a text for the slow decoder: so many take 15 ms, in which nobody is served."""
_LONG: Final = 512
_FEW: Final = 8
_SCALARS: Final = frozenset({str, int, bool, type(None)})

_fast_decode: Final = msgspec.json.Decoder().decode
_fast_encode: Final = msgspec.json.Encoder().encode


def decode_untrusted(data: bytes | str, *, max_depth: int = MAX_DEPTH) -> JSONValue:
    """Reads one JSON value. The caller bounds the size of `data`.

    Args:
        data: UTF-8, or text.
        max_depth: how deep arrays and objects may be nested.

    Raises:
        RemoteProtocolError: not UTF-8 (close code 1007), not JSON, or nested too deep.
    """
    if isinstance(data, str):
        text = data
    else:
        # msgspec validates UTF-8 only in strings that it keeps.
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            reason = f"expected utf-8, not {error.reason} at byte {error.start}"
            raise RemoteProtocolError(reason, _INVALID_PAYLOAD) from None
    require_shallow(text, max_depth)
    if len(text) > _LARGE and gc.isenabled():
        # A decoder makes many containers and no garbage; looking for some takes four fifths of the time.
        gc.disable()
        try:
            return _decode(text)
        finally:
            gc.enable()
    return _decode(text)


def encode(value: JSONValue, *, max_depth: int = MAX_DEPTH, non_finite_as_null: bool = False) -> bytes:
    """Writes compact JSON as UTF-8. Tuples become arrays, lone surrogates become `\\uXXXX` escapes.

    Args:
        value: subclasses of the JSON types count as those types.
        max_depth: how deep arrays and objects may be nested.
        non_finite_as_null: write infinity and NaN as `JSON.stringify` does. For values that strangers sent:
            they can hold infinity, and must not be able to make their receiver fail.

    Raises:
        LocalProtocolError: something in `value` has no JSON form (the message names its type), or is nested
            too deep (as a value that contains itself is).
    """
    _require_json(value, max_depth, non_finite_as_null)
    try:
        try:
            return _fast_encode(value)
        except (UnicodeEncodeError, TypeError):
            # msgspec knows neither lone surrogates nor subclasses of str, int and float.
            return _encode_slowly(_without_non_finite(value) if non_finite_as_null else value)
    except ValueError:
        raise LocalProtocolError(f"expected integers of at most {MAX_INTEGER_LITERAL} digits") from None


def bytes_to_buffer(data: bytes) -> dict[str, JSONValue]:
    """The JSON form of a Node.js Buffer, in which original peer-relay nodes exchange bytes."""
    return {"type": "Buffer", "data": list(data)}


def buffer_to_bytes(value: JSONValue) -> bytes | None:
    """The bytes of a value that is exactly the JSON form of a Buffer, or None if it is anything else."""
    if isinstance(value, dict) and len(value) == 2 and value.get("type") == "Buffer":
        return array_to_bytes(value.get("data"))
    return None


def array_to_bytes(value: JSONValue) -> bytes | None:
    """The bytes of an array of integers from 0 to 255, or None if the value is anything else."""
    # Types are compared because bytes() would take true for 1.
    if not isinstance(value, list) or not {int}.issuperset(map(type, value)):
        return None
    try:
        return bytes(value)  # type: ignore[arg-type]
    except ValueError:
        return None


def describe(value: object) -> str:
    """A stranger's value in an error message: the start of a string, the type of anything else."""
    return repr(value[:60]) if isinstance(value, str) else type(value).__name__


def require_shallow(text: str, max_depth: int = MAX_DEPTH) -> None:
    """Refuses text whose brackets outside strings are nested deeper than `max_depth`.

    Exact for valid JSON; of anything else the decoders refuse what passes. Linear in the size of the text, and much
    faster than decoding where there are few brackets.

    Raises:
        RemoteProtocolError: it is nested too deep.
    """
    # What is nested so deep has as many closing brackets as opening ones.
    if len(text) > 2 * max_depth and not _holds_few(text, max_depth):
        _require_shallow_exactly(text, max_depth)


def _holds_few(text: str, most: int) -> bool:
    """Whether there are at most `most` opening brackets."""
    if len(text) > _LONG:
        # Searching skips what is between two brackets ten times as fast as counting does.
        found = 0
        for bracket in "{[":
            position = text.find(bracket)
            while position >= 0 and found < _FEW:
                found += 1
                position = text.find(bracket, position + 1)
        if found < min(_FEW, most):
            return True
    return text.count("[") + text.count("{") <= most


def _require_shallow_exactly(text: str, max_depth: int) -> None:
    data = text.encode("utf-8", "surrogatepass")
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes with nothing between them, whether a string's or its neighbours', change no bracket's side.
    brackets = data.translate(_ALIKE, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in brackets:
        brackets = b"".join(brackets.split(b'"')[::2])
    if _is_surely_shallow(brackets, max_depth):
        return
    steps = memoryview(brackets.translate(_STEPS)).cast("b")
    depth = max(accumulate(steps), default=0)
    if depth > max_depth:
        raise RemoteProtocolError(f"expected json nested at most {max_depth} deep, not {depth}")


def _is_surely_shallow(brackets: bytes, max_depth: int) -> bool:
    """True only if brackets, all square, are nested at most `max_depth` deep; quick for what is wide and not deep.

    Taking out every ``[]`` takes at most one off the depth, and what has n opening brackets is at most n deep.
    """
    for taken_off in range(_LEAF_ROUNDS):
        if taken_off + brackets.count(b"[") <= max_depth:
            return True
        shorter = brackets.replace(b"[]", b"")
        # A round costs a tenth of the exact answer, so it must be worth it.
        if len(shorter) * 8 > len(brackets) * 7:
            return False
        brackets = shorter
    return False


def _decode(text: str) -> JSONValue:
    try:
        value: JSONValue = _fast_decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        if len(text) > _LARGE and sum(map(text.count, ",[{")) > _SLOW_ITEMS:
            raise RemoteProtocolError(f"expected plain json, or at most {_SLOW_ITEMS} items in it") from None
        value = _decode_slowly(text)
    return value


def _decode_slowly(text: str) -> JSONValue:
    try:
        value: JSONValue = _slow_decoder.decode(text)
    except json.JSONDecodeError as error:
        raise RemoteProtocolError(f"expected json, not what stands at character {error.pos}") from None
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"expected json: {error}") from None
    return value


def _parse_integer(literal: str) -> int | float:
    if len(literal) <= MAX_INTEGER_LITERAL:
        try:
            return int(literal)
        except ValueError:
            pass  # PYTHONINTMAXSTRDIGITS sets a lower bound
    return float(literal)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a json number")


_slow_decoder: Final = json.JSONDecoder(parse_int=_parse_integer, parse_constant=_refuse_constant)


def _encode_slowly(value: JSONValue) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # UTF-8 lacks only the lone surrogates, and Python's backslash form of those is JSON's.
    return text.encode("utf-8", "backslashreplace")


def _without_non_finite(value: JSONValue) -> JSONValue:
    if isinstance(value, dict):
        return {key: _without_non_finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _require_json(value: object, depth_left: int, non_finite_allowed: bool) -> None:
    """Raises LocalProtocolError for what the encoders would write in a form of their own, or not at all."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise LocalProtocolError(f"expected str keys in a json object, not {type(key).__name__}")
        items = value.values()
    elif isinstance(value, (list, tuple)):
        items = value  # type: ignore[assignment]
    elif isinstance(value, float):
        if not (non_finite_allowed or math.isfinite(value)):
            raise LocalProtocolError(f"expected a finite number, not the float {value}")
        return
    elif value is None or isinstance(value, (str, int)):
        return
    else:
        raise LocalProtocolError(f"expected a json value, not {type(value).__name__}")
    if depth_left == 0:
        raise LocalProtocolError("expected a json value that is less deeply nested")
    # One pass at the speed of C spares the long arrays of small integers that Buffers are.
    if not _SCALARS.issuperset(map(type, items)):
        for item in items:
            _require_json(item, depth_left - 1, non_finite_allowed)
