from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_relay.wire import masking, websocket
from trio_relay.wire.masking import Buffer, apply_mask, xor_mask

Masker = Callable[[Buffer, bytes], bytes]
MASKERS: dict[str, Masker] = {"integer xor": xor_mask, masking.MASKING: apply_mask}

each_masker = pytest.mark.parametrize("masker", MASKERS.values(), ids=MASKERS.keys())
masks = st.binary(min_size=4, max_size=4)


def by_byte(data: bytes, mask: bytes) -> bytes:
    """RFC 6455 section 5.3, literally."""
    return bytes(octet ^ mask[i % 4] for i, octet in enumerate(data))


@each_masker
@given(data=st.binary(max_size=300), mask=masks)
@example(data=b"", mask=b"abcd")
@example(data=b"\0" * 65, mask=b"\0\0\0\0")
@example(data=b"\xff" * 17, mask=b"\xff\0\0\x80")
def test_equals_the_definition_for_every_kind_of_buffer(masker: Masker, data: bytes, mask: bytes) -> None:
    expected = by_byte(data, mask)
    for buffer in (data, bytearray(data), memoryview(data)):
        masked = masker(buffer, mask)
        assert type(masked) is bytes
        assert masked == expected


@each_masker
def test_large_data_and_back(masker: Masker) -> None:
    data = bytes(range(256)) * 4096 + b"end"
    masked = masker(data, b"\x01\x00\xfe\x7f")
    assert masked == by_byte(data, b"\x01\x00\xfe\x7f")
    assert masker(masked, b"\x01\x00\xfe\x7f") == data


@each_masker
@pytest.mark.parametrize("mask", [b"", b"abc", b"abcde"])
def test_a_mask_has_four_bytes(masker: Masker, mask: bytes) -> None:
    with pytest.raises(ValueError, match="4 bytes"):
        masker(b"data", mask)


def test_works_without_the_c_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    spec = importlib.util.spec_from_file_location("masking_without_extension", masking.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.MASKING == "integer xor"
    assert module.apply_mask is module.xor_mask
    assert module.apply_mask(b"\x60\x60\x60", b"\x01\x02\x03\x04") == b"abc"


def test_the_codec_says_which_masker_it_uses() -> None:
    expected = "integer xor" if apply_mask is xor_mask else "websockets C extension"
    assert (expected, expected) == (websocket.MASKING, masking.MASKING)
    assert websocket.apply_mask is apply_mask
