"""Access keys: their form, sets that do not keep them, the keys of an environment variable and those in a file."""

from __future__ import annotations

import os
import string
import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.wsrelay.stores import key_files
from trio_relay.wsrelay.stores.key_files import FileKeyStore
from trio_relay.wsrelay.stores.keys import (
    KEY_FORMAT,
    ChangingKeyStore,
    EnvKeyStore,
    KeySet,
    close_store,
    is_key_format,
    is_valid,
)

VARIABLE = "RELAY_TEST_KEYS"
keys = st.text(string.ascii_letters + string.digits + "_-", min_size=8, max_size=64)


@pytest.mark.parametrize("text", ["a" * 8, "Z" * 64, "key_abc-123", "--------"])
def test_a_key_has_8_to_64_letters_digits_and_two_signs(text: str) -> None:
    assert is_key_format(text)
    assert KEY_FORMAT.match(text)


@pytest.mark.parametrize(
    "text",
    ["", "a" * 7, "a" * 65, "key abc 123", "key-abc-123\n", "schlüssel-1", "key.abc.123", "\udc80" * 8, "①②③④⑤⑥⑦⑧"],
)
def test_everything_else_is_none(text: str) -> None:
    assert not is_key_format(text)
    assert text not in KeySet([])


@settings(max_examples=50)
@given(st.sets(keys, max_size=5), keys)
def test_a_set_knows_its_keys_and_no_other(inside: set[str], other: str) -> None:
    held = KeySet(inside)
    assert all(key in held for key in inside)
    assert (other in held) == (other in inside)
    assert len(held) == len(inside)
    assert held == KeySet(sorted(inside))
    assert hash(held) == hash(KeySet(inside))
    assert (held == KeySet([*inside, other])) == (other in inside)


def test_a_set_holds_no_key() -> None:
    secret = "secret-key-1"
    held = KeySet([secret])
    (digests,) = (getattr(held, name) for name in held.__slots__)
    assert secret not in repr(held)
    assert secret.encode() not in b"".join(digests)
    assert held != {secret}


@pytest.mark.parametrize(
    "value", ["key-abc-123,key-xyz-456", "  key-abc-123 ,, key-xyz-456\n,", ",key-abc-123,key-xyz-456,key-abc-123"]
)
async def test_keys_from_the_environment(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    store = EnvKeyStore(VARIABLE)
    assert await is_valid(store, "key-abc-123")
    assert await is_valid(store, "key-xyz-456")
    assert not await is_valid(store, "key-abc-124")
    assert not await is_valid(store, "key-abc-123,key-xyz-456")
    assert repr(store) == f"<EnvKeyStore {VARIABLE}: 2 keys>"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "is not set"),
        ("", "has no key"),
        (" , ,", "has no key"),
        ("key-abc-123,short,key-xyz-456", "as entry 2$"),
        ("key-abc-123,,bad key here", "as entry 3$"),
    ],
)
def test_a_bad_environment_is_refused(monkeypatch: pytest.MonkeyPatch, value: str | None, message: str) -> None:
    if value is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ValueError, match=message) as caught:
        EnvKeyStore(VARIABLE)
    assert VARIABLE in str(caught.value)
    assert not any(word in str(caught.value) for word in ("key-abc", "short", "bad key"))


class OwnStore:
    """A store of an application: async, with `aclose` or `close` if wanted."""

    def __init__(self) -> None:
        self.closed = 0

    async def validate(self, key: str) -> bool:
        await trio.lowlevel.checkpoint()
        return key == "key-abc-123"


class AsyncClosed(OwnStore):
    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed += 1


class SyncClosed(OwnStore):
    def close(self) -> None:
        self.closed += 1


async def test_stores_may_be_async() -> None:
    assert await is_valid(OwnStore(), "key-abc-123")
    assert not await is_valid(OwnStore(), "key-abc-124")


@pytest.mark.parametrize(("store", "times"), [(OwnStore(), 0), (AsyncClosed(), 1), (SyncClosed(), 1)])
async def test_stores_are_closed_as_they_can_be(store: OwnStore, times: int) -> None:
    await close_store(store)
    assert store.closed == times


def test_only_some_stores_tell_of_changes() -> None:
    assert not isinstance(OwnStore(), ChangingKeyStore)


# What is in a file.

spaces = st.text(" \t\r\f", max_size=3)
key_lines = st.tuples(spaces, keys, spaces)
other_lines = st.one_of(spaces, st.builds("{}#{}".format, spaces, st.text(max_size=12).filter(lambda s: "\n" not in s)))
bad_lines = st.sampled_from(["short", "x" * 65, "two keys-on-a-line", "key.with.dots", "key-number-1 # why", "k\0" * 8])
texts = st.lists(st.one_of(key_lines, other_lines), max_size=8)
ends = st.sampled_from(["", "\n", "\n\n"])


def written(lines: list[str], end: str, start: bytes = b"") -> FileKeyStore:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "keys.txt")
        path.write_bytes(start + ("\n".join(lines) + end).encode("utf-8", "surrogatepass"))
        return FileKeyStore(path)


@settings(max_examples=50)
@given(texts, ends, st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_a_file_has_a_key_a_line(lines: list[tuple[str, str, str] | str], end: str, start: bytes) -> None:
    inside = {line[1] for line in lines if isinstance(line, tuple)}
    store = written(["".join(line) for line in lines], end, start)
    assert all(store.validate(key) for key in inside)
    assert not any(store.validate(key + "-") for key in inside if key + "-" not in inside)
    assert store.statistics().keys == len(inside)


@settings(max_examples=50)
@given(texts, bad_lines, texts, ends)
def test_a_bad_line_is_named_and_not_shown(
    before: list[tuple[str, str, str] | str], bad: str, after: list[tuple[str, str, str] | str], end: str
) -> None:
    lines = ["".join(line) for line in (*before, bad, *after)]
    with pytest.raises(ValueError, match=rf"keys\.txt': line {len(before) + 1}: expected 8 to 64") as caught:
        written(lines, end)
    assert bad not in str(caught.value)


def test_comments_may_be_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_bytes(b"# Schl\xfcssel\nkey-abc-123")
    assert FileKeyStore(path).validate("key-abc-123")
    path.write_bytes(b"Schl\xfcssel\n")
    with pytest.raises(ValueError, match="line 1"):
        FileKeyStore(path)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileKeyStore(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        FileKeyStore(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        FileKeyStore(tmp_path / "pipe")


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.txt"
    path.write_text("key-abc-123\nkey-xyz-456\n")
    monkeypatch.setattr(key_files, "MAX_KEYS", 2)
    FileKeyStore(path)
    path.write_text("key-abc-123\nkey-abc-123\nkey-abc-123\n")
    with pytest.raises(ValueError, match="more than 2 keys"):
        FileKeyStore(path)
    with path.open("wb") as file:
        file.truncate(key_files.MAX_FILE + 1)
    with pytest.raises(ValueError, match="more than 8,388,608 bytes"):
        FileKeyStore(path)


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_interval_is_refused(tmp_path: Path, interval: float) -> None:
    with pytest.raises(ValueError, match="interval"):
        FileKeyStore(tmp_path / "keys.txt", interval=interval)
