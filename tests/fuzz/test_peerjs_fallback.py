"""What the other side of a lasting connection, and whatever is on the way to it, may send."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from tests.peerjs.fallback.support import secret_of
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerjs.fallback.frames import Ack, Flag, Fragment, Frame, Hello, Reset, encode_frame
from trio_relay.peerjs.fallback.frames import parse_frames_untrusted as parse
from trio_relay.peerjs.fallback.rules import OVERHEAD, SessionRules
from trio_relay.peerjs.fallback.sealing import SealedCarriage
from trio_relay.peerjs.fallback.session import CARRIER_MESSAGE, ResumableSession

RULES: Final = SessionRules()

small = st.integers(0, 4)
numbers = small | st.sampled_from([2**31, 2**63, 2**64 - 1])
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Hello, small | st.just(2**32 - 1), numbers, numbers | st.just(RULES.window)),
    st.builds(Ack, numbers, numbers | st.just(RULES.window)),
    st.builds(
        Fragment,
        st.sampled_from([0, Flag.MORE, Flag.TEXT, Flag.MORE | Flag.TEXT, Flag.END]),
        numbers,
        st.sampled_from([b"", b"x", b"\xff", b"\xc3\xa9", bytes(RULES.min_fragment)]),
    ),
    st.just(Reset()),
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Some frames, and sometimes a part of them cut out or replaced."""
    data = b"".join(map(encode_frame, draw(st.lists(frames, max_size=4))))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(st.binary(max_size=3)) + data[start + draw(st.sampled_from([0, 1, 8])) :]
    return data


@given(messages() | st.binary(max_size=60))
def test_frames(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert b"".join(map(encode_frame, parse(data))) == data


@given(small, st.lists(messages() | st.integers(0, 3), max_size=8))
def test_a_session(round_: int, steps: list[bytes | int]) -> None:
    """What it holds for the other side is never more than it granted; what it says can be read."""
    session = ResumableSession(RULES)
    session.attach(round_)
    session.send(b"to be acknowledged")
    for step in steps:
        if isinstance(step, bytes):
            try:
                session.feed(step)
            except RemoteProtocolError:
                return
        elif step == 0:
            parse(session.produce(CARRIER_MESSAGE))
        elif step == 1:
            session.take()
        elif step == 2 and session.has_room:
            session.send("more")
        elif step == 3:
            session.attach(session.round + 1)
        assert 0 <= session.held <= RULES.window
        assert session.kept <= RULES.send_buffer + RULES.max_message + OVERHEAD
        assert session.unsent >= 0


@given(
    st.sampled_from([0, 8]),
    st.lists(st.tuples(st.integers(0, 9), st.none() | st.tuples(st.integers(0, 40), st.integers(1, 255))), max_size=12),
    st.lists(st.binary(max_size=40), max_size=2),
)
def test_a_carriage_opens_what_was_sealed_or_nothing(
    reorder: int, deliveries: list[tuple[int, tuple[int, int] | None]], noise: list[bytes]
) -> None:
    """Records come in any order, often, changed, or made by a stranger: what is opened is a beginning of what was
    sealed, in its order."""
    counts = Counter[str]()
    sender = SealedCarriage(secret_of("originator"), "overlay", b"s" * 16, counts=counts)
    receiver = SealedCarriage(secret_of("answerer"), "overlay", b"r" * 16, counts=counts, reorder=reorder)
    sender.open(receiver.greeting)
    sealed = [b"%d" % number * number for number in range(9)]
    wire = [sender.greeting, *map(sender.seal, sealed)]
    opened = list[bytes]()
    changed = False
    with suppress(RemoteProtocolError):
        for number, change in [(0, None), *deliveries]:
            message = wire[number]
            if change is not None:
                at, mask = change[0] % len(message), change[1]
                message = message[:at] + bytes([message[at] ^ mask]) + message[at + 1 :]
                changed = True
            opened += receiver.open(message)
        for message in noise:
            opened += receiver.open(message)
    assert opened == sealed[: len(opened)]
    in_order = [number for number, _ in deliveries] == list(range(1, len(deliveries) + 1))
    if in_order and not changed:
        assert len(opened) == len(deliveries)
