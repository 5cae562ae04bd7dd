"""What was said once, said again by a relay that keeps everything: to the same node, a restarted one, another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trio_relay.wire.frame import Flag, Frame, Kind

from .insider import Insider
from .sides import ACCEPT, UNKNOWN, Side, exchange, is_open, is_plain, open_session

WINDOW = 8192


def sealed(frames: list[Frame], kind: int | None = None) -> list[Frame]:
    return [frame for frame in frames if frame.flags & Flag.SEALED and kind in (None, frame.kind)]


def recorded(alice: Side, bob: Side) -> list[Frame]:
    """A conversation in both directions, from OPEN on."""
    passed = open_session(alice, bob)
    for number in range(3):
        passed += exchange(alice, bob, alice.send(bob.id, b"from alice %d" % number))
        passed += exchange(alice, bob, bob.send(alice.id, b"from bob %d" % number))
        passed += exchange(alice, bob, alice.deliver(bob.id, b"confirmed %d" % number)[1])
    assert len(bob.delivered) == 7
    assert len(alice.delivered) == 3
    return passed


def test_a_whole_conversation_to_the_same_nodes() -> None:
    """Nothing is delivered again, and no session is made; a confirmed message is acknowledged again."""
    alice, bob = Side(1), Side(2)
    passed = recorded(alice, bob)
    before = len(alice.delivered), len(bob.delivered), alice.size("sessions"), bob.size("sessions"), bob.signatures
    ids = {frame.message_id for frame in passed}
    answers = [answer for frame in passed for answer in (alice if frame.to == alice.id else bob).receive(frame)]
    after = len(alice.delivered), len(bob.delivered), alice.size("sessions"), bob.size("sessions"), bob.signatures
    assert after == before
    assert [(answer.kind, answer.message_id in ids) for answer in answers] == [(Kind.ACK, True)] * 3
    assert bob.count("session_late") == 1
    assert bob.count("seal_replayed") == len(sealed(passed)) - 3 - alice.count("seal_replayed")


def test_a_whole_conversation_to_nodes_that_restarted() -> None:
    """They sign an answer to the OPEN, and take nothing else for anything."""
    passed = recorded(Side(1), Side(2))
    alice, bob = Side(1, incarnation=1), Side(2, incarnation=1)
    answers = [answer for frame in passed for answer in (alice if frame.to == alice.id else bob).receive(frame)]
    assert alice.delivered == bob.delivered == []
    assert alice.size("sessions") == bob.size("sessions") == 0
    assert not alice.router.has_session(bob.id)
    assert not bob.router.has_session(alice.id)
    assert (alice.signatures, bob.signatures) == (0, 1)
    assert len([answer for answer in answers if is_plain(answer, ACCEPT)]) == 1
    assert len([answer for answer in answers if is_plain(answer, UNKNOWN)]) == len(sealed(passed))
    # And the half-open session of the old OPEN is forgotten.
    bob.advance(10.0)
    assert bob.size("session_half_open") == 0


def test_old_frames_under_the_index_of_a_new_session() -> None:
    """Mallory knows the index that Bob's new process gave to the replayed OPEN, and writes it into the old frames."""
    passed = recorded(Side(1), Side(2))
    bob = Side(2, incarnation=1)
    [accept] = [answer for answer in bob.receive(passed[0]) if is_plain(answer, ACCEPT)]
    index = accept.payload[2:10]
    for frame in sealed(passed):
        if frame.to == bob.id:
            bob.receive(replace(frame, payload=index + frame.payload[8:]))
    assert bob.delivered == []
    assert bob.size("sessions") == 0
    assert bob.count("session_proof") >= 1


def test_an_old_answer_to_a_new_opening() -> None:
    """Alice restarts and opens again; Mallory gives her Bob's recorded ACCEPT under the new message id."""
    passed = recorded(Side(1), Side(2))
    [old] = [frame for frame in passed if is_plain(frame, ACCEPT)]
    alice = Side(1, incarnation=1)
    [opened] = alice.send(old.source)
    assert is_open(opened)
    assert alice.receive(old, replace(old, message_id=opened.message_id)) == []
    assert alice.size("sessions") == 0
    assert alice.count("session_proof") == alice.count("answers_to_nothing") == 1


def test_frames_of_one_session_in_another_of_the_same_two() -> None:
    """Bob has two sessions with Alice, who restarted; frames of the first do not open under the index of the second."""
    alice, bob = Side(1), Side(2)
    first = sealed(open_session(alice, bob))
    again = Side(1, incarnation=1, now=bob.now)
    second = sealed(open_session(again, bob))
    assert bob.size("sessions") == 2
    delivered = len(bob.delivered)
    frame, other = (next(f for f in frames if f.kind == Kind.DATA) for frames in (first, second))
    bob.receive(replace(frame, payload=other.payload[:8] + frame.payload[8:]))
    bob.receive(replace(frame, payload=other.payload[:128] + frame.payload[128:]))
    assert bob.count("seal_broken") == 2
    assert len(bob.delivered) == delivered


def test_frames_to_somebody_else() -> None:
    """Mallory gives Bob's frames to Carol, with whom Alice has a session too, by header, and by header and index."""
    alice, bob, carol = Side(1), Side(2), Side(3)
    to_bob = sealed(open_session(alice, bob))
    to_carol = sealed(open_session(alice, carol))
    before = len(carol.delivered)
    for frame in [frame for frame in to_bob if frame.to == bob.id]:
        carol.receive(replace(frame, to=carol.id))
        carol.receive(replace(frame, to=carol.id, payload=to_carol[0].payload[:8] + frame.payload[8:]))
    assert len(carol.delivered) == before
    assert carol.count("seal_broken") == carol.count("session_unknown") == len([f for f in to_bob if f.to == bob.id])


def test_a_frame_of_one_peer_in_the_name_of_another() -> None:
    """Mallory, who has a session with Bob, seals in it a message in Alice's name, whom Bob knows too."""
    alice, bob, mallory = Side(1), Side(2), Side(3)
    open_session(alice, bob)
    open_session(mallory, bob)
    before = list(bob.delivered)
    [frame] = mallory.send(bob.id, b"I am Alice")
    bob.receive(replace(frame, source=alice.id))
    assert bob.count("seal_broken") == 1
    assert bob.delivered == before
    bob.receive(frame)
    assert bob.delivered == [*before, (mallory.id, b"I am Alice", True)]


def test_the_name_is_looked_at_even_when_it_is_sealed_so() -> None:
    """Mallory has her own keys: she seals Alice's name into the additional data, so that the frame does open."""
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    mallory = Insider.opened(3, bob)
    before = list(bob.delivered)
    bob.receive(mallory.frame(1, b"\0I am Alice", source=alice.id))
    assert bob.count("seal_broken") == 1
    assert bob.delivered == before
    # Had she sealed her own name, the same content would have come.
    bob.receive(mallory.frame(2, b"\0I am Alice"))
    assert bob.delivered == [*before, (mallory.id, b"I am Alice", True)]


def test_a_first_frame_in_the_name_of_another() -> None:
    """The same with the frame that carries the proof, while the session is half open."""
    alice, bob, mallory = Side(1), Side(2), Side(3)
    [opened] = mallory.send(bob.id)
    [accept] = bob.receive(opened)
    first = mallory.receive(accept)
    assert all(frame.flags & Flag.OPENING for frame in first)
    bob.receive(*[replace(frame, source=alice.id) for frame in first])
    assert bob.size("sessions") == 0
    assert bob.size("session_half_open") == 1
    assert bob.delivered == []
    bob.receive(*first)
    assert [sender for sender, _, _ in bob.delivered] == [mallory.id]


@pytest.mark.parametrize("what", ["kind", "flags", "message_id", "source", "to"])
def test_a_header_changed_on_the_way(what: str) -> None:
    """Mallory makes an acknowledgement of a message, one that wants no answer of one that does, another message of an
    old one, a message of somebody else's, or one to somebody else; what relays may change, she may change too."""
    alice, bob, carol = Side(1), Side(2), Side(3)
    open_session(alice, bob)
    open_session(carol, bob)
    before = list(bob.delivered)
    [frame] = alice.deliver(bob.id)[1]
    changed: dict[str, Frame] = {
        "kind": replace(frame, kind=Kind.ACK),
        "flags": replace(frame, flags=Flag.SEALED),
        "message_id": replace(frame, message_id=b"message2"),
        "source": replace(frame, source=carol.id),
        "to": replace(frame, to=carol.id),
    }
    receiver = carol if what == "to" else bob
    answers = receiver.receive(changed[what])
    assert receiver.count("seal_broken") + receiver.count("session_unknown") == 1
    assert [is_plain(answer, UNKNOWN) for answer in answers] == ([True] if what == "to" else [])
    assert bob.delivered == before
    assert carol.delivered == []
    [answer] = bob.receive(replace(frame, hop_limit=3, attempt=7, detours=0))
    assert answer.kind == Kind.ACK
    assert bob.delivered == [*before, (alice.id, b"hello", True)]


# Within a session


@pytest.mark.parametrize("confirmed", [False, True])
def test_every_frame_again_and_backwards(confirmed: bool) -> None:
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    frames = [
        frame
        for number in range(50)
        for frame in (alice.deliver(bob.id, b"%d" % number)[1] if confirmed else alice.send(bob.id, b"%d" % number))
    ]
    bob.receive(*reversed(frames))
    assert [data for _, data, _ in bob.delivered[1:]] == [b"%d" % number for number in reversed(range(50))]
    answers = bob.receive(*frames, *reversed(frames))
    assert len(bob.delivered) == 51
    assert len([answer for answer in answers if answer.kind == Kind.ACK]) == (100 if confirmed else 0)
    assert bob.count("duplicates" if confirmed else "seal_replayed") == 100


@pytest.mark.parametrize("highest", [WINDOW, WINDOW + 1, 3 * WINDOW + 500, 2**22 - 1])
def test_the_edges_of_the_window(highest: int) -> None:
    """A datagram that comes 8,191 behind the newest is taken; one that comes 8,192 behind is a copy, come or not."""
    bob = Side(2)
    alice = Insider.opened(1, bob)
    newest, just, late = (
        alice.frame(highest - behind, b"\0%d behind" % behind, message_id=b"%8d" % behind)
        for behind in (0, WINDOW - 1, WINDOW)
    )
    bob.receive(newest, late, just, just, newest, late)
    assert [data for _, data, _ in bob.delivered] == [b"0 behind", b"8191 behind"]
    assert bob.count("seal_replayed") == 4


def test_a_frame_that_does_not_open_does_not_move_the_window() -> None:
    """Mallory sends Bob a frame of Alice with a counter far ahead, so that he takes what Alice says for old."""
    bob = Side(2)
    alice = Insider.opened(1, bob)
    frame = alice.frame(1, b"\0hello")
    bob.receive(frame[:64] + (2**40).to_bytes(8, "big") + frame[72:], frame)
    assert bob.count("seal_broken") == 1
    assert len(bob.delivered) == 1


def test_a_changed_counter_is_not_another_message() -> None:
    """Mallory repeats a frame with every other counter that she likes."""
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    [frame] = alice.send(bob.id)
    before = len(bob.delivered)
    for counter in (0, 5, 100, WINDOW, 2**22, 2**64 - 1):
        payload = frame.payload[:8] + counter.to_bytes(8, "big") + frame.payload[16:]
        bob.receive(replace(frame, payload=payload))
    assert bob.count("seal_broken") == 6
    bob.receive(frame)
    assert len(bob.delivered) == before + 1
