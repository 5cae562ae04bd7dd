"""What strangers may make a node spend: budgets for each link, cookies above them, budgets for those too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.overlay.session.guard import Guard
from trio_relay.overlay.table import Neighbour
from trio_relay.wire.session import NO_COOKIE, Open

from ..support import make_neighbour, node_id
from .support import numbered

INDEX = numbered(1)
OPEN = Open(2, bytes(range(32)))
A, B = node_id(100), node_id(101)


def make_guard(now: float = 0.0) -> Guard:
    secrets = count(1)
    return Guard(lambda length: numbered(next(secrets), length), now)


def allowed(guard: Guard, ask: Callable[[int], bool], most: int = 2000) -> int:
    """How many of those requests pass, until the first that does not."""
    return next((number for number in range(most) if not ask(number)), most)


def exhaust(guard: Guard, via: Neighbour, now: float = 0.0) -> None:
    allowed(guard, lambda number: guard.allows(via, A, numbered(number), OPEN, now))
    assert not guard.allows(via, A, INDEX, OPEN, now)


def with_cookie(guard: Guard, source: bytes = A, index: bytes = INDEX, now: float = 0.0, message: Open = OPEN) -> Open:
    return replace(message, cookie=guard.cookie(source, index, message, now))


# Without a cookie


def test_a_link_gets_fifty_at_once_and_twenty_a_second() -> None:
    guard, via = make_guard(), make_neighbour(1)

    def ask(now: float) -> Callable[[int], bool]:
        return lambda number: guard.allows(via, node_id(number), numbered(number), OPEN, now)

    assert allowed(guard, ask(0.0)) == 50
    assert allowed(guard, ask(0.5)) == 10
    assert allowed(guard, ask(1.5)) == 20
    assert allowed(guard, ask(100.0)) == 50


def test_links_do_not_take_from_each_other() -> None:
    guard = make_guard()
    exhaust(guard, make_neighbour(1))
    assert guard.allows(make_neighbour(2), A, INDEX, OPEN, 0.0)


def test_one_source_over_one_link_has_the_budget_of_the_link() -> None:
    """`from` is not proven: whoever makes up other ones gains nothing, and takes nothing from another link."""
    guard, via = make_guard(), make_neighbour(1)
    assert allowed(guard, lambda number: guard.allows(via, A, numbered(number), OPEN, 0.0)) == 50
    assert not guard.allows(via, B, INDEX, OPEN, 0.0)


# Cookies


def test_a_cookie_is_heard_above_the_budget() -> None:
    guard, via = make_guard(), make_neighbour(1)
    exhaust(guard, via)
    opened = with_cookie(guard)
    assert opened.cookie != NO_COOKIE
    assert guard.allows(via, A, INDEX, opened, 0.0)


@given(st.integers(0, 15), st.integers(1, 255))
def test_a_wrong_cookie_is_none(position: int, mask: int) -> None:
    guard, via = make_guard(), make_neighbour(1)
    exhaust(guard, via)
    cookie = bytearray(guard.cookie(A, INDEX, OPEN, 0.0))
    cookie[position] ^= mask
    assert not guard.allows(via, A, INDEX, replace(OPEN, cookie=bytes(cookie)), 0.0)


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
def test_a_cookie_is_for_one_open(source: bytes, index: bytes, message: Open) -> None:
    guard, via = make_guard(), make_neighbour(1)
    exhaust(guard, via)
    cookie = guard.cookie(A, INDEX, OPEN, 0.0)
    assert not guard.allows(via, source, index, replace(message, cookie=cookie), 0.0)
    assert guard.allows(via, A, INDEX, replace(OPEN, cookie=cookie), 0.0)


def test_a_cookie_does_not_depend_on_the_cookie_that_came() -> None:
    guard = make_guard()
    wrong = replace(OPEN, cookie=b"\xff" * 16)
    assert guard.cookie(A, INDEX, wrong, 0.0) == guard.cookie(A, INDEX, OPEN, 0.0)


def test_cookies_of_another_node_are_wrong() -> None:
    via = make_neighbour(1)
    one = Guard(lambda length: bytes(length), 0.0)
    other = Guard(lambda length: b"\1" * length, 0.0)
    exhaust(one, via)
    assert not one.allows(via, A, INDEX, with_cookie(other), 0.0)


def test_a_cookie_is_good_for_a_minute_or_two() -> None:
    guard, via = make_guard(), make_neighbour(1)
    opened = with_cookie(guard, now=59.0)
    for now, good in [(59.0, True), (60.0, True), (119.0, True), (120.0, False), (121.0, False), (400.0, False)]:
        with_cookie(guard, B, now=now)  # Other cookies are asked for all the time.
        exhaust(guard, via, now)
        assert guard.allows(via, A, INDEX, opened, now) is good, now


def test_secrets_change_every_minute() -> None:
    guard = make_guard()
    cookies = [guard.cookie(A, INDEX, OPEN, now) for now in (0.0, 59.9, 60.0, 119.9, 120.0, 180.0)]
    assert cookies[0] == cookies[1]
    assert cookies[2] == cookies[3]
    assert len(set(cookies)) == 4


@pytest.mark.parametrize("later", [120.0, 121.0, 1000.0])
def test_after_a_pause_the_secret_before_is_not_good_any_more(later: float) -> None:
    """Nobody asked for a cookie in the meantime, so that nothing changed the secret."""
    guard, via = make_guard(), make_neighbour(1)
    opened = with_cookie(guard)
    exhaust(guard, via, later)
    assert not guard.allows(via, A, INDEX, opened, later)


# With a cookie


def test_one_source_gets_two_a_second() -> None:
    guard = make_guard()
    links = [make_neighbour(number) for number in range(1, 40)]
    for via in links:
        exhaust(guard, via)

    def ask(now: float) -> Callable[[int], bool]:
        return lambda number: guard.allows(
            links[number % len(links)], A, numbered(number), with_cookie(guard, A, numbered(number), now), now
        )

    assert allowed(guard, ask(0.0)) == 4
    for via in links:
        exhaust(guard, via, 1.0)
    assert allowed(guard, ask(1.0)) == 2


def test_one_link_gets_fifty_a_second() -> None:
    guard, via = make_guard(), make_neighbour(1)
    exhaust(guard, via)

    def ask(now: float, first: int) -> Callable[[int], bool]:
        return lambda number: guard.allows(
            via, node_id(first + number), INDEX, with_cookie(guard, node_id(first + number), INDEX, now), now
        )

    assert allowed(guard, ask(0.0, 0)) == 100
    exhaust(guard, via, 1.0)
    assert allowed(guard, ask(1.0, 1000)) == 50


def test_all_links_get_two_hundred_a_second() -> None:
    guard = make_guard()
    links = [make_neighbour(number) for number in range(1, 30)]

    def ask(now: float, first: int) -> Callable[[int], bool]:
        def one(number: int) -> bool:
            source = node_id(first + number)
            return guard.allows(links[number % len(links)], source, INDEX, with_cookie(guard, source, now=now), now)

        for via in links:
            exhaust(guard, via, now)
        return one

    assert allowed(guard, ask(0.0, 0)) == 400
    assert allowed(guard, ask(1.0, 1000)) == 200


def test_a_source_with_a_cookie_that_wants_too_much_takes_nothing_from_others() -> None:
    guard, via = make_guard(), make_neighbour(1)
    exhaust(guard, via)
    for number in range(500):
        guard.allows(via, A, numbered(number), with_cookie(guard, A, numbered(number)), 0.0)
    assert guard.allows(via, B, INDEX, with_cookie(guard, B), 0.0)


def test_answers_are_bounded_too_for_each_link() -> None:
    guard = make_guard()
    one, other = make_neighbour(1), make_neighbour(2)
    assert allowed(guard, lambda _: guard.may_reply(one, 0.0)) == 100
    assert allowed(guard, lambda _: guard.may_reply(one, 1.0)) == 50
    assert allowed(guard, lambda _: guard.may_reply(other, 1.0)) == 100
