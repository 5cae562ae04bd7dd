"""BinaryPack against the original: the same bytes for the same values, and each reads what the other writes."""

from __future__ import annotations

import json
import math
import struct
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.peerjs.serialization.binarypack import pack, unpack_untrusted
from trio_relay.peerjs.serialization.chunks import split

pytestmark = pytest.mark.interop

FOLDER: Final = Path(__file__).parent
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Original:
    """The process that packs and unpacks."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process: Final = process

    def _run(self, commands: list[dict[str, Any]]) -> list[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(commands).encode() + b"\n")
        self._process.stdin.flush()
        results: list[Any] = json.loads(self._process.stdout.readline())
        return results

    def pack(self, *values: Any) -> list[bytes]:
        """What it makes of these values."""
        results = self._run([{"pack": described(value)} for value in values])
        return [bytes.fromhex(result["hex"]) for result in results]

    def unpack(self, *messages: bytes) -> list[Any]:
        """What it reads in these messages."""
        return [made(result["value"]) for result in self._run([{"unpack": message.hex()} for message in messages])]


@pytest.fixture(scope="module")
def original(node_modules: Path) -> Iterator[Original]:
    command = ["node", "binarypack.mjs"]
    with subprocess.Popen(command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Original(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(20) == 0
        finally:
            process.kill()


def described(value: Any) -> Any:
    """As `binarypack.mjs` reads it."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return {"f": struct.pack(">d", value).hex()}
    if isinstance(value, bytes):
        return {"b": value.hex()}
    if isinstance(value, list):
        return {"a": list(map(described, value))}
    if isinstance(value, datetime):
        return {"d": (value - EPOCH) // timedelta(milliseconds=1)}
    return {"o": [[key, described(item)] for key, item in value.items()]}


def made(described: Any) -> Any:
    """Numbers are floats, as in JavaScript."""
    if not isinstance(described, dict):
        return described
    if "f" in described:
        return struct.unpack(">d", bytes.fromhex(described["f"]))[0]
    if "b" in described:
        return bytes.fromhex(described["b"])
    if "a" in described:
        return list(map(made, described["a"]))
    return {key: made(item) for key, item in described["o"]}


def packed(value: Any) -> bytes:
    return b"".join(pack(value))


def written_well(number: float) -> bool:
    """Whether the original writes IEEE doubles for it, or the integer that it is.

    It takes the exponent from a quotient of logarithms, which is off by one for some numbers within about 2**-40 of a
    power of two (of both sides), relative to it; its mantissa of subnormal numbers is wrong; it refuses infinity and
    whole numbers beyond 2**64, and writes 2**63 as -2**63 and 2**64 as 0.
    """
    if not math.isfinite(number) or 0 < abs(number) < 2.0**-1022:
        return False
    if number.is_integer():
        return -(2.0**63) <= number < 2.0**64 and number != 2.0**63
    mantissa, _ = math.frexp(abs(number))
    return mantissa - 0.5 > 2**-40 and 1 - mantissa > 2**-40


def read_well(number: float) -> bool:
    """Whether the original reads it in our form: it adds up int64 in doubles, and those below -2**31 get lost."""
    if not number.is_integer() or abs(number) >= 2.0**64:
        return abs(number) >= 2.0**-1022
    return number >= -(2.0**31)


POWERS: Final = st.builds(lambda power, factor: math.ldexp(factor, power), st.integers(-1000, 1000), st.floats(0.5, 1))
WHOLE: Final = st.one_of(
    st.integers(-(2**53), 2**53),
    st.integers(-70_000, 70_000),
    st.builds(lambda power, step: (1 << power) + step, st.integers(0, 52), st.integers(-2, 2)),
    st.floats(-(2.0**63), 2.0**64).map(math.floor).map(float),
)
NUMBERS: Final = st.one_of(st.floats(allow_nan=False), POWERS, WHOLE).map(float)
TEXTS: Final = st.text(max_size=20) | st.text("a\u00e9\u20ac\U0001f600\x00\ud800\udc00", max_size=20)
KEYS: Final = TEXTS | st.integers(0, 2**33).map(str) | st.sampled_from(["01", "-1", "4294967294", "4294967295", ""])


def values(numbers: st.SearchStrategy[Any], keys: st.SearchStrategy[str] = KEYS) -> st.SearchStrategy[Any]:
    scalars = st.one_of(st.none(), st.booleans(), numbers, TEXTS, st.binary(max_size=40))
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(keys, inner, max_size=20), max_leaves=25
    )


@settings(max_examples=150)
@given(value=values(NUMBERS.filter(written_well)))
def test_the_same_values_have_the_same_bytes(original: Original, value: Any) -> None:
    [theirs] = original.pack(value)
    assert packed(value) == theirs


@settings(max_examples=150)
@given(value=values(NUMBERS.filter(read_well), KEYS.filter(lambda key: key != "__proto__")))  # it sets the prototype
def test_it_reads_what_we_write(original: Original, value: Any) -> None:
    [read] = original.unpack(packed(value))
    assert read == well_formed(value)


@settings(max_examples=150)
@given(value=values(NUMBERS.filter(written_well)))
def test_we_read_what_it_writes(original: Original, value: Any) -> None:
    [theirs] = original.pack(value)
    assert unpack_untrusted(theirs) == well_formed(value)


def well_formed(value: Any) -> Any:
    """The value with strings as UTF-8 can hold them, by an algorithm that is not the one under test."""
    if isinstance(value, str):
        joined = value.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")
        return "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in joined)
    if isinstance(value, list):
        return list(map(well_formed, value))
    if isinstance(value, dict):
        return {well_formed(key): well_formed(item) for key, item in value.items()}
    return value


def test_lengths_at_their_borders(original: Original) -> None:
    lengths = (0, 15, 16, 65535, 65536)
    flat: list[Any] = [value for length in lengths for value in ("x" * length, bytes(length))]
    nested: list[Any] = [
        value for length in lengths for value in ([None] * length, {f"k{each}": None for each in range(length)})
    ]
    assert [packed(value) for value in flat] == original.pack(*flat)
    assert [packed(value) for value in nested[:6]] == original.pack(*nested[:6])  # it recurses for each item
    assert original.unpack(*map(packed, flat + nested)) == flat + nested


def test_chunks_are_read(original: Original) -> None:
    data = bytes(range(256)) * 130
    read = original.unpack(*split(pack(data), 3))
    assert [(each["__peerData"], each["n"], each["total"]) for each in read] == [(3, 0, 3), (3, 1, 3), (3, 2, 3)]
    assert unpack_untrusted(b"".join(each["data"] for each in read)) == data


def test_dates_are_its_text_but_for_the_name_of_the_zone(original: Original) -> None:
    moments = [EPOCH, datetime(2024, 2, 29, 23, 59, 59, 999000, tzinfo=UTC), datetime(1901, 12, 25, tzinfo=UTC)]
    theirs = map(unpack_untrusted, original.pack(*moments))
    assert [unpack_untrusted(packed(each)) for each in moments] == [text.partition(" (")[0] for text in theirs]


def test_infinity_arrives(original: Original) -> None:
    sent = [math.inf, -math.inf, 1e20, 1e300, 2.0**63, 2.0**-29]
    assert original.unpack(*map(packed, sent)) == sent
