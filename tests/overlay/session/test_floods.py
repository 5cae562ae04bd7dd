"""What a flood once cost: signatures, checks, room, and the handshakes of others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

import pytest

from trio_relay.overlay.session.relations import Relation, Relations
from trio_relay.wire.frame import Flag, Frame, Kind

from .insider import Insider, plain
from .primitives import CHACHA, public_ephemeral
from .reference import Open
from .sides import QUIET, UNKNOWN, Side, exchange, identity, is_open, is_plain, open_session

KEY = public_ephemeral(b"\5" * 32)
indexes = count(1)


def flood(to: Side, opens: int, names: Iterable[int] = (77,), *, relay: int | None = None) -> list[Frame]:
    """So many OPENs at once, all of them different, in those names by turns; returns the answers."""
    sources = [identity(name).id for name in names]
    payload = Open(CHACHA, KEY, bytes(16)).build()
    frames = [
        plain(sources[number % len(sources)], to.id, next(indexes).to_bytes(8, "big"), payload)
        for number in range(opens)
    ]
    return to.receive(*frames, relay=relay)


def test_a_flood_over_a_hundred_links_costs_two_hundred_signatures() -> None:
    bob = Side(2)
    relays = range(901, 1001)
    for relay in relays:
        bob.link(relay)
        flood(bob, 10, range(1001, 1011), relay=relay)
    assert bob.signatures == 200
    bob.advance(1.0)
    for relay in relays:
        flood(bob, 10, range(1001, 1011), relay=relay)
    assert bob.signatures == 300


def test_who_dials_again_gets_no_new_budget() -> None:
    bob = Side(2)
    [relay] = bob.relays
    for _ in range(20):
        bob.router.link_down(relay, "connection lost", bob.now)
        assert len(bob.router.table) == 0
        bob.link(relay)
        flood(bob, 50)
    assert bob.signatures == 8
    assert bob.count("session_rate") == 20 * 50 - 8
    assert len(flood(bob, 500, range(1000, 1500))) == 42 + 392


def test_a_loud_peer_behind_a_relay_does_not_keep_others_behind_it_from_opening() -> None:
    """It floods in its own name."""
    alice, bob = Side(1), Side(2)
    answers = flood(bob, 1000)
    passed = open_session(alice, bob)
    assert len([frame for frame in passed if is_open(frame)]) == 1
    assert bob.signatures == 8 + 1
    assert len(answers) == 8 + 8


def test_a_flood_in_many_names_behind_a_relay_costs_others_behind_it_a_cookie() -> None:
    alice, bob = Side(1), Side(2)
    flood(bob, 300, range(1000, 1300))
    passed = open_session(alice, bob)
    assert len([frame for frame in passed if is_open(frame)]) == 2
    assert bob.signatures == 50 + 1


def test_when_there_is_no_room_a_proof_is_checked_once() -> None:
    bob = Side(2, limits=replace(QUIET, sessions=1))
    Insider.opened(11, bob)
    late = Insider.half_open(12, bob)
    frame = late.frame(0, b"\0hello", box=late.box)
    answers = bob.receive(*[frame] * 5)
    assert (bob.size("session_half_open"), bob.count("sessions_full"), bob.count("session_unknown")) == (0, 1, 5)
    assert [is_plain(answer, UNKNOWN) for answer in answers] == [True] * 5
    assert bob.delivered == []


def test_the_proof_on_every_frame_makes_nobody_look_for_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer may send it for ever, and whoever awaits acknowledgements is looked through when something changed."""
    bob = Side(2)
    alice = Insider.opened(1, bob)
    changed = list[Relation]()
    monkeypatch.setattr(Relations, "changed", lambda _, relation, __: changed.append(relation))
    for number in range(1, 50):
        bob.receive(alice.frame(number, b"\0hello", box=alice.box))
    assert len(bob.delivered) == 49
    assert changed == []


def test_a_pair_that_is_active_is_not_displaced_by_our_own_openings() -> None:
    """Carol sends confirmed messages, we only acknowledge them; there is no room for Dave."""
    alice, bob = Side(1, limits=replace(QUIET, sessions=2)), Side(2)
    open_session(alice, bob)
    carol = Insider.opened(3, alice)
    for number in range(1, 120):
        for side in (alice, bob):
            side.advance(1.0)
        exchange(alice, bob, alice.send(bob.id))
        [answer] = alice.receive(carol.frame(number, b"\0hello", flags=Flag.CONFIRM))
        assert answer.kind == Kind.ACK
        assert alice.send(identity(4).id) == []
    assert len(alice.delivered) == 119
    assert alice.count("sessions_evicted") == 0


def test_a_stranger_counts_as_such_until_we_write_to_it() -> None:
    """Acknowledgements are not what our application writes."""
    alice = Side(1, limits=replace(QUIET, sessions=4))
    strangers = [Insider.opened(number, alice) for number in (11, 12, 13)]
    late = Insider.half_open(14, alice)
    [answer] = alice.receive(strangers[0].frame(1, b"\0hello", flags=Flag.CONFIRM))
    assert answer.kind == Kind.ACK
    alice.receive(late.frame(0, b"", kind=Kind.SESSION, box=late.box))
    assert not alice.router.has_session(late.id)
    assert len(alice.send(strangers[0].id)) == 1
    alice.advance(1.0)
    Insider.opened(15, alice)
    assert alice.size("session_peers") == 4


def test_renewals_leave_half_of_the_openings_to_new_peers() -> None:
    """Sessions with strangers become old, and nobody answers our OPENs."""
    alice = Side(1, limits=replace(QUIET, session_openings=6))
    strangers = [Insider.opened(number, alice) for number in range(11, 19)]
    opened, refused = set[bytes](), alice.count("session_openings_full")
    for second in range(0, 700, 20):
        frames = [stranger.frame(1 + second, b"\0hello", flags=Flag.CONFIRM) for stranger in strangers]
        left = alice.receive(*frames)
        assert len([frame for frame in left if frame.kind == Kind.ACK]) == 8
        opened |= {frame.message_id for frame in left if is_open(frame)}
        assert alice.size("session_openings") <= 3
        if second >= 660:
            assert alice.size("session_openings") == 3
            assert [is_open(frame) for frame in alice.send(identity(1000 + second).id)] == [True]
        alice.advance(20.0)
    assert len(opened) >= 3
    assert alice.count("session_openings_full") == refused == 0
