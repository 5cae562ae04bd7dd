"""Our decoder against Node.js's `JSON.parse`: what is accepted, and as which value."""

from __future__ import annotations

import json
import math
import struct
import subprocess
from collections.abc import Iterator
from random import Random

import pytest

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.wire.json import MAX_DEPTH, MAX_INTEGER_LITERAL, JSONValue, decode_untrusted

pytestmark = pytest.mark.interop

# Reads one hexadecimal text a line; writes its canonical form (as `canonical` below), or "refused" or "deep".
NODE_PROGRAM = r"""
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const units = (text) => Array.from({ length: text.length }, (_, i) => hex(text.charCodeAt(i))).join('')
const hex = (unit) => unit.toString(16).padStart(4, '0')
function number (value) {
  const bytes = Buffer.alloc(8)
  bytes.writeDoubleBE(value === 0 ? 0 : value)
  return bytes.toString('hex')
}
function canonical (value, depth) {
  if (value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'number') return 'n' + number(value)
  if (typeof value === 'string') return 's' + units(value)
  if (depth === MAX_DEPTH) throw new RangeError('deep')
  if (Array.isArray(value)) return '[' + value.map((item) => canonical(item, depth + 1)).join() + ']'
  const keys = Object.keys(value).map((key) => [units(key), key]).sort()
  return '{' + keys.map(([spelled, key]) => spelled + ':' + canonical(value[key], depth + 1)).join() + '}'
}
function answer (line) {
  try {
    return canonical(JSON.parse(utf8.decode(Buffer.from(line, 'hex'))), 0)
  } catch (error) {
    return error instanceof RangeError ? 'deep' : 'refused'
  }
}
const lines = require('readline').createInterface({ input: process.stdin })
lines.on('line', (line) => process.stdout.write(answer(line) + '\n'))
"""


class Node:
    """A running Node.js that is asked one text at a time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def parse(self, data: bytes) -> str:
        self._stdin.write(data.hex().encode() + b"\n")
        self._stdin.flush()
        answer = self._stdout.readline()
        assert answer.endswith(b"\n"), "node ended"
        return answer.decode().strip()


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    program = NODE_PROGRAM.replace("MAX_DEPTH", str(MAX_DEPTH))
    with subprocess.Popen(["node", "-e", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Node(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=10) == 0


def utf16(text: str) -> str:
    return text.encode("utf-16-be", "surrogatepass").hex()


def canonical(value: JSONValue) -> str:
    """One spelling for values that JavaScript cannot tell apart: numbers as doubles, no negative zero."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        try:
            double = float(value)
        except OverflowError:
            double = float("inf") if value > 0 else float("-inf")
        return "n" + struct.pack(">d", double + 0.0).hex()
    if isinstance(value, str):
        return "s" + utf16(value)
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    members = sorted((utf16(key), canonical(item)) for key, item in value.items())
    return "{" + ",".join(f"{key}:{item}" for key, item in members) + "}"


def ours(data: bytes) -> str:
    try:
        return canonical(decode_untrusted(data))
    except RemoteProtocolError as error:
        return "deep" if "nested" in str(error) else "refused"


EDGES = [
    *[b"", b" ", b"\t\n\r 1 ", b"\x0b1", b"\x0c1", b"\xc2\xa01", b"\xe2\x80\xa81", b"\xef\xbb\xbf1", b"1\x00"],
    *[b"\x00"],
    *[b"0", b"-0", b"-0.0", b"00", b"01", b"-01", b"+1", b".5", b"5.", b"-", b"1e", b"1e+", b"1E+5", b"0e0"],
    *[b"0x10", b"1_0"],
    *[b"1e400", b"-1e400", b"1e-400", b"5e-324", b"2e-324", b"1.7976931348623157e308", b"1.7976931348623159e308"],
    *[b"9007199254740993", b"-9223372036854775809", b"18446744073709551616", b"123456789012345678901234567890.5"],
    *[b"0.1" + b"0" * 800 + b"1", b"1" * 400, b"-" + b"1" * 400, b"1" * 400 + b".5", b"1" * 308],
    *[b"1e99999999999", b"1e-99999999999"],
    *[b"9" * MAX_INTEGER_LITERAL, b"9" * (MAX_INTEGER_LITERAL + 1), b"-" + b"9" * MAX_INTEGER_LITERAL],
    *[b"7" * 100_000],
    *[b"NaN", b"Infinity", b"-Infinity", b"[NaN]", b"undefined", b"True", b"nul", b"nulll", b"true false"],
    *[rb'"\ud800"', rb'"\udc00"', rb'"\udc00\ud800"', rb'"\ud83d\ude00"', rb'"\ud83d\u0041"', rb'"\ud83dx"'],
    *[rb'{"\ud800":1}'],
    *[rb'"\u0000"', rb'"\x41"', rb'"\u12"', rb'"\u+123"', rb'"\u 123"', rb'"\u1_23"', rb'"\uD83D\uDE00"'],
    *[rb'"\/\b\f\n\r\t\"\\"', rb'"\v"'],
    *[b'"\x1f"', b'"\x7f"', b'"\t"', b'"a\nb"', b'"\xe2\x80\xa8"', b'"', b'"\\', b'"\\"', b"'a'", b'"\x00"'],
    *[b'"0123456789abcdef\x01"'],
    *[b'"\xff"', b'{"a":"\xff"}', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"', b'"\xf0\x9f\x98\x80"'],
    *[b'"\xe2\x82"', b"\xff"],
    *[b'{"a":1,"a":2}', b'{"a":"\\ud800","a":2}', b'{"a":1,"\\u0061":2}', b'{"__proto__":{"a":1}}'],
    *[b'{"2":0,"1":0}', b'{"":0}'],
    *[b"[1,]", b"[,1]", b"[1 2]", b"[", b"]", b"[}", b'{"a":1,}', b'{"a"}', b'{"a":}', b"{a:1}", b"{1:1}"],
    *[b"[]]", b"// 1\n1", b"/**/1"],
    *[b"[" * n + b"]" * n for n in (MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 1000)],
    *[b'{"a":' * n + b"1" + b"}" * n for n in (MAX_DEPTH, MAX_DEPTH + 1)],
    *[b"[" * n + rb'"\ud800"' + b"]" * n for n in (MAX_DEPTH, MAX_DEPTH + 1)],
    b"[" + b",".join([b'"[[\\"["', b"{}", b'"\\\\"', b"[]"] * 100) + b"]",
]


@pytest.mark.parametrize("data", EDGES, ids=range(len(EDGES)))
def test_edges(node: Node, data: bytes) -> None:
    assert ours(data) == node.parse(data)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_hopeless_nesting_is_refused_by_both(node: Node, data: bytes) -> None:
    # JSON.parse sees where the text breaks off, we stop at the depth.
    assert ours(data) == "deep"
    assert node.parse(data) in ("deep", "refused")


class Texts:
    """Random JSON texts, repeatable by seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def valid(self, depth: int = 4) -> bytes:
        kind = self.random.randrange(6 if depth else 4)
        if kind < 2:
            return self.number() if kind else self.string()
        if kind < 4:
            return self.random.choice([b"true", b"false", b"null", b"1e400", b"[]", b"{}", b'""'])
        items = [self.valid(depth - 1) for _ in range(self.random.randint(1, 4))]
        if kind == 4:
            return b"[" + self.space() + (self.space() + b"," + self.space()).join(items) + b"]"
        members = [self.random.choice([b'"a"', self.string()]) + self.space() + b":" + item for item in items]
        return b"{" + self.space() + b",".join(members) + self.space() + b"}"

    def damaged(self) -> bytes:
        data = self.valid()
        position = self.random.randint(0, len(data))
        insert = self.random.choice([b"", *DAMAGE, self.random.randbytes(1), self.random.randbytes(2)])
        return data[:position] + insert + data[position + self.random.randint(0, 3) :]

    def space(self) -> bytes:
        return self.random.choice([b"", b"", b"", b" ", b"\n", b"\t\r"])

    def digits(self, most: int) -> bytes:
        return b"%d" % self.random.randrange(10 ** self.random.randint(1, most))

    def number(self) -> bytes:
        sign, point = self.random.choice([b"", b"-"]), self.random.choice([b"", b"." + self.digits(25)])
        exponent = self.random.choice([b"", b"", b"e", b"E+", b"e-"])
        return sign + self.digits(25) + point + (exponent and exponent + self.digits(3))

    def string(self) -> bytes:
        pieces = self.random.choices(PIECES, k=self.random.randint(0, 8))
        return b'"' + b"".join(pieces) + b'"'


DAMAGE = [
    *[b",", b'"', b"\\", b"]", b"[", b"{", b"}", b"0", b"-", b".", b"e", b":"],
    *[b"\x1f", b"\\u", b"\x80", b"\xed\xa0\x80"],
]
PIECES = [
    *[rb"\"", rb"\\", rb"\/", rb"\n", rb"\u0000", rb"\u00E9", rb"\uD83D", rb"\ude00", rb"\ud800"],
    *[b"[", b"{", b"]", b",", b":", b"a", b"abcdefgh", b"\x7f", *(char.encode() for char in "é\u2028\uffff\ufeff😀")],
]


@pytest.mark.parametrize("seed", range(5))
def test_valid_texts_have_the_same_value(node: Node, seed: int) -> None:
    texts = Texts(seed)
    for _ in range(1000):
        data = texts.valid()
        answer = node.parse(data)
        assert answer not in ("refused", "deep"), data
        assert ours(data) == answer, data


@pytest.mark.parametrize("seed", range(10))
def test_damaged_texts_are_judged_alike(node: Node, seed: int) -> None:
    texts = Texts(seed)
    answers = set()
    for _ in range(1000):
        data = texts.damaged()
        answer = node.parse(data)
        answers.add(answer == "refused")
        assert ours(data) == answer, data
    assert answers == {True, False}


def test_numbers_are_read_to_the_last_bit(node: Node) -> None:
    random = Random(0)
    for _ in range(3000):
        (number,) = struct.unpack(">d", random.randbytes(8))
        if math.isfinite(number):
            data = repr(number).encode()
            assert ours(data) == node.parse(data), data
