"""Tasks that outlive the cancellation of what is around them, and exceptions that come out as they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_relay.node.services import open_services, raise_alone


async def test_services_end_with_the_block(autojump_clock: MockClock) -> None:
    async with open_services() as services:
        services.start_soon(trio.sleep_forever)
        services.start_soon(trio.sleep, 1000)
        await wait_all_tasks_blocked()
    assert trio.current_time() == 0


async def test_cancelled_block_can_still_use_its_services(autojump_clock: MockClock) -> None:
    written: list[str] = []

    async def write(text: str) -> None:
        await trio.sleep(1)
        written.append(text)

    with trio.CancelScope() as scope:
        async with open_services() as services:
            try:
                services.start_soon(write, "before")
                scope.cancel()
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    services.start_soon(write, "goodbye")
                    await trio.sleep(2)
    assert scope.cancelled_caught
    assert sorted(written) == ["before", "goodbye"]


async def test_service_started_after_the_end_is_cancelled_at_once(autojump_clock: MockClock) -> None:
    ran: list[bool] = []

    async def late() -> None:
        ran.append(True)
        await trio.sleep_forever()

    async def last() -> None:
        try:
            await trio.sleep_forever()
        finally:
            services.start_soon(late)

    async with open_services() as services:
        services.start_soon(last)
        await wait_all_tasks_blocked()
    assert ran == [True]


async def test_start_waits_for_the_report_and_hands_it_on(autojump_clock: MockClock) -> None:
    async def serve(number: int, *, task_status: trio.TaskStatus[int]) -> None:
        await trio.sleep(1)
        task_status.started(number + 1)
        await trio.sleep_forever()

    async with open_services() as services:
        assert await services.start(serve, 1) == 2
        assert trio.current_time() == 1


async def test_failing_start_is_the_callers_affair(autojump_clock: MockClock) -> None:
    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        raise OSError("taken")

    async with open_services() as services:
        with pytest.raises(OSError, match="taken"):
            await services.start(serve)
        await trio.lowlevel.checkpoint()


async def test_failing_service_ends_the_block(autojump_clock: MockClock) -> None:
    async def fail() -> None:
        raise KeyError("a bug")

    async def block() -> None:
        async with open_services() as services:
            services.start_soon(trio.sleep_forever)
            services.start_soon(fail)
            await trio.sleep_forever()

    with trio.fail_after(1), pytest.raises(KeyError, match="a bug"):
        await block()


async def fail() -> None:
    raise KeyError("a bug")


async def fail_after_the_report(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await fail()


@pytest.mark.parametrize("reported", [False, True])
async def test_failing_service_leaves_the_others_until_the_block_has_ended(
    reported: bool, autojump_clock: MockClock
) -> None:
    written: list[str] = []

    async def write(text: str) -> None:
        await trio.sleep(1)
        written.append(text)

    async def block() -> None:
        async with open_services() as services:
            services.start_soon(write, "before")
            try:
                if reported:
                    await services.start(fail_after_the_report)
                else:
                    services.start_soon(fail)
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    services.start_soon(write, "goodbye")
                    await trio.sleep(2)

    with pytest.raises(KeyError, match="a bug"):
        await block()
    assert sorted(written) == ["before", "goodbye"]


async def test_cancelled_before_it_began(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        scope.cancel()
        async with open_services() as services:
            services.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 0


async def test_cancelled_start_ends_what_was_starting(autojump_clock: MockClock) -> None:
    ended: list[bool] = []

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    async with open_services() as services:
        with trio.move_on_after(1):
            await services.start(serve)
        assert ended == [True]


async def test_two_failures_are_a_group(autojump_clock: MockClock) -> None:
    async def fail() -> None:
        raise KeyError("a bug")

    async def block() -> None:
        async with open_services() as services:
            services.start_soon(fail)
            raise ValueError("mine")

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert {type(error) for error in caught.value.exceptions} == {KeyError, ValueError}


def cancelled() -> BaseException:
    """A `trio.Cancelled`, which only Trio makes."""

    async def catch() -> BaseException:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                caught = error
                raise
        return caught

    return trio.run(catch)


GROUPS: dict[str, tuple[Callable[[], list[BaseException]], type[BaseException]]] = {
    "alone": (lambda: [KeyError()], KeyError),
    "among cancellations": (lambda: [cancelled(), KeyError(), BaseExceptionGroup("", [cancelled()])], KeyError),
    "a group": (lambda: [ExceptionGroup("mine", [KeyError()]), cancelled()], ExceptionGroup),
    "two": (lambda: [KeyError(), ValueError()], ExceptionGroup),
    "only cancellations": (lambda: [cancelled()], BaseExceptionGroup),
}


@pytest.mark.parametrize("name", list(GROUPS))
def test_raise_alone(name: str) -> None:
    members, expected = GROUPS[name]
    with pytest.raises(expected) as caught:
        raise_alone(BaseExceptionGroup("outer", members()))
    assert type(caught.value) is expected


def test_raise_alone_keeps_the_cause() -> None:
    cause, error = OSError("first"), KeyError("second")
    error.__cause__ = cause
    with pytest.raises(KeyError) as caught:
        raise_alone(ExceptionGroup("outer", [error]))
    assert caught.value.__cause__ is cause
