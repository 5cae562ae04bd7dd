"""`admit`: who may link and who may send, ruled together or apart, and functions of the application that fail."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection

import pytest
import trio
from trio.testing import MockClock

from trio_relay import Admit, DeliveryError, NegotiationFailed, NodeId, open_node
from trio_relay.testing import MemoryNetwork

from .support import count, identity, open_town, relays_of, take, until, url

FRIEND, STRANGER, RELAY = identity("friend"), identity("leaf 0"), identity("relay-0")

Guests = Collection[NodeId] | Callable[[NodeId], bool]


def only(node_id: NodeId) -> list[Guests]:
    """One guest, in each way of saying so."""
    return [{node_id}, [node_id], lambda other: other == node_id]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the package warned of."""
    return [r.getMessage() for r in caplog.records if r.name == "trio_relay" and r.levelno == logging.WARNING]


# Apart


@pytest.mark.parametrize("messages", only(FRIEND.id), ids=["set", "list", "function"])
async def test_a_relay_for_all_whose_application_listens_to_one(messages: Guests, autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node("hub", admit=Admit(messages=messages), network=network) as hub,
        open_node(None, [url("hub")], identity=FRIEND, network=network) as friend,
        open_node(None, [url("hub")], identity=STRANGER, network=network) as stranger,
    ):
        await until(lambda: set(hub.links) == {friend.id, stranger.id})
        await stranger.deliver(friend.id, "through the hub")
        assert await take(friend, 1) == ["through the hub"]
        await stranger.send(hub.id, "listen")
        with pytest.raises(DeliveryError):
            await stranger.deliver(hub.id, "listen to me", timeout=3)
        await friend.deliver(hub.id, "hello")
        assert await take(hub, 1) == ["hello"]
        assert hub.statistics().sizes["mailbox_messages"] == 0
        assert count(hub, "not_admitted") >= 2
        assert set(hub.links) == {friend.id, stranger.id}


@pytest.mark.parametrize("links", only(RELAY.id), ids=["set", "list", "function"])
async def test_a_node_that_links_with_its_relay_alone_and_listens_to_all(
    links: Guests, autojump_clock: MockClock
) -> None:
    async with open_town(1, 1) as town:
        (relay,), (stranger,) = town.relays, town.leaves
        async with open_node("shy", [url("relay-0")], admit=Admit(links=links), network=town.network) as shy:
            await until(lambda: relays_of(shy))
            await stranger.deliver(shy.id, "hello")
            assert await take(shy, 1) == ["hello"]
            with pytest.raises(NegotiationFailed):
                await stranger.connect(shy.id)
            await stranger.deliver(shy.id, "again")
            assert await take(shy, 1) == ["again"]
            assert set(shy.links) == {relay.id}
            assert shy.id not in stranger.links


async def test_without_rules_everybody_is_admitted(autojump_clock: MockClock) -> None:
    async with open_town(1, 1) as town:
        (stranger,) = town.leaves
        async with open_node("open", [url("relay-0")], admit=Admit(), network=town.network) as host:
            await until(lambda: relays_of(host))
            await stranger.connect(host.id)
            await stranger.deliver(host.id, "hello")
            assert await take(host, 1) == ["hello"]


@pytest.mark.parametrize("admit", [Admit(links={"0" * 40}), Admit(messages={"0" * 40})])  # type: ignore[arg-type]
async def test_ids_must_be_ids(admit: Admit) -> None:
    with pytest.raises(TypeError, match="expected a node id as 20 bytes, not str"):
        async with open_node(None, admit=admit, network=MemoryNetwork()):
            pytest.fail("expected a TypeError")


def test_rules_do_not_change() -> None:
    rules = Admit(messages=[FRIEND.id])
    with pytest.raises(dataclasses.FrozenInstanceError):
        rules.links = [FRIEND.id]  # type: ignore[misc]
    assert rules == Admit(None, [FRIEND.id])


# Functions that fail


def failing(guilty: NodeId, *errors: Exception) -> Callable[[NodeId], bool]:
    """Raises when asked about one id: the errors in turn, then the last one each time. Admits all others."""
    waiting = list(errors)

    def admits(node_id: NodeId) -> bool:
        if node_id != guilty:
            return True
        raise waiting.pop(0) if len(waiting) > 1 else waiting[0]

    return admits


@pytest.mark.parametrize("both", [True, False], ids=["bare", "links"])
async def test_a_function_that_raises_costs_only_the_link(
    both: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    network = MemoryNetwork()
    admits = failing(STRANGER.id, KeyError("who"))
    async with (
        open_node("hub", admit=admits if both else Admit(links=admits), network=network) as hub,
        open_node(None, [url("hub")], identity=STRANGER, network=network) as stranger,
    ):
        await until(lambda: count(hub, "admit_failed") >= 3, seconds=60)
        async with open_node(None, [url("hub")], identity=FRIEND, network=network) as friend:
            await friend.wait_linked()
            await friend.deliver(hub.id, "hello")
            assert set(hub.links) == {friend.id}
        assert stranger.links == {}
    assert warnings_of(caplog) == [f"admit raised KeyError for {STRANGER.id[:4].hex()}, a refusal; told once"]


@pytest.mark.parametrize("both", [True, False], ids=["bare", "messages"])
async def test_a_function_that_raises_costs_only_the_message(
    both: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_town(1, 2) as town:
        stranger, friend = town.leaves
        admits = failing(stranger.id, KeyError("who"), OSError("gone"), KeyError("again"))
        admit = admits if both else Admit(messages=admits)
        async with open_node(None, [url("relay-0")], admit=admit, network=town.network) as careful:
            await until(lambda: relays_of(careful))
            for number in range(1, 5):
                await stranger.send(careful.id, number)
                await until(lambda number=number: count(careful, "admit_failed") >= number)  # type: ignore[misc]
            with pytest.raises(DeliveryError):
                await stranger.deliver(careful.id, "please", timeout=1)
            await friend.deliver(careful.id, "hello")
            assert await take(careful, 1) == ["hello"]
            assert careful.statistics().sizes["mailbox_messages"] == 0
            assert len(careful.links) == 1
    name = stranger.id[:4].hex()
    assert warnings_of(caplog) == [
        f"admit raised KeyError for {name}, a refusal; told once",
        f"admit raised OSError for {name}, a refusal; told once",
    ]


async def test_the_log_of_errors_is_bounded(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    errors = [type(f"Error{number}", (Exception,), {})() for number in range(30)]
    async with open_town(1, 1) as town:
        (stranger,) = town.leaves
        admit = Admit(messages=failing(stranger.id, *errors))
        async with open_node(None, [url("relay-0")], admit=admit, network=town.network) as careful:
            await until(lambda: relays_of(careful))
            for number in range(len(errors)):
                await stranger.send(careful.id, number)
            await until(lambda: count(careful, "admit_failed") >= len(errors))
    assert len(warnings_of(caplog)) == 16


async def test_what_is_no_ordinary_error_ends_the_node(autojump_clock: MockClock) -> None:
    """As Ctrl-C does, wherever it comes."""

    class Stop(BaseException):
        pass

    def admits(node_id: NodeId) -> bool:
        raise Stop

    network = MemoryNetwork()
    with pytest.raises(Stop):
        async with open_node(None, [url("hub")], network=network), open_node("hub", admit=admits, network=network):
            await trio.sleep(60)
