"""Which endings are for good, how long a client waits after the others, and what it watches."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError
from trio_relay.transports.backoff import Backoff
from trio_relay.wsrelay.client.core import ErrorFrame
from trio_relay.wsrelay.client.endings import Ending, RelayRefused, RelayReplaced, refusal
from trio_relay.wsrelay.client.watches import MAX_WATCHES, Watches

NEVER, SHORTLY = None, 0.1


def ending(code: str | None, close_code: int | None, accepted_for: float | None) -> Ending:
    error = None if code is None else ErrorFrame(code, "words")
    return Ending("reason", close_code, error, accepted_for=accepted_for)


@pytest.mark.parametrize(
    ("code", "close_code", "accepted_for", "refused"),
    [
        ("INVALID_KEY", 1008, NEVER, True),
        ("INVALID_KEY", 1008, SHORTLY, True),
        ("INVALID_KEY", 1006, NEVER, True),
        ("INVALID_KEY", 1011, NEVER, False),
        ("INVALID_URL", 1002, NEVER, True),
        ("VERIFY_FAILED", 1008, NEVER, True),
        ("VERIFY_FAILED", 4001, NEVER, True),
        ("BANNED", 1008, NEVER, True),
        ("BANNED", 4321, NEVER, True),
        ("BANNED", 1001, NEVER, False),
        ("BANNED", 1006, NEVER, False),
        ("SLOW", 1008, SHORTLY, False),
        ("TOO_SLOW", 1008, NEVER, False),
        ("SHUTTING_DOWN", 1008, NEVER, False),
        ("RATE_LIMITED", 1008, NEVER, False),
        ("RATE_LIMITED", 1008, SHORTLY, False),
        ("ID_IN_USE", 1008, NEVER, False),
        ("REPLACED", 1000, SHORTLY, True),
        ("REPLACED", 1006, SHORTLY, True),
        ("INVALID_FROM", 1006, SHORTLY, True),
        ("INVALID_MESSAGE", 1008, NEVER, False),
        (None, 1000, SHORTLY, False),
        (None, 1008, NEVER, False),
        (None, 1011, NEVER, False),
        (None, None, NEVER, False),
    ],
)
def test_refusals(code: str | None, close_code: int | None, accepted_for: float | None, refused: bool) -> None:
    found = refusal(ending(code, close_code, accepted_for))
    assert (found is not None) is refused
    if found is not None:
        assert (found.code, found.reason) == (code, "words")
        assert isinstance(found, RelayReplaced) is (code == "REPLACED")


@pytest.mark.parametrize(("status", "refused"), [(401, True), (403, True), (404, False), (503, False), (None, False)])
def test_refused_upgrades(status: int | None, refused: bool) -> None:
    found = refusal(Ending("not 101", status=status))
    assert (found is not None) is refused
    assert found is None or found.code == f"HTTP_{status}"


def test_a_server_that_does_not_know_the_address_gets_three_attempts() -> None:
    assert refusal(Ending("offline", 1000, unknown=2)) is None
    found = refusal(Ending("offline", 1000, unknown=3))
    assert isinstance(found, RelayRefused)
    assert found.code == "ADDRESS_UNKNOWN"


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 1, exclude_max=True), max_size=20))
def test_waits_are_random_up_to_a_ceiling_that_doubles(maximum: float, chances: list[float]) -> None:
    waiting = iter(chances)
    backoff = Backoff(maximum, lambda: next(waiting))
    for number, chance in enumerate(chances):
        assert backoff.next() == pytest.approx(chance * min(2.0**number, maximum))


@given(st.integers(0, 12))
def test_after_a_reset_waits_are_as_in_the_beginning(failures: int) -> None:
    backoff = Backoff(30.0, lambda: 0.5)
    for _ in range(failures):
        backoff.next()
    backoff.reset()
    assert [backoff.next() for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


# Watches

OWN = "pwa:own"
addresses = st.sampled_from([OWN, "a:1", "a:2", "b:1"])
steps = st.lists(
    st.tuples(st.sampled_from(["watch", "unwatch", "take", "forget", "repeat"]), addresses, st.booleans()), max_size=40
)


@given(steps)
def test_the_server_is_told_what_is_watched_and_nothing_twice(steps: list[tuple[str, str, bool]]) -> None:
    watches, wanted, server, known = Watches(OWN), set[str](), set[str](), dict[str, bool]()
    for step, address, online in steps:
        if step == "watch":
            watches.watch(address)
            wanted.add(address)
        elif step == "unwatch":
            watches.unwatch(address)
            wanted.discard(address)
            known.pop(address, None)
        elif step == "forget":
            watches.forget()
            server.clear()
            known.clear()
        elif step == "repeat":
            watches.repeat_unanswered()
            server -= {address for address in server & wanted if address not in known}
        else:
            for frame in map(json.loads, watches.take()):
                told = frame["address"]
                assert told != OWN
                assert (told in server) is (frame["type"] == "unwatch")
                (server.discard if frame["type"] == "unwatch" else server.add)(told)
            assert server == wanted - {OWN}
            assert not watches.untold
            if address in server:
                assert watches.learn(address, online) is (known.get(address) is not online)
                known[address] = online
        assert set(watches.presence) == wanted
        assert {name: state for name, state in watches.presence.items() if state is not None} == known


def test_one_s_own_presence_is_known_from_the_first_answer() -> None:
    watches = Watches(OWN)
    assert not watches.learn(OWN, True)
    assert watches.watch(OWN)
    assert watches.presence == {OWN: True}
    watches.forget()
    assert watches.presence == {OWN: None}


def test_the_number_of_watches_is_bounded() -> None:
    watches = Watches(OWN)
    for number in range(MAX_WATCHES):
        watches.watch(f"a:{number}")
    watches.watch("a:0")
    with pytest.raises(ValueError, match="at most 1023"):
        watches.watch("a:more")
    watches.unwatch("a:0")
    watches.watch("a:more")
    assert len(watches.take()) == MAX_WATCHES


@pytest.mark.parametrize("address", ["bob", "", ":bob", 7])
def test_what_is_no_address_is_not_watched(address: str) -> None:
    with pytest.raises(LocalProtocolError, match="address like channel:id"):
        Watches(OWN).watch(address)


def test_addresses_that_no_server_takes_are_not_watched() -> None:
    watches = Watches(OWN)
    watches.watch("a:" + "x" * 510)
    with pytest.raises(LocalProtocolError, match="at most 512 characters, not 513"):
        watches.watch("a:" + "x" * 511)
    assert len(watches.take()) == 1


def test_a_refusal_is_one_line_without_control_characters() -> None:
    refused = RelayRefused("BAD\x1b[31m", "one\r\ntwo\u2028\u202ethree \ud800 \u00e4")
    shown = r"BAD\x1b[31m one\r\ntwo\u2028\u202ethree \ud800 " + "\u00e4"
    assert str(refused) == f"the relay server refused this client: {shown}"
    assert refused.code == "BAD\x1b[31m"
