"""The relay client and the relay server of this package together, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal

import pytest
import trio

from tests.wsrelay.scripted_server import collect
from trio_relay.limits import Limits
from trio_relay.wire.json import JSONValue
from trio_relay.wsrelay import Relay, RelayConfig, serve_relay
from trio_relay.wsrelay.addresses import Channel, percent_decoded
from trio_relay.wsrelay.client import RelayMessage, RelayRefused, RelayReplaced, open_relay_client
from trio_relay.wsrelay.client.events import Connected, Disconnected, PresenceChanged, ServerError, Undelivered

ALICE, BOB = "pwa:alice123", "pwa:bobbobbob"

open_client = partial(open_relay_client, random=lambda: 0.01)


@asynccontextmanager
async def relaying(*channels: Channel | str, listen: str = "127.0.0.1:0", **options: Any) -> AsyncIterator[Relay]:
    """A relay server for the time of the block; ten seconds at most."""
    config = RelayConfig(
        channels=channels or ("pwa",),
        listen=listen,
        limits=Limits(close_timeout=0.5),
        **{"key_store": False, **options},
    )

    async def serve(*, task_status: trio.TaskStatus[Relay]) -> None:
        await serve_relay(config, task_status=task_status)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            relay: Relay = await nursery.start(serve)
            yield relay
            nursery.cancel_scope.cancel()


async def test_messages_presence_and_reports() -> None:
    async with relaying() as relay, open_client(relay.urls[0], "pwa", "alice123", reports=True) as alice:
        await alice.wait_connected()
        async with alice.events() as events:
            await alice.watch(BOB)
            assert await anext(events) == PresenceChanged(BOB, False)
            await alice.send(BOB, "nobody there")
            assert await anext(events) == Undelivered(BOB, "offline")
            async with open_client(relay.urls[0], "pwa", "bobbobbob") as bob:
                assert await anext(events) == PresenceChanged(BOB, True)
                await alice.send(BOB, {"x": 1})
                envelope: dict[str, JSONValue] = {"from": ALICE, "to": BOB, "payload": {"x": 1}}
                assert await bob.receive() == RelayMessage(ALICE, {"x": 1}, envelope)
                await bob.send(ALICE, "back")
                assert (await alice.receive()).payload == "back"
            assert await anext(events) == PresenceChanged(BOB, False)
        assert alice.presence == {BOB: False}


async def test_the_older_of_two_clients_with_one_id_stays_away() -> None:
    async with relaying() as relay, open_client(relay.urls[0], "pwa", "alice123") as old:
        await old.wait_connected()
        async with open_client(relay.urls[0], "pwa", "alice123") as new:
            with pytest.raises(RelayReplaced):
                await old.receive()
            await new.send(ALICE, "to oneself")
            assert (await new.receive()).payload == "to oneself"
            assert new.statistics().counts["connected"] == 1


async def test_the_newer_of_two_clients_waits_for_the_id_where_that_is_the_rule() -> None:
    async with (
        relaying(Channel(name="pwa", on_duplicate="reject")) as relay,
        open_client(relay.urls[0], "pwa", "alice123") as old,
    ):
        await old.wait_connected()
        async with open_client(relay.urls[0], "pwa", "alice123") as new:
            assert (await collect(new, 1))[0] == ServerError("ID_IN_USE", "ID already connected on this channel")
            await old.aclose()
            await new.wait_connected()


class Keys:
    """A store with one key, or none."""

    def __init__(self) -> None:
        self.key = "good-access-key"

    def validate(self, key: str) -> bool:
        return key == self.key


@pytest.mark.parametrize("mode", ["close-after-connect", "reject-upgrade"])
async def test_bad_keys_are_refused_for_good(mode: Literal["close-after-connect", "reject-upgrade"]) -> None:
    async with relaying(key_store=Keys(), on_invalid_key=mode) as relay:
        for key in (None, "wrong-access-key"):
            async with open_client(relay.urls[0], "pwa", "alice123", key=key) as client:
                with pytest.raises(RelayRefused, match=r"INVALID_KEY|HTTP_403"):
                    await client.wait_connected()


async def test_a_key_that_is_taken_away() -> None:
    keys = Keys()
    async with relaying(key_store=keys) as relay, open_client(relay.urls[0], "pwa", "alice123", key=keys.key) as client:
        await client.wait_connected()
        keys.key = "another-access-key"
        await relay.check_keys()
        with pytest.raises(RelayRefused, match="INVALID_KEY"):
            await client.receive()


async def test_a_server_that_is_restarted_does_not_wait_for_its_clients() -> None:
    async with relaying() as first, open_client(first.urls[0], "pwa", "alice123") as alice:
        await alice.watch(BOB)
        await alice.wait_connected()
        async with alice.events() as events:
            began = trio.current_time()
            await first.aclose()
            assert trio.current_time() - began < 1
            while not isinstance(await anext(events), Disconnected):
                pass
            await alice.send(ALICE, "kept")
            async with relaying(listen=first.addresses[0]):
                while await anext(events) != Connected():
                    pass
                assert await anext(events) == PresenceChanged(BOB, False)
                assert (await alice.receive()).payload == "kept"


async def test_a_client_that_may_not_be_watched_is_connected_at_once() -> None:
    async with (
        relaying(Channel(name="pwa", watchable_by=())) as relay,
        open_client(relay.urls[0], "pwa", "alice123") as client,
    ):
        with trio.fail_after(2):
            await client.wait_connected()


async def test_ids_that_need_encoding_work_where_the_server_decodes_them() -> None:
    async with (
        relaying(Channel(name="pwa", parse_id=percent_decoded(str))) as relay,
        open_client(relay.urls[0], "pwa", "Jürgen 50%", encode_id=True) as client,
    ):
        await client.send("pwa:Jürgen 50%", 1)
        assert (await client.receive()).sender == client.address == "pwa:Jürgen 50%"


async def test_ids_that_need_encoding_are_refused_where_the_server_does_not_decode_them() -> None:
    async with (
        relaying(Channel(name="pwa", parse_id=str)) as relay,
        open_client(relay.urls[0], "pwa", "Jürgen 50%", encode_id=True) as client,
    ):
        with pytest.raises(RelayRefused, match="ADDRESS_UNKNOWN"):
            await client.wait_connected()
