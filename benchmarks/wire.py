"""The codecs alone: frames, WebSocket, JSON, original envelopes, session messages; pure, on one core."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Final

from trio_relay.wire.body import User
from trio_relay.wire.content import decode_content_untrusted, encode_content
from trio_relay.wire.envelope import build_envelope, make_envelope, parse_envelope_untrusted
from trio_relay.wire.frame import Kind, build_frame, parse_frames_untrusted
from trio_relay.wire.ids import NodeId
from trio_relay.wire.json import JSONValue
from trio_relay.wire.session import Accept, Cipher, Open, build_accept, build_open, parse_session_message_untrusted

from .codecs import CODECS, Codec
from .report import Case, Options, Report, Sample, measure

__all__ = ["run"]

_SHARE: Final = 0.1
"""Of the length of a run: there are many cases, and nothing in them but one loop."""
_BATCH: Final = 64
"""Frames of one read, and calls between two looks at the clock."""
_OURS: Final = "trio_relay"

Work = Callable[[], int]
"""Handles some frames; returns how many came out right."""


def run(report: Report, options: Options) -> None:
    """One table for each size, then what does not depend on a size; at last the WebSocket codecs side by side."""
    seconds = options.seconds * _SHARE
    codecs = CODECS if options.rivals else {_OURS: CODECS[_OURS]}
    if options.rivals and "websockets" not in codecs:
        report.note("wire: without the codec of websockets, which is not installed")
    for size in options.sizes:
        works = {**_frames(size), **_contents(size), **_envelopes(size)}
        cases = [Case(name, partial(_time, work, seconds)) for name, work in works.items()]
        report.table(f"wire, {size:,} B of payload", measure(cases, options.repeat))
    works = _session_messages()
    cases = [Case(name, partial(_time, work, seconds)) for name, work in works.items()]
    report.table("wire, session messages", measure(cases, options.repeat))
    for size in options.sizes:
        _compare_codecs(report, options, size, codecs)


def _compare_codecs(report: Report, options: Options, size: int, codecs: dict[str, Callable[[bool], Codec]]) -> None:
    seconds = options.seconds * _SHARE
    works = {f"{what}, {name}": work for name, make in codecs.items() for what, work in _websocket(make, size).items()}
    cases = [Case(name, partial(_time, works[name], seconds)) for name in sorted(works)]
    samples = measure(cases, options.repeat)
    title = f"WebSocket, {size:,} B of payload"
    report.table(title, samples)
    what = sorted({name.rpartition(", ")[0] for name in works})
    pairs = [(f"{each}, {_OURS}", f"{each}, {rival}") for each in what for rival in codecs if rival != _OURS]
    if pairs:
        report.ratio(title, "frames/s", samples, pairs)


def _time(work: Work, seconds: float) -> Sample:
    spent, done, right = 0.0, 0, 0
    while spent < seconds:
        start = time.thread_time()
        right += work()
        spent += time.thread_time() - start
        done += _BATCH
    return Sample({"frames/s": done / spent, "us/frame": spent / done * 1e6}, done, done - right)


def _each(call: Callable[[], object]) -> Work:
    """Calls it `_BATCH` times; what it returns is looked at once, by who made it."""

    def work() -> int:
        for _ in range(_BATCH):
            call()
        return _BATCH

    return work


def _checked(call: Callable[[], object], expected: object) -> Work:
    """The same, after one call whose result is compared."""
    if call() != expected:
        raise AssertionError(f"expected {expected!r:.80} of {call!r}")
    return _each(call)


def _id() -> NodeId:
    return NodeId(os.urandom(20))


def _frames(size: int) -> dict[str, Work]:
    """Building a frame, and reading a message with one frame and one with many."""
    payload, to, source, message_id = os.urandom(size), _id(), _id(), os.urandom(8)
    frame = build_frame(Kind.DATA, to, source, message_id, payload)
    most = min(_BATCH, max(64 * 1024 // len(frame), 1))
    joined = frame * most

    def parse_joined() -> int:
        done = 0
        while done < _BATCH:
            done += len(parse_frames_untrusted(joined[: (_BATCH - done) * len(frame)]))
        return done

    return {
        "frame: build": _checked(lambda: build_frame(Kind.DATA, to, source, message_id, payload), frame),
        "frame: parse": _checked(lambda: parse_frames_untrusted(frame)[0].payload, payload),
        f"frame: parse, {most} in a message": parse_joined,
    }


def _contents(size: int) -> dict[str, Work]:
    """What an application sends: bytes, and a JSON value whose text is about that long."""
    data = os.urandom(size)
    value = _json_value(size)
    encoded, text = encode_content(data), encode_content(value)
    return {
        "content, bytes: encode": _checked(lambda: encode_content(data), encoded),
        "content, bytes: decode": _checked(lambda: decode_content_untrusted(encoded), data),
        "content, JSON: encode": _checked(lambda: encode_content(value), text),
        "content, JSON: decode": _checked(lambda: decode_content_untrusted(text), value),
    }


def _json_value(size: int) -> dict[str, JSONValue]:
    """Some fields, and as many short records as the size allows."""
    head: dict[str, JSONValue] = {"type": "note", "number": 12345, "ratio": 0.25, "flag": True, "none": None}
    record: JSONValue = {"name": "somebody", "score": 17, "tags": ["one", "two"]}
    room = size - len(encode_content(head)) - len('"list":[]')
    return head | {"list": [record] * max(room // len(encode_content(record)), 0)}


def _envelopes(size: int) -> dict[str, Work]:
    """The original's envelope around a string, after one hop."""
    source, hop = _id(), _id()
    text = base64.b64encode(os.urandom(size)).decode()[:size]
    envelope = make_envelope(User(text), to=_id(), source=source, nonce="123456789012345", path=(source, hop))
    encoded = build_envelope(envelope)
    return {
        "original's envelope: build": _checked(lambda: build_envelope(envelope), encoded),
        "original's envelope: parse": _checked(lambda: parse_envelope_untrusted(encoded), envelope),
    }


def _session_messages() -> dict[str, Work]:
    """The two large messages that open a session, with ML-KEM-768."""
    first = Open(Cipher.AES_256_GCM | Cipher.CHACHA20_POLY1305, os.urandom(32), os.urandom(1184))
    answer = Accept(Cipher.AES_256_GCM, os.urandom(8), os.urandom(32), os.urandom(1088), os.urandom(112))
    opening, accepting = build_open(first), build_accept(answer)
    return {
        "session, OPEN: build": _checked(lambda: build_open(first), opening),
        "session, OPEN: parse": _checked(lambda: parse_session_message_untrusted(opening), first),
        "session, ACCEPT: build": _checked(lambda: build_accept(answer), accepting),
        "session, ACCEPT: parse": _checked(lambda: parse_session_message_untrusted(accepting), answer),
    }


def _websocket(make: Callable[[bool], Codec], size: int) -> dict[str, Work]:
    """A client masks, a server does not; reads hold one message or many."""
    payload = os.urandom(size)
    works: dict[str, Work] = {}
    for masked in (True, False):
        kind = "masked" if masked else "plain"
        sender = make(masked)
        one = make(masked).encode(payload)
        most = min(_BATCH, max(64 * 1024 // len(one), 1))
        works[f"encode {kind}"] = _each(partial(sender.encode, payload))
        # The sender's opposite reads.
        works[f"decode {kind}, 1 a read"] = _decode(make(not masked), [one] * _BATCH, size)
        if most > 1:
            reads = [one * most] * (_BATCH // most) + [one * (_BATCH % most)] * (_BATCH % most > 0)
            works[f"decode {kind}, {most} a read"] = _decode(make(not masked), reads, size)
    return works


def _decode(codec: Codec, reads: Sequence[bytes], size: int) -> Work:
    turns: Iterator[bytes] = cycle(reads)
    count = len(reads)

    def work() -> int:
        right = 0
        for _ in range(count):
            for message in codec.decode(next(turns)):
                right += len(message) == size
        return right

    return work
