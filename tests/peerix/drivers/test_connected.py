"""Drivers over a connection: what they do when it comes, goes, refuses and is silent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from tests.peerix.drivers.scripted import ScriptedDriver
from trio_relay.exceptions import DriverError, HandshakeError, RemoteProtocolError
from trio_relay.peerix.drivers.driver import (
    MAX_NAMESPACES,
    MAX_PACKET,
    DriverActive,
    DriverEvent,
    DriverFailed,
    DriverInactive,
)

Clock = trio.testing.MockClock
settled = trio.testing.wait_all_tasks_blocked


def collect() -> tuple[list[bytes], Callable[[bytes], None]]:
    packets: list[bytes] = []
    return packets, packets.append


def ignore(packet: bytes) -> None:
    pass


async def test_packets_go_both_ways(autojump_clock: Clock) -> None:
    packets, handler = collect()
    driver = ScriptedDriver()
    async with driver:
        await driver.subscribe("room", handler)
        assert driver.why_inactive == ""
        assert driver.session.asked == ["room"]
        driver.session.bring("room", b"1")
        await driver.publish("other", b"2")
    assert packets == [b"1"]
    assert driver.session.published == [("other", b"2")]
    assert driver.session.closed
    assert not driver.active
    assert driver.why_inactive == "the driver was closed"


async def test_a_lost_connection_is_made_again_and_all_is_subscribed_before_it_is_active(autojump_clock: Clock) -> None:
    packets, handler = collect()
    driver = ScriptedDriver()
    async with driver:
        for name in ("room", "me"):
            await driver.subscribe(name, handler)
        driver.hold = trio.Event()
        driver.session.end()
        await trio.sleep(1.5)
        assert len(driver.sessions) == 2
        assert sorted(driver.session.asked) == ["me", "room"]
        assert not driver.active
        driver.hold.set()
        await driver.wait_active()
        driver.session.bring("me", b"again")
    assert packets == [b"again"]
    assert driver.counts == {"driver_connected": 2, "driver_lost": 1}


async def test_a_failed_attempt_is_told_and_the_next_one_waits_longer(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    failures = [
        ConnectionRefusedError(111, "Connection refused"),
        HandshakeError("no TLS"),
        UnicodeError("label too long"),
        RemoteProtocolError("expected INFO"),
        trio.BrokenResourceError(),
        DriverError("wrong password"),
    ]
    driver.failures.extend(failures)
    async with driver.events() as events, driver:
        await driver.wait_active()
        told = [await events.__anext__() for _ in failures]
    assert [event.error.args[0] for event in told if isinstance(event, DriverFailed)] == [
        "Connection refused",
        "no TLS",
        "label too long",
        "expected INFO",
        "the connection broke",
        "wrong password",
    ]
    assert [later - earlier for earlier, later in zip(driver.attempts, driver.attempts[1:], strict=False)] == [
        1.0,
        2.0,
        4.0,
        8.0,
        16.0,
        30.0,
    ]
    assert driver.counts["driver_unreachable"] == len(failures)


async def test_a_broker_that_does_not_greet_is_given_up(autojump_clock: Clock) -> None:
    driver = ScriptedDriver(timeout=3.0)
    driver.failures.append(None)
    async with driver.events() as events, driver:
        await driver.wait_active()
        failed = await events.__anext__()
    assert isinstance(failed, DriverFailed)
    assert "did not greet within 3 s" in str(failed.error)
    assert driver.attempts[1] == pytest.approx(driver.attempts[0] + 4.0)


@pytest.mark.parametrize(("lasts", "waits"), [(9.0, [1.0, 2.0]), (11.0, [1.0, 1.0])])
async def test_waits_begin_anew_after_a_stable_connection(
    autojump_clock: Clock, lasts: float, waits: list[float]
) -> None:
    driver = ScriptedDriver()
    async with driver:
        for _ in range(2):
            await driver.wait_active()
            await trio.sleep(lasts)
            driver.session.end(DriverError("over"))
            await settled()
        await driver.wait_active()
    assert [later - earlier - lasts for earlier, later in zip(driver.attempts, driver.attempts[1:], strict=False)] == [
        pytest.approx(wait) for wait in waits
    ]


async def test_who_subscribes_while_disconnected_waits_for_the_connection(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    driver.failures.extend([OSError("down"), OSError("down")])
    async with driver:
        await driver.subscribe("room", ignore)
        assert driver.active
        assert trio.current_time() - driver.attempts[0] == 3.0


async def test_who_subscribes_while_disconnected_for_long_is_told_why(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    driver.failures.extend([OSError("down")] * 9)
    async with driver:
        with pytest.raises(DriverError, match="within 10 s: down"):
            await driver.subscribe("room", ignore)
        assert driver.namespaces == ()


async def test_a_refused_namespace_is_the_problem_of_who_asks(autojump_clock: Clock) -> None:
    packets, handler = collect()
    driver = ScriptedDriver()
    async with driver:
        await driver.subscribe("room", handler)
        driver.session.refuses.add("secret")
        for _ in range(2):
            with pytest.raises(DriverError, match="secret is not for you"):
                await driver.subscribe("secret", ignore)
        assert driver.namespaces == ("room",)
        assert driver.active
        driver.session.refuses.clear()
        await driver.subscribe("secret", handler)
        driver.session.bring("secret", b"now")
    assert packets == [b"now"]
    assert len(driver.sessions) == 1


async def test_all_who_ask_at_once_are_refused_and_a_new_one_is_asked_for(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    refused: list[str] = []

    async def ask() -> None:
        with pytest.raises(DriverError) as caught:
            await driver.subscribe("secret", ignore)
        refused.append(str(caught.value))

    driver.refuses = {"secret"}
    async with driver:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert refused == ["secret is not for you"] * 2
        assert driver.session.asked == ["secret"]
        assert driver.namespaces == ()


async def test_who_asks_while_others_are_being_refused_is_answered_too(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    refused: list[float] = []

    async def ask() -> None:
        with pytest.raises(DriverError, match="not for you"):
            await driver.subscribe("secret", ignore)
        refused.append(trio.current_time())

    driver.refuses = {"secret"}
    async with driver:
        await driver.wait_active()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(30):  # in whatever order they are run
                nursery.start_soon(ask)
                await trio.lowlevel.checkpoint()
    assert refused == [began] * 30
    assert driver.namespaces == ()


async def test_a_refusal_while_it_connects_does_not_end_the_connection(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    driver.refuses = {"secret"}
    driver.failures.append(OSError("down"))
    async with driver:
        with pytest.raises(DriverError, match="not for you"):
            await driver.subscribe("secret", ignore)
        await driver.wait_active()
        assert len(driver.sessions) == 1


async def test_a_namespace_that_is_refused_after_it_was_confirmed_ends_the_connection(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    async with driver.events() as events, driver:
        await driver.subscribe("room", ignore)
        driver.refuses = {"room"}
        driver.session.end(DriverError("restart"))
        await trio.sleep(2.5)
        assert len(driver.sessions) == 2
        assert not driver.active
        assert driver.why_inactive == "room is not for you"
        driver.refuses = set()
        await driver.wait_active()
        seen = [await events.__anext__() for _ in range(5)]
    assert [type(event) for event in seen] == [DriverActive, DriverInactive, DriverFailed, DriverFailed, DriverActive]


async def test_a_broker_that_does_not_confirm_is_given_up(autojump_clock: Clock) -> None:
    driver = ScriptedDriver(timeout=5.0)
    driver.hold = trio.Event()
    async with driver:
        with pytest.raises(DriverError, match="did not confirm"):
            await driver.subscribe("room", ignore)
        await settled()
        assert driver.sessions[0].closed or not driver.active
        driver.hold = None
        await driver.subscribe("room", ignore)
        assert len(driver.sessions) == 2


async def test_several_handlers_share_one_subscription(autojump_clock: Clock) -> None:
    first, first_handler = collect()
    second, second_handler = collect()
    driver = ScriptedDriver()
    async with driver:
        await driver.subscribe("room", first_handler)
        await driver.subscribe("room", second_handler)
        driver.session.bring("room", b"both")
        await driver.unsubscribe("room", first_handler)
        await settled()
        driver.session.bring("room", b"one")
        assert driver.session.dropped == []
        await driver.unsubscribe("room", second_handler)
        await driver.unsubscribe("room", second_handler)
        await settled()
        assert driver.session.asked == ["room"]
        assert driver.session.dropped == ["room"]
    assert (first, second) == ([b"both"], [b"both", b"one"])


async def test_who_comes_back_at_once_stays_subscribed(autojump_clock: Clock) -> None:
    packets, handler = collect()
    driver = ScriptedDriver()
    async with driver:
        await driver.subscribe("room", ignore)
        await driver.unsubscribe("room", ignore)
        await driver.subscribe("room", handler)
        await settled()
        driver.session.bring("room", b"here")
    assert packets == [b"here"]


async def test_a_broker_that_refuses_an_unsubscription_is_told_of_only(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    async with driver.events() as events, driver:
        await driver.subscribe("room", ignore)
        driver.session.refuses.add("room")
        await driver.unsubscribe("room", ignore)
        await events.__anext__()
        failed = await events.__anext__()
        assert isinstance(failed, DriverFailed)
        assert str(failed.error) == "room stays"
        assert driver.active


@pytest.mark.parametrize("ticks", range(8))
async def test_a_subscription_can_be_cancelled_at_any_point(autojump_clock: Clock, ticks: int) -> None:
    """Whatever was reached until then, the broker knows in the end what is wanted, and no more."""
    driver = ScriptedDriver()
    async with driver:
        await driver.subscribe("room", ignore)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(driver.subscribe, "passing", ignore)
                for _ in range(ticks):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        await settled()
        done = driver.namespaces == ("room", "passing")
        assert driver.session.subscribed == ({"room", "passing"} if done else {"room"})
        assert driver.active


async def test_a_cancelled_subscription_that_the_broker_confirms_later_is_withdrawn(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    async with driver:
        await driver.wait_active()
        driver.session.hold = trio.Event()
        with trio.move_on_after(1):
            await driver.subscribe("room", ignore)
        driver.session.hold.set()
        await settled()
        assert driver.session.asked == driver.session.dropped == ["room"]
        assert driver.namespaces == ()
        driver.session.refuses.add("room")
        with pytest.raises(DriverError, match="not for you"):
            await driver.subscribe("room", ignore)
        assert len(driver.sessions) == 1


async def test_one_of_two_who_wait_may_be_cancelled(autojump_clock: Clock) -> None:
    packets, handler = collect()
    driver = ScriptedDriver()
    async with driver:
        await driver.wait_active()
        hold = driver.session.hold = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.subscribe, "room", handler)
            with trio.move_on_after(1):
                await driver.subscribe("room", ignore)
            hold.set()
        driver.session.bring("room", b"1")
    assert packets == [b"1"]


async def test_what_is_published_while_inactive_is_refused_and_counted(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    with pytest.raises(DriverError, match="not open"):
        await driver.publish("room", b"1")
    with pytest.raises(DriverError, match=r"^the driver is not open$"):
        await driver.subscribe("room", ignore)
    driver.failures.extend([OSError("down")] * 3)
    async with driver:
        await trio.sleep(1.5)
        with pytest.raises(DriverError, match="inactive: down"):
            await driver.publish("room", b"1")
        await driver.wait_active()
        driver.session.refuses.add("room")
        with pytest.raises(DriverError, match="not for you"):
            await driver.publish("room", b"1")
    assert driver.counts["driver_unsent"] == 3


async def test_a_packet_that_the_broker_does_not_take_in_time_is_counted(autojump_clock: Clock) -> None:
    driver = ScriptedDriver(timeout=2.0)
    async with driver:
        await driver.wait_active()
        driver.session.stuck = trio.Event()
        with pytest.raises(DriverError, match="did not take a packet within 2 s"):
            await driver.publish("room", b"1")
        driver.session.stuck = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            nursery.start_soon(_expect_broken, driver)
            await settled()
            driver.session.end()
            driver.session.stuck.set()
    assert driver.counts["driver_unsent"] == 2


async def _expect_broken(driver: ScriptedDriver) -> None:
    with pytest.raises(DriverError, match="the connection broke"):
        await driver.publish("room", b"1")


async def test_while_a_lost_connection_is_closed_the_driver_is_inactive(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    driver.slow_close = 2.0
    async with driver:
        await driver.wait_active()
        driver.session.end(RemoteProtocolError("expected PONG"))
        await settled()
        assert not driver.active
        assert driver.why_inactive == "expected PONG"
        with pytest.raises(DriverError, match="expected PONG"):
            await driver.publish("room", b"1")


async def test_a_connection_that_fails_in_several_ways_at_once_has_one_end(autojump_clock: Clock) -> None:
    """The session ends while a subscription and another one fail: no group of exceptions comes out."""
    driver = ScriptedDriver()
    async with driver:
        await driver.subscribe("room", ignore)
        hold = driver.session.hold = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.subscribe, "one", ignore)
            nursery.start_soon(driver.subscribe, "two", ignore)
            await settled()
            driver.session.end(DriverError("restart"))
            hold.set()
        assert driver.session.subscribed == {"room", "one", "two"}
        assert len(driver.sessions) == 2


async def test_many_namespaces_are_subscribed_side_by_side(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    async with driver:
        async with trio.open_nursery() as nursery:
            for number in range(MAX_NAMESPACES):
                nursery.start_soon(driver.subscribe, f"ns{number}", ignore)
        with pytest.raises(ValueError, match="at most 1024 namespaces"):
            await driver.subscribe("one more", ignore)
        await driver.subscribe("ns0", ignore)
        driver.session.end()
        await settled()
        await driver.wait_active()
        assert len(driver.session.subscribed) == MAX_NAMESPACES


async def test_what_can_not_be_is_refused() -> None:
    driver = ScriptedDriver()
    async with driver:
        with pytest.raises(ValueError, match="expected a namespace"):
            await driver.subscribe("", ignore)
        with pytest.raises(ValueError, match="expected a namespace"):
            await driver.publish("", b"1")
        with pytest.raises(ValueError, match=f"at most {MAX_PACKET} bytes"):
            await driver.publish("room", bytes(MAX_PACKET + 1))
    with pytest.raises(ValueError, match="positive timeout"):
        ScriptedDriver(timeout=0)
    with pytest.raises(ValueError, match="positive max_reconnect_delay"):
        ScriptedDriver(max_reconnect_delay=-1)


async def test_strange_packets_are_counted(autojump_clock: Clock) -> None:
    packets, handler = collect()
    driver = ScriptedDriver()
    async with driver:
        await driver.subscribe("room", handler)
        driver.session.bring("room", bytes(MAX_PACKET + 1))
        driver.session.bring("room", bytes(MAX_PACKET))
        driver.deliver("nobody", b"1")
    assert [len(packet) for packet in packets] == [MAX_PACKET]
    assert driver.counts["driver_oversized"] == driver.counts["driver_unwanted"] == 1


async def test_those_who_wait_are_told_that_the_driver_was_closed(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    driver.failures.extend([OSError("down")] * 9)
    refused: list[str] = []

    async def ask() -> None:
        with pytest.raises(DriverError) as caught:
            await driver.subscribe("room", ignore)
        refused.append(str(caught.value))

    async with trio.open_nursery() as nursery, driver:
        nursery.start_soon(ask)
        await trio.sleep(1)
    assert refused == ["the driver was closed"]


async def test_a_closed_driver_can_be_opened_again(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    for round_ in range(2):
        async with driver.use():
            await driver.subscribe("room", ignore)
            with pytest.raises(trio.BusyResourceError, match="opened around"):
                async with driver.use():
                    pytest.fail("it may be closed at any time")
        assert not driver.is_open
        assert len(driver.sessions) == round_ + 1
    async with driver, driver.use(), driver.use():
        with pytest.raises(trio.BusyResourceError, match="open already"):
            await driver.__aenter__()
        await driver.wait_active()
    assert driver.namespaces == ()


async def test_waits_begin_anew_when_it_is_opened_again(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    driver.failures.extend([OSError("down")] * 8)
    for _ in range(2):
        async with driver:
            await trio.sleep(7.5)
    first = driver.attempts[0]
    assert [round(attempt - first, 3) for attempt in driver.attempts] == [0, 1, 3, 7, 7.5, 8.5, 10.5, 14.5]


async def test_cancelling_what_is_around_closes_the_connection(autojump_clock: Clock) -> None:
    driver = ScriptedDriver()
    events: list[DriverEvent | object] = []

    async def watch(task_status: trio.TaskStatus[None]) -> None:
        async with driver.events() as stream:
            task_status.started()
            async for event in stream:
                events.append(event)

    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        with trio.move_on_after(5) as scope:
            async with driver:
                await driver.subscribe("room", ignore)
                await trio.sleep_forever()
        await settled()
        nursery.cancel_scope.cancel()
    assert scope.cancelled_caught
    assert driver.session.closed
    assert events == [DriverActive(), DriverInactive("the driver was closed")]


async def test_an_error_that_is_none_of_the_broker_comes_out() -> None:
    driver = ScriptedDriver()

    async def use() -> None:
        async with driver:
            await driver.subscribe("room", ignore)
            driver.session.end(LookupError("a mistake in a handler"))
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await use()
    assert driver.session.closed
    assert "a mistake in a handler" in repr(caught.value)
    assert not driver.is_open
