"""Packets of a channel, whatever they are, against a model that is as simple as can be."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerix.packets.transfer import (
    PayloadType,
    Piece,
    ReceiverAbort,
    SenderAbort,
    TransferPacket,
    encode_piece,
    encode_receiver_abort,
    encode_sender_abort,
    parse_transfer_untrusted,
)
from trio_relay.peerix.transfers.assembly import Answer, Assembly, Began, Came, Completed, Event, Failed

MOST: Final = 2
IDLE: Final = 30.0
TEXT: Final = PayloadType.TEXT

Step = Piece | SenderAbort | ReceiverAbort | int | float
"""A packet; a message that is cancelled here (the so-many-th); seconds that pass."""


def pieces(ids: st.SearchStrategy[int]) -> st.SearchStrategy[Piece]:
    first = st.builds(Piece, ids, st.just(0), st.binary(max_size=3), st.booleans(), st.just(TEXT), st.none())
    later = st.builds(Piece, ids, st.integers(0, 3), st.binary(max_size=3), st.booleans())
    return first | later


IDS: Final = st.integers(1, 3)
STEPS: Final = st.lists(
    pieces(IDS)
    | st.builds(SenderAbort, IDS)
    | st.builds(ReceiverAbort, IDS)
    | st.integers(0, 5)
    | st.sampled_from([1.0, 15.0, 40.0]),
    max_size=40,
)


@dataclass
class Story:
    """One message, and how it ended."""

    id: int
    chunks: list[bytes] = field(default_factory=list)
    pieces: int = 0
    end: str = ""
    late: float = 0.0


class Model:
    """Every message there ever was, and no table: whatever is asked is found by looking through all of them."""

    def __init__(self) -> None:
        self.stories: list[Story] = []
        self.told: list[bytes] = []
        self.now = 0.0

    def live(self) -> list[Story]:
        return [story for story in self.stories if not story.end]

    def find(self, id: int) -> Story | None:
        return next((story for story in self.live() if story.id == id), None)

    def take(self, piece: Piece) -> None:
        story = self.find(piece.id)
        if piece.type is not None:
            if story is not None:
                story.end = "aborted-by-sender"
            if len(self.live()) == MOST:
                self.told.append(encode_receiver_abort(piece.id))
                return
            story = Story(piece.id)
            self.stories.append(story)
        elif story is None:
            return
        if story.pieces != piece.index:
            story.end = "out-of-order"
            self.told.append(encode_receiver_abort(piece.id))
            return
        story.pieces += 1
        story.late = self.now + IDLE
        story.chunks.append(piece.chunk)
        if piece.done:
            story.end = "complete"

    def abort(self, id: int) -> None:
        if (story := self.find(id)) is not None:
            story.end = "aborted-by-sender"

    def cancel(self, number: int) -> None:
        if number < len(self.stories) and not self.stories[number].end:
            self.stories[number].end = "cancelled"
            self.told.append(encode_receiver_abort(self.stories[number].id))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for story in self.live():
            if story.late <= self.now:
                story.end = "timeout"
                self.told.append(encode_receiver_abort(story.id))


class Subject:
    """The real one, whose events are told as the model's stories."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.assembly = Assembly(MOST, IDLE, self.counts)
        self.stories: dict[int, Story] = {}
        self.told: list[bytes] = []

    def note(self, events: list[Event], id: int = 0) -> None:
        for event in events:
            if isinstance(event, Answer):
                self.told.append(event.packet)
            elif isinstance(event, Began):
                assert event.key not in self.stories
                self.stories[event.key] = Story(id)
            else:
                story = self.stories[event.key]
                assert not story.end, "an event after the end"
                if isinstance(event, Came):
                    assert event.chunk
                    story.chunks.append(event.chunk)
                elif isinstance(event, Completed):
                    assert event.id == story.id
                    story.end = "complete"
                else:
                    assert isinstance(event, Failed)
                    assert event.message
                    story.end = event.reason


def run(steps: list[Step]) -> tuple[Model, Subject]:
    model, subject = Model(), Subject()
    for step in steps:
        if isinstance(step, Piece):
            model.take(step)
            subject.note(subject.assembly.on_piece(step, model.now), step.id)
        elif isinstance(step, SenderAbort):
            model.abort(step.id)
            subject.note(subject.assembly.on_sender_abort(step.id))
        elif isinstance(step, ReceiverAbort):
            known = model.find(step.id) is not None
            for_ours, events = subject.assembly.on_receiver_abort(step.id, ours=False, now=model.now)
            subject.note(events)
            assert not (for_ours and known)
            if not subject.counts.pop("transfer_echoes", 0):
                model.abort(step.id)
        elif isinstance(step, float):
            model.wait(step)
            due = subject.assembly.expires <= model.now
            events = subject.assembly.expire(model.now)
            assert due == bool(events)
            subject.note(events)
        else:
            model.cancel(step)
            if step < len(subject.stories):
                key = list(subject.stories)[step]
                subject.note(subject.assembly.abort(key))
                subject.stories[key].end = subject.stories[key].end or "cancelled"
        assert len(subject.assembly) == len(model.live()) <= MOST
    return model, subject


@settings(max_examples=80)
@given(STEPS)
def test_as_the_model(steps: list[Step]) -> None:
    model, subject = run(steps)
    assert [(story.id, b"".join(story.chunks), story.end) for story in subject.stories.values()] == [
        (story.id, b"".join(story.chunks), story.end) for story in model.stories
    ]
    assert sorted(subject.told) == sorted(model.told)
    subject.note(subject.assembly.end())
    assert all(story.end for story in subject.stories.values())
    assert len(subject.assembly) == 0


OTHERS: Final = st.lists(
    st.none() | st.binary(max_size=40) | pieces(IDS) | st.builds(SenderAbort, IDS) | st.builds(ReceiverAbort, IDS)
)


@settings(max_examples=40)
@given(OTHERS)
def test_a_good_transfer_among_anything(others: list[bytes | Piece | SenderAbort | ReceiverAbort | None]) -> None:
    """Any bytes, and any packets with other numbers, change nothing for one that keeps to the rules."""
    subject = Subject()
    index = 0

    def go_on(*, last: bool = False) -> None:
        nonlocal index
        packet = encode_piece(900, index, b"p%d" % index, done=last, type=None if index else TEXT)
        take(subject, parse_transfer_untrusted(packet))
        index += 1

    go_on()
    for other in others:
        if other is None:
            go_on()
        elif not isinstance(other, bytes):
            take(subject, other)
        else:
            with suppress(RemoteProtocolError):
                packet = parse_transfer_untrusted(other)
                if packet is not None and packet.id != 900:
                    take(subject, packet)
    go_on(last=True)
    story = next(story for story in subject.stories.values() if story.id == 900)
    assert (story.chunks, story.end) == ([b"p%d" % number for number in range(index)], "complete")


def take(subject: Subject, packet: TransferPacket | None) -> None:
    if isinstance(packet, Piece):
        subject.note(subject.assembly.on_piece(packet, 0.0), packet.id)
    elif isinstance(packet, SenderAbort):
        subject.note(subject.assembly.on_sender_abort(packet.id))
    elif isinstance(packet, ReceiverAbort):
        subject.note(subject.assembly.on_receiver_abort(packet.id, ours=True, now=0.0)[1])


def test_a_number_that_is_used_again() -> None:
    subject = Subject()
    for chunk in (b"old", b"new"):
        subject.note(subject.assembly.on_piece(Piece(1, 0, chunk, False, TEXT), 0.0), 1)
    subject.note(subject.assembly.on_piece(Piece(1, 1, b"!", True), 0.0))
    old, new = subject.stories.values()
    assert (old.end, new.end, new.chunks) == ("aborted-by-sender", "complete", [b"new", b"!"])
    assert subject.counts == {"transfer_ids_reused": 1}


@pytest.mark.parametrize("pause", [9.0, 10.0])
def test_doubt_ends_by_a_piece(pause: float) -> None:
    subject = Subject()
    subject.note(subject.assembly.on_piece(Piece(1, 0, b"x", False, TEXT), 0.0), 1)
    assert subject.assembly.on_receiver_abort(1, ours=True, now=0.0) == (True, [])
    subject.note(subject.assembly.expire(pause))
    subject.note(subject.assembly.on_piece(Piece(1, 1, b"y", True), pause))
    assert subject.stories[1].end == ("complete" if pause < 10 else "timeout")


def test_time_in_which_nothing_was_taken_does_not_count() -> None:
    subject = Subject()
    subject.note(subject.assembly.on_piece(Piece(1, 0, b"x", False, TEXT), 0.0), 1)
    subject.assembly.on_resumed(100.0)
    assert subject.assembly.expire(120.0) == []
    assert subject.assembly.expires == 130.0


def test_what_is_remembered_of_aborts_is_bounded() -> None:
    subject = Subject()
    for id in range(1, 2000):
        subject.note(subject.assembly.on_piece(Piece(id, 0, b"x", False, TEXT), 0.0), id)
        subject.note(subject.assembly.abort(id))
    assert len(subject.assembly._aborted) == 256
    assert subject.assembly.abort(1) == []


def test_the_answer_to_an_abort_is_not_counted() -> None:
    subject = Subject()
    subject.note(subject.assembly.on_piece(Piece(1, 0, b"x", False, TEXT), 0.0), 1)
    subject.note(subject.assembly.abort(1))
    packet = parse_transfer_untrusted(encode_sender_abort(1))
    assert packet is not None
    assert subject.assembly.on_sender_abort(packet.id) == []
    assert subject.counts == {}
