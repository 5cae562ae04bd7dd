"""The relay's reading of messages against Node.js's `JSON.parse`: which are taken, and what is read from them."""

from __future__ import annotations

import subprocess
from collections import Counter

import pytest

from tests.wire.test_json_node import DAMAGE, EDGES, Texts, utf16
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.wire.json import MAX_DEPTH
from trio_relay.wsrelay.messages import read_head_untrusted

pytestmark = pytest.mark.interop

# Reads one hexadecimal text a line; writes "refused", also for a scalar, or the four members of an object: s and
# UTF-16 in hexadecimal, or -.
NODE_PROGRAM = r"""
const hex = (text) => Array.from({ length: text.length }, (_, i) => text.charCodeAt(i).toString(16).padStart(4, '0'))
const member = (value) => typeof value === 'string' ? 's' + hex(value).join('') : '-'
function deeper (value, left) {
  if (value === null || typeof value !== 'object') return false
  if (left === 0) return true
  return Object.values(value).some((inner) => deeper(inner, left - 1))
}
function answer (line) {
  let value
  try {
    value = JSON.parse(Buffer.from(line, 'hex').toString())
  } catch (error) {
    return 'refused'
  }
  if (value === null || typeof value !== 'object') return 'refused'
  if (deeper(value, MAX_DEPTH)) return 'refused'
  return ['from', 'to', 'type', 'address'].map((name) => member(value[name])).join(' ')
}
const lines = require('fs').readFileSync(0, 'latin1').split('\n').slice(0, -1)
process.stdout.write(lines.map(answer).join('\n') + '\n')
"""


def theirs(texts: list[str]) -> list[str]:
    """Node's answers, from one process."""
    lines = "".join(text.encode().hex() + "\n" for text in texts)
    program = NODE_PROGRAM.replace("MAX_DEPTH", str(MAX_DEPTH))
    done = subprocess.run(["node", "-e", program], input=lines.encode(), capture_output=True, timeout=60, check=True)
    answers = done.stdout.decode().split("\n")[:-1]
    assert len(answers) == len(texts)
    return answers


def ours(text: str) -> str:
    try:
        head = read_head_untrusted(text)
    except RemoteProtocolError:
        return "refused"
    members = (head.sender, head.to, head.type, head.address)
    return " ".join("-" if member is None else "s" + utf16(member) for member in members)


def compare(texts: list[str]) -> Counter[str]:
    """Checks that the answers are the same; returns how often there was which kind."""
    kinds: Counter[str] = Counter()
    for text, answer in zip(texts, theirs(texts), strict=True):
        assert ours(text) == answer, text
        kinds["refused" if answer == "refused" else "head"] += 1
    return kinds


NAMES = [b"from", b"from", b"to", b"to", b"type", b"address", b"payload", b"From", b"", b"__proto__"]


class MessageTexts(Texts):
    """Random texts of messages, repeatable by seed."""

    def message(self) -> bytes:
        number = self.random.randint(0, 7)
        members = [self.name() + self.space() + b":" + self.space() + self.value() for _ in range(number)]
        return self.space() + b"{" + self.space() + (self.space() + b",").join(members) + self.space() + b"}"

    def name(self) -> bytes:
        return b'"' + self.spelled(self.random.choice(NAMES)) + b'"'

    def value(self) -> bytes:
        if self.random.random() < 0.5:
            words = [b"pwa:alice123", b"watch", b"error", "é😀".encode(), b"", b"a b", b"x" * 40]
            return b'"' + self.spelled(self.random.choice(words)) + b'"'
        return self.valid(3)

    def spelled(self, word: bytes) -> bytes:
        if self.random.random() < 0.7 or not word.isascii():
            return word
        return b"".join(rb"\u%04x" % letter if self.random.random() < 0.3 else bytes([letter]) for letter in word)

    def damaged_message(self) -> bytes:
        data = self.message()
        position = self.random.randint(0, len(data))
        insert = self.random.choice([b"", *DAMAGE, self.random.randbytes(1)])
        return data[:position] + insert + data[position + self.random.randint(0, 3) :]


def decoded(texts: list[bytes]) -> list[str]:
    """Those that are UTF-8: the others never come so far."""
    fit = []
    for text in texts:
        try:
            fit.append(text.decode())
        except UnicodeDecodeError:
            continue
    return fit


def test_edges_alone_and_inside_messages() -> None:
    edges = decoded(EDGES)
    inside = [f'{{"from":"a","payload":{edge},"to":"b"}}' for edge in edges]
    members = [f'{{"from":{edge},"to":"b"}}' for edge in edges] + [f'{{"from":"a",{edge}:1}}' for edge in edges]
    arrays = [f"[{edge}]" for edge in edges]
    kinds = compare([*edges, *inside, *members, *arrays])
    assert min(kinds["head"], kinds["refused"]) > 30


def test_depth() -> None:
    texts = []
    for depth in (1, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 500):
        for opening, closing in (("[", "]"), ('{"a":', "}"), ('{"from":', "}")):
            nested = opening * depth + "1" + closing * depth
            texts += [nested, f'{{"to":{nested}}}', f'{{"to":"x","to":{nested}}}', f'{{"a":"{"[" * 99}","b":{nested}}}']
    assert compare(texts)["refused"] > 10


@pytest.mark.parametrize("seed", range(2))
def test_messages_are_read_alike(seed: int) -> None:
    texts = MessageTexts(seed)
    assert compare(decoded([texts.message() for _ in range(2000)])).keys() == {"head"}


@pytest.mark.parametrize("seed", range(3))
def test_damaged_messages_are_judged_alike(seed: int) -> None:
    texts = MessageTexts(seed)
    kinds = compare(decoded([texts.damaged_message() for _ in range(2000)]))
    assert min(kinds["head"], kinds["refused"]) > 50


@pytest.mark.parametrize("seed", range(2))
def test_any_json_is_judged_alike(seed: int) -> None:
    texts = Texts(seed)
    kinds = compare(decoded([texts.damaged() for _ in range(2000)]))
    assert min(kinds["head"], kinds["refused"]) > 50
