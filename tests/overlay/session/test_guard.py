"""What strangers may make a node spend: budgets for each id on a link, each link, and over all; cookies above them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.overlay.session.guard import Guard
from trio_relay.wire.ids import NodeId
from trio_relay.wire.session import NO_COOKIE, Open

from ..support import node_id
from .support import numbered

INDEX = numbered(1)
OPEN = Open(2, bytes(range(32)))
A, B = node_id(100), node_id(101)
VIA, ELSEWHERE = node_id(1), node_id(2)
LINKS = [node_id(number) for number in range(1, 41)]
strangers = count(1000)

Ask = Callable[[int], bool]


def make_guard(now: float = 0.0) -> Guard:
    secrets = count(1)
    return Guard(lambda length: numbered(next(secrets), length), now)


def allowed(ask: Ask, most: int = 6000) -> int:
    """How many of those requests pass, until the first that does not."""
    return next((number for number in range(most) if not ask(number)), most)


def opens(guard: Guard, now: float = 0.0, *, source: NodeId | None = None, links: list[NodeId] | None = None) -> Ask:
    """OPENs without a cookie, over those links in turn; each from somebody else if no source is named."""
    ways = links or [VIA]

    def ask(number: int) -> bool:
        return guard.allows(ways[number % len(ways)], source or node_id(next(strangers)), INDEX, OPEN, now)

    return ask


def shows(guard: Guard, now: float = 0.0, *, source: NodeId | None = None, links: list[NodeId] | None = None) -> Ask:
    """The same, with a cookie."""
    ways = links or [VIA]

    def ask(number: int) -> bool:
        who = source or node_id(next(strangers))
        message = with_cookie(guard, who, numbered(number), now)
        return guard.allows(ways[number % len(ways)], who, numbered(number), message, now)

    return ask


def replies(guard: Guard, now: float = 0.0, *, source: NodeId | None = None, links: list[NodeId] | None = None) -> Ask:
    """COOKIEs and UNKNOWNs."""
    ways = links or [VIA]
    return lambda number: guard.may_reply(ways[number % len(ways)], source or node_id(next(strangers)), now)


def exhaust(guard: Guard, via: NodeId = VIA, now: float = 0.0) -> None:
    """Nobody is heard over that link any more without a cookie."""
    allowed(opens(guard, now, links=[via]))
    assert not guard.allows(via, A, INDEX, OPEN, now)


def with_cookie(guard: Guard, source: NodeId = A, index: bytes = INDEX, now: float = 0.0, message: Open = OPEN) -> Open:
    return replace(message, cookie=guard.cookie(source, index, message, now))


# Without a cookie, with one, and what is sent


@pytest.mark.parametrize(("asks", "burst", "rate"), [(opens, 8, 4), (shows, 4, 2), (replies, 8, 4)])
def test_one_source_over_one_link(asks: Callable[..., Ask], burst: int, rate: int) -> None:
    guard = make_guard()
    assert allowed(asks(guard, source=A)) == burst
    assert allowed(asks(guard, 0.5, source=A)) == rate // 2
    assert allowed(asks(guard, 1.5, source=A)) == rate
    assert allowed(asks(guard, 100.0, source=A)) == burst


@pytest.mark.parametrize(("asks", "burst", "rate"), [(opens, 50, 20), (shows, 100, 50), (replies, 400, 200)])
def test_one_link(asks: Callable[..., Ask], burst: int, rate: int) -> None:
    guard = make_guard()
    assert allowed(asks(guard)) == burst
    assert allowed(asks(guard, 0.5)) == rate // 2
    assert allowed(asks(guard, 1.5)) == rate
    assert allowed(asks(guard, 100.0)) == burst


@pytest.mark.parametrize(("asks", "burst", "rate"), [(opens, 200, 100), (shows, 400, 200), (replies, 4000, 2000)])
def test_all_links(asks: Callable[..., Ask], burst: int, rate: int) -> None:
    guard = make_guard()
    assert allowed(asks(guard, links=LINKS)) == burst
    assert allowed(asks(guard, 0.5, links=LINKS)) == rate // 2
    assert allowed(asks(guard, 100.0, links=LINKS)) == burst


@pytest.mark.parametrize(("asks", "left"), [(opens, 42), (shows, 96), (replies, 392)])
def test_whoever_is_loud_takes_nothing_from_others_on_the_link(asks: Callable[..., Ask], left: int) -> None:
    """What is refused to one for his own budget costs the link nothing."""
    guard = make_guard()
    loud = asks(guard, source=A)
    for number in range(1000):
        loud(number)
    assert allowed(asks(guard)) == left


@pytest.mark.parametrize(("asks", "burst"), [(opens, 8), (shows, 4), (replies, 8)])
def test_who_speaks_in_anothers_name_takes_nothing_from_him_over_other_links(
    asks: Callable[..., Ask], burst: int
) -> None:
    """`from` is not proven."""
    guard = make_guard()
    forged = asks(guard, source=A)
    for number in range(1000):
        forged(number)
    assert allowed(asks(guard, source=A, links=[ELSEWHERE])) == burst


@pytest.mark.parametrize(("asks", "burst"), [(opens, 50), (shows, 100), (replies, 400)])
def test_links_do_not_take_from_each_other(asks: Callable[..., Ask], burst: int) -> None:
    guard = make_guard()
    loud = asks(guard)
    for number in range(2000):
        loud(number)
    assert allowed(asks(guard, links=[ELSEWHERE])) == burst


def test_what_is_spent_without_a_cookie_and_with_one_and_on_answers_are_three_things() -> None:
    guard = make_guard()
    assert allowed(opens(guard, links=LINKS)) == 200
    assert allowed(replies(guard, links=LINKS)) == 4000
    assert allowed(shows(guard, links=LINKS)) == 400


# Cookies


def test_a_cookie_is_heard_above_the_budget() -> None:
    guard = make_guard()
    exhaust(guard)
    opened = with_cookie(guard)
    assert opened.cookie != NO_COOKIE
    assert guard.allows(VIA, A, INDEX, opened, 0.0)


@given(st.integers(0, 15), st.integers(1, 255))
def test_a_wrong_cookie_is_none(position: int, mask: int) -> None:
    guard = make_guard()
    exhaust(guard)
    cookie = bytearray(guard.cookie(A, INDEX, OPEN, 0.0))
    cookie[position] ^= mask
    assert not guard.allows(VIA, A, INDEX, replace(OPEN, cookie=bytes(cookie)), 0.0)


def test_who_shows_a_wrong_cookie_has_the_budget_of_those_without() -> None:
    guard = make_guard()
    wrong = replace(OPEN, cookie=b"\xff" * 16)
    assert allowed(lambda _: guard.allows(VIA, A, INDEX, wrong, 0.0)) == 8
    assert allowed(opens(guard)) == 42


@pytest.mark.parametrize(
    ("source", "index", "message"),
    [
        (B, INDEX, OPEN),
        (A, numbered(2), OPEN),
        (A, INDEX, replace(OPEN, ciphers=3)),
        (A, INDEX, replace(OPEN, ephemeral=bytes(32))),
        (A, INDEX, replace(OPEN, kem_key=bytes(1184))),
    ],
    ids=["from", "message id", "ciphers", "ephemeral key", "KEM key"],
)
def test_a_cookie_is_for_one_open(source: NodeId, index: bytes, message: Open) -> None:
    guard = make_guard()
    exhaust(guard)
    cookie = guard.cookie(A, INDEX, OPEN, 0.0)
    assert not guard.allows(VIA, source, index, replace(message, cookie=cookie), 0.0)
    assert guard.allows(VIA, A, INDEX, replace(OPEN, cookie=cookie), 0.0)


def test_a_cookie_does_not_depend_on_the_cookie_that_came() -> None:
    guard = make_guard()
    wrong = replace(OPEN, cookie=b"\xff" * 16)
    assert guard.cookie(A, INDEX, wrong, 0.0) == guard.cookie(A, INDEX, OPEN, 0.0)


def test_cookies_of_another_node_are_wrong() -> None:
    one = Guard(lambda length: bytes(length), 0.0)
    other = Guard(lambda length: b"\1" * length, 0.0)
    exhaust(one)
    assert not one.allows(VIA, A, INDEX, with_cookie(other), 0.0)


def test_a_cookie_is_good_for_a_minute_or_two() -> None:
    guard = make_guard()
    opened = with_cookie(guard, now=59.0)
    for now, good in [(59.0, True), (60.0, True), (119.0, True), (120.0, False), (121.0, False), (400.0, False)]:
        with_cookie(guard, B, now=now)  # Other cookies are asked for all the time.
        exhaust(guard, VIA, now)
        assert guard.allows(VIA, A, INDEX, opened, now) is good, now


def test_secrets_change_every_minute() -> None:
    guard = make_guard()
    cookies = [guard.cookie(A, INDEX, OPEN, now) for now in (0.0, 59.9, 60.0, 119.9, 120.0, 180.0)]
    assert cookies[0] == cookies[1]
    assert cookies[2] == cookies[3]
    assert len(set(cookies)) == 4


@pytest.mark.parametrize("later", [120.0, 121.0, 1000.0])
def test_after_a_pause_the_secret_before_is_not_good_any_more(later: float) -> None:
    """Nobody asked for a cookie in the meantime, so that nothing changed the secret."""
    guard = make_guard()
    opened = with_cookie(guard)
    exhaust(guard, VIA, later)
    assert not guard.allows(VIA, A, INDEX, opened, later)
