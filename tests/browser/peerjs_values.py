"""What is sent between tabs and Python: a value of every type of the original's own tests, and how it arrives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

__all__ = ["BYTES_20_MB", "FROM_PYTHON", "SAMPLES", "Sample", "pattern"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value.

    Attributes:
        js: it in JavaScript; what a tab sends.
        python: what Python receives then; if Python sends this, a tab receives `seen`.
        seen: what a tab receives, in JavaScript; None: the same as `js`.
    """

    js: str
    python: Any
    seen: str | None = None

    @property
    def received(self) -> str:
        """What a tab receives, in JavaScript."""
        return self.js if self.seen is None else self.seen


def pattern(length: int) -> bytes:
    """The bytes that `bytes` of the page makes; no multiple of a chunk's size repeats."""
    return (_PERIOD * (length // len(_PERIOD) + 1))[:length]


_PERIOD: Final = bytes((number * number + number * 7) >> 3 & 255 for number in range(10007))
BYTES_20_MB: Final = 20_000_000


def _buffer(js: str, python: bytes, seen: str = "") -> Sample:
    """Binary data in a form that the receiver does not learn of."""
    return Sample(js, python, seen or f"Uint8Array.of({', '.join(map(str, python))}).buffer")


_TEXTS: Final = [
    Sample("'hello'", "hello"),
    Sample("'caf\\u00e9 \\u4e2d\\u6587'", "caf\xe9 \u4e2d\u6587"),
    Sample("'broccoli\\u{1F966}l\\u012bp\\u{2898B}grin\\u{1F603}ok\\u{10FFFF}'", "broccoli🥦līp𨦋grin😃ok\U0010ffff"),
    Sample("'x'.repeat(15)", "x" * 15),
    Sample("'\\u{1F40D}'.repeat(16)", "🐍" * 16),
]
_LONG_TEXT: Final = Sample("'This is\\u00c1T\\u00e8stString'.repeat(20000)", "This is\xc1T\xe8stString" * 20000)

_NUMBERS: Final = [
    Sample(str(number), number)
    for number in (0, 1, -1, -32, -33, 127, 128, -128, 0x7FFF, 0xFFFF, -0x8000, 0x7FFFFFFF, 0xFFFFFFFF, -0x80000000)
] + [
    Sample("0x1_0000_0000", 0x1_0000_0000),
    Sample("Number.MAX_SAFE_INTEGER", 2**53 - 1),
    Sample("Math.PI", 3.141592653589793),
    Sample("-Math.PI", -3.141592653589793),
    Sample("0.1", 0.1),
    Sample("-1.5e-7", -1.5e-7),
    Sample("1.7e-200", 1.7e-200),
]

_NESTED: Final = [
    Sample("true", True),
    Sample("false", False),
    Sample("[]", []),
    Sample("({})", {}),
    Sample("[1, 'two', [3, [null, true]], {four: [5]}]", [1, "two", [3, [None, True]], {"four": [5]}]),
    Sample("Array.from({length: 100}, (_, i) => i)", list(range(100))),
    Sample("({a: 1, b: {c: ['d', -1.25]}, '\\u00e9': null})", {"a": 1, "b": {"c": ["d", -1.25]}, "\xe9": None}),
    Sample(
        "Object.fromEntries(Array.from({length: 20}, (_, i) => [`key${i}`, i % 2 === 0]))",
        {f"key{i}": i % 2 == 0 for i in range(20)},
    ),
]

_UNDEFINED: Final = [
    Sample("[undefined, 1]", [None, 1], "[null, 1]"),
    Sample("({a: undefined})", {"a": None}, "({a: null})"),
]

_SHORT_BUFFERS: Final = [
    _buffer("new ArrayBuffer(0)", b""),
    _buffer("bytes(20).buffer", pattern(20)),
    _buffer("Uint8Array.of(0, 255)", b"\x00\xff"),
    _buffer("Int8Array.of(-1, 127)", b"\xff\x7f"),
    _buffer("Uint8ClampedArray.of(300, 7)", b"\xff\x07"),
    _buffer("Uint16Array.of(1, 0x203)", b"\x01\x00\x03\x02"),
    _buffer("Int16Array.of(1, -2)", b"\x01\x00\xfe\xff"),
    _buffer("Int32Array.of(-1, 1)", b"\xff\xff\xff\xff\x01\x00\x00\x00"),
    _buffer("Float32Array.of(1.5)", b"\x00\x00\xc0\x3f"),
    _buffer("Float64Array.of(-2)", b"\x00\x00\x00\x00\x00\x00\x00\xc0"),
    # Views see a part of their buffer.
    _buffer("Uint8Array.of(0, 1, 2, 3, 4).subarray(1, 3)", b"\x01\x02"),
    _buffer("new Uint16Array(Uint8Array.of(0, 0, 1, 2, 3, 4, 5, 6).buffer, 2, 2)", b"\x01\x02\x03\x04"),
]
_BLOBS: Final = [
    _buffer("new Blob([])", b""),
    _buffer("new Blob(['abc', bytes(3)])", b"abc" + pattern(3)),
    _buffer("new File(['file'], 'name.txt', {type: 'text/plain'})", b"file"),
    Sample(
        "({blob: [new Blob(['abc']), 1], file: new File(['d'], 'name')})",
        {"blob": [b"abc", 1], "file": b"d"},
        "({blob: [Uint8Array.of(97, 98, 99).buffer, 1], file: Uint8Array.of(100).buffer})",
    ),
]

_EARLY: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATE: Final = datetime(2024, 2, 29, 12, 30, 45, 678000, tzinfo=UTC)
_DATE: Final = "new Date(Date.UTC(2024, 1, 29, 12, 30, 45, 678))"

BINARY: Final = [
    Sample("''", ""),
    *_TEXTS,
    _LONG_TEXT,
    *_NUMBERS,
    Sample("0x0fffffffffffffff", 2**60),  # the nearest number that JavaScript has
    Sample("-2147483649", -2147483649, "-2147483648"),  # the original's decoder is one off
    Sample("-0", 0, "0"),
    *_NESTED,
    *_UNDEFINED,
    *_SHORT_BUFFERS,
    *_BLOBS,
    Sample(
        "({data: bytes(3), list: [new Float32Array(1)]})",
        {"data": pattern(3), "list": [bytes(4)]},
        "({data: bytes(3).buffer, list: [new ArrayBuffer(4)]})",
    ),
    # Whole in one message; one byte more is in two, and of another type for a tab.
    _buffer("bytes(16297)", pattern(16297), "bytes(16297).buffer"),
    _buffer("bytes(16298)", pattern(16298), "bytes(16298)"),
    _buffer("new Blob([bytes(50000)])", pattern(50000), "bytes(50000)"),
    Sample("[bytes(40000), bytes(5)]", [pattern(40000), pattern(5)]),
]

JSON: Final = [
    Sample("''", ""),
    *_TEXTS,
    *_NUMBERS,
    Sample("0x0fffffffffffffff", 1152921504606847000),  # its shortest digits
    *_NESTED,
    Sample("-0", 0, "0"),
    Sample("[undefined, NaN, 1]", [None, None, 1], "[null, null, 1]"),
    Sample("({a: undefined, b: 1})", {"b": 1}, "({b: 1})"),
    Sample(_DATE, "2024-02-29T12:30:45.678Z", "'2024-02-29T12:30:45.678Z'"),
    Sample("[new Date(0)]", ["1970-01-01T00:00:00.000Z"], "['1970-01-01T00:00:00.000Z']"),
    Sample("Uint8Array.of(7, 8)", {"0": 7, "1": 8}, "({0: 7, 1: 8})"),
    Sample("'x'.repeat(16297)", "x" * 16297),
]

RAW: Final = [
    Sample("''", ""),
    *_TEXTS,
    *_SHORT_BUFFERS,
    Sample("'x'.repeat(60000)", "x" * 60000),
    _buffer("bytes(60000)", pattern(60000), "bytes(60000).buffer"),
    # Later values overtake it: it is the last.
    _buffer("new Blob(['abc'])", b"abc"),
]

MSGPACK: Final = [
    Sample("''", ""),
    *_TEXTS,
    _LONG_TEXT,
    *_NUMBERS,
    Sample("0x0fffffffffffffff", 2.0**60),
    *_NESTED,
    *_UNDEFINED,
    Sample("NaN", float("nan")),
    Sample("-Infinity", float("-inf")),
    Sample("new Uint8Array(0)", b""),
    Sample("bytes(300)", pattern(300)),
    Sample("Uint16Array.of(1, 0x203)", b"\x01\x00\x03\x02", "Uint8Array.of(1, 0, 3, 2)"),
    Sample("Uint8Array.of(0, 1, 2, 3, 4).subarray(1, 3)", b"\x01\x02", "Uint8Array.of(1, 2)"),
    Sample("({data: [bytes(40000)]})", {"data": [pattern(40000)]}),
    Sample("new Date(0)", _EARLY),
    Sample(_DATE, _LATE),
    Sample("new Date(-1)", _EARLY - timedelta(milliseconds=1)),
]

CUSTOM: Final = [*_TEXTS, *_NUMBERS, *_NESTED]

SAMPLES: Final[dict[str, list[Sample]]] = {
    "binary": BINARY,
    "binary-utf8": [*_TEXTS, *_SHORT_BUFFERS],  # the same by another name
    "json": JSON,
    "raw": RAW,
    "MsgPack": MSGPACK,
    "Flipped": CUSTOM,
}
"""By serialization, in the order in which they are sent over one connection."""

FROM_PYTHON: Final[dict[str, list[Sample]]] = {
    "binary": [
        Sample(
            "",
            datetime(2024, 2, 29, 12, 30, 45, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
            "'Thu Feb 29 2024 12:30:45 GMT-0330'",
        ),
        Sample("", 2.0, "2"),
        Sample(
            "",
            (1, bytearray(b"\x01"), memoryview(b"\x02\x03")[1:]),
            "[1, Uint8Array.of(1).buffer, Uint8Array.of(3).buffer]",
        ),
    ],
    "json": [Sample("", _LATE, "'2024-02-29T12:30:45.678Z'"), Sample("", (1, 2.0), "[1, 2]")],
    "raw": [Sample("", bytearray(b"\x01"), "Uint8Array.of(1).buffer")],
    "MsgPack": [Sample("", (1, 2.0, 2**60, bytearray(b"\x01")), "[1, 2, 2 ** 60, Uint8Array.of(1)]")],
}
"""What Python alone can send."""
