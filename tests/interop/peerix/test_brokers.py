"""The drivers for NATS and MQTT with real servers: `nats-server` and `mosquitto`."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio
import trustme

from tests.interop import brokers
from tests.interop.brokers import Broker, mosquitto_lines, nats_lines, running
from tests.interop.peerix.serving import KINDS, serving
from trio_relay.exceptions import DriverError
from trio_relay.peerix.drivers.connected import ConnectedDriver
from trio_relay.peerix.drivers.driver import MAX_PACKET, DriverFailed
from trio_relay.peerix.drivers.mqtt import MqttDriver
from trio_relay.peerix.drivers.nats import NatsDriver

pytestmark = pytest.mark.brokers

SECRET: Final = "a secret"
SEED: Final = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC: Final = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


class Inbox:
    """Packets that came."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[bytes](1000)

    def put(self, packet: bytes) -> None:
        self._send.send_nowait(packet)

    async def next(self) -> bytes:
        with trio.fail_after(brokers.PATIENCE):
            return await self._receive.receive()

    @property
    def empty(self) -> bool:
        return not self._receive.statistics().current_buffer_used


@pytest.mark.parametrize("kind", KINDS)
async def test_two_drivers_exchange_packets_also_after_a_restart(tmp_path: Path, kind: str) -> None:
    async with serving(kind, tmp_path) as (broker, make):
        one, two = make(), make()
        inboxes = Inbox(), Inbox()
        async with one, two:
            for driver, inbox in ((one, inboxes[0]), (two, inboxes[1])):
                await driver.subscribe("room", inbox.put)
            for packet in (b"\0\r\nPUB x 0\r\n", bytes(range(256)) * (MAX_PACKET // 256), b"x"):
                await one.publish("room", packet)
                assert [await inbox.next() for inbox in inboxes] == [packet, packet]
            await broker.stop()
            await broker.start()
            for driver in (one, two):
                with trio.fail_after(brokers.PATIENCE):
                    while driver.counts["driver_connected"] < 2:
                        await trio.sleep(0.01)
                    await driver.wait_active()
            await two.publish("room", b"again")
            assert [await inbox.next() for inbox in inboxes] == [b"again", b"again"]
            await one.unsubscribe("room", inboxes[0].put)
            await one.subscribe("done", inboxes[0].put)
            await two.publish("room", b"unheard")
            await two.publish("done", b"done")
            assert await inboxes[0].next() == b"done"
        assert all(driver.counts["driver_lost"] == 1 for driver in (one, two))


@asynccontextmanager
async def with_password(kind: str, folder: Path) -> AsyncIterator[Callable[[str], ConnectedDriver]]:
    """A broker that lets one user in, who may not use ``no``; what makes drivers, given a password."""
    if kind == "nats":
        broker = brokers.nats(folder)
        denied = '{ publish: { deny: "no" }, subscribe: { deny: "no" } }'
        user = f'authorization {{ users = [ {{ user: me, password: "{SECRET}", permissions: {denied} }} ] }}'
        async with running(broker, *nats_lines(broker, user)):
            yield lambda word: NatsDriver(f"nats://127.0.0.1:{broker.port}", user="me", password=word, timeout=1.0)
        return
    broker = brokers.mosquitto(folder)
    rights, words = folder / "rights", folder / "passwords"
    rights.write_text("user me\ntopic readwrite yes\n")
    for path in (rights, words):
        path.touch(mode=0o600)
    await trio.run_process([brokers.program("mosquitto_passwd"), "-b", str(words), "me", SECRET])
    async with running(broker, *mosquitto_lines(broker, f"password_file {words}", f"acl_file {rights}")):
        yield lambda word: MqttDriver(f"mqtt://127.0.0.1:{broker.port}", username="me", password=word, timeout=1.0)


@pytest.mark.parametrize("kind", ["nats", "mqtt"])
async def test_a_wrong_password_is_told_and_a_forbidden_namespace_refused(tmp_path: Path, kind: str) -> None:
    async with with_password(kind, tmp_path) as make:
        wrong = make("a guess")
        async with wrong.events() as events, wrong:
            with pytest.raises(DriverError, match=r"(?i)authoriz") as caught:
                await wrong.subscribe("yes", Inbox().put)
            failed = await events.__anext__()
        assert isinstance(failed, DriverFailed)
        assert "guess" not in str(caught.value) + repr(failed) + repr(wrong)
        right, inbox = make(SECRET), Inbox()
        async with right:
            await right.subscribe("yes", inbox.put)
            if kind == "nats":  # mosquitto 2.0 confirms such a subscription, and sends nothing
                with pytest.raises(DriverError, match="Permissions Violation"):
                    await right.subscribe("no", inbox.put)
            await right.publish("yes", b"1")
            assert await inbox.next() == b"1"
        assert right.counts["driver_lost"] == 0


async def test_a_user_who_is_known_by_key(tmp_path: Path) -> None:
    broker = brokers.nats(tmp_path)
    async with running(broker, *nats_lines(broker, f"authorization {{ users = [ {{ nkey: {PUBLIC} }} ] }}")):
        url = f"nats://127.0.0.1:{broker.port}"
        async with NatsDriver(url, nkey_seed=SEED, timeout=brokers.PATIENCE) as driver:
            await driver.subscribe("room", Inbox().put)
        stranger = NatsDriver(url, timeout=1.0)
        async with stranger:
            with pytest.raises(DriverError, match="the argument nkey_seed"):
                await stranger.subscribe("room", Inbox().put)


async def raw_publish(broker: Broker, subject: str, *sizes: int) -> None:
    """As another client of a NATS server that may do what it likes."""
    async with await trio.open_tcp_stream("127.0.0.1", broker.port) as stream:
        for size in sizes:
            await stream.send_all(b"PUB %b %d\r\n%b\r\n" % (subject.encode(), size, bytes(size)))
        await stream.send_all(b"PING\r\n")
        received = b""
        while b"PONG" not in received:
            received += await stream.receive_some()


async def test_packets_that_are_too_long_for_nats(tmp_path: Path) -> None:
    broker = brokers.nats(tmp_path)
    async with running(broker, *nats_lines(broker)):
        inbox = Inbox()
        async with NatsDriver(f"nats://127.0.0.1:{broker.port}") as driver:
            await driver.subscribe("room", inbox.put)
            await raw_publish(broker, "room", MAX_PACKET + 1, MAX_PACKET, 1_000_000, 3)
            assert [len(await inbox.next()) for _ in range(2)] == [MAX_PACKET, 3]
            assert driver.counts["driver_oversized"] == 2
    driver = NatsDriver(f"nats://127.0.0.1:{broker.port}")
    async with running(broker, *nats_lines(broker, "max_payload: 1000")), driver:
        await driver.subscribe("room", inbox.put)
        with pytest.raises(DriverError, match="at most 1000 bytes"):
            await driver.publish("room", bytes(1001))
        await driver.publish("room", bytes(1000))
        assert driver.counts["driver_lost"] == 0


async def mosquitto_pub(broker: Broker, topic: str, *options: str) -> None:
    command = [brokers.program("mosquitto_pub"), "-V", "mqttv5", "-h", "127.0.0.1", "-p", str(broker.port), "-t", topic]
    with trio.fail_after(brokers.PATIENCE):
        await trio.run_process([*command, *options])


async def test_packets_that_are_too_long_for_mqtt(tmp_path: Path) -> None:
    broker = brokers.mosquitto(tmp_path)
    url = f"mqtt://127.0.0.1:{broker.port}"
    async with running(broker, *mosquitto_lines(broker, "allow_anonymous true")):
        inbox = Inbox()
        async with MqttDriver(url) as driver:
            await driver.subscribe("room", inbox.put)
            for size in (MAX_PACKET + 1, MAX_PACKET, 1_000_000, 3):
                (tmp_path / "packet").write_bytes(bytes(size))
                await mosquitto_pub(broker, "room", "-f", str(tmp_path / "packet"))
            assert [len(await inbox.next()) for _ in range(2)] == [MAX_PACKET, 3]
            # The longest one did not come: we had said how long a packet may be.
            assert driver.counts == {"driver_connected": 1, "driver_oversized": 1}
    driver = MqttDriver(url)
    async with running(broker, *mosquitto_lines(broker, "allow_anonymous true", "max_packet_size 1000")), driver:
        await driver.subscribe("room", inbox.put)
        with pytest.raises(DriverError, match="at most 1000 bytes"):
            await driver.publish("room", bytes(1000))
        await driver.publish("room", bytes(900))
        assert driver.counts["driver_lost"] == 0


async def test_other_clients_of_mqtt(tmp_path: Path) -> None:
    """Their QoS and properties do not matter, and what they had retained is not for us."""
    broker = brokers.mosquitto(tmp_path)
    async with running(broker, *mosquitto_lines(broker, "allow_anonymous true")):
        await mosquitto_pub(broker, "x/room", "-r", "-m", "old")
        inbox = Inbox()
        async with MqttDriver(f"mqtt://127.0.0.1:{broker.port}", prefix="x/") as driver:
            await driver.subscribe("room", inbox.put)
            for qos in "012":
                properties = [("content-type", "text/x"), ("user-property", "a", "b"), ("response-topic", "r")]
                options = [word for each in properties for word in ("-D", "publish", *each)]
                await mosquitto_pub(broker, "x/room", "-q", qos, "-m", qos, *options)
                assert await inbox.next() == qos.encode()
            assert inbox.empty
            options = ["-V", "mqttv5", "-p", str(broker.port), "-t", "x/there", "-C", "1", "-W", "20", "-F", "%q %r %p"]
            async with trio.open_nursery() as nursery:
                run = partial(trio.run_process, [brokers.program("mosquitto_sub"), *options], stdout=subprocess.PIPE)
                process = await nursery.start(run)
                while process.poll() is None:  # it does not say when it has subscribed
                    await driver.publish("there", b"from us")
                    await trio.sleep(0.02)
                assert await process.stdout.receive_some() == b"0 0 from us\n"


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path, Path]:
    """An authority, and the files of a certificate for 127.0.0.1 and its key."""
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    leaf.private_key_pem.write_to_path(key)
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(certificate, append=True)
    return ca, certificate, key


@pytest.mark.parametrize("scheme", ["tls", "nats", "wss", "mqtts"])
async def test_tls(tmp_path: Path, authority: tuple[trustme.CA, Path, Path], scheme: str) -> None:
    ca, certificate, key = authority
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if scheme == "mqtts":
        broker = brokers.mosquitto(tmp_path)
        secured = ["allow_anonymous true", f"certfile {certificate}", f"keyfile {key}"]
        lines = mosquitto_lines(broker, *secured)
        make: Callable[..., ConnectedDriver] = MqttDriver
    else:
        broker = brokers.nats(tmp_path)
        tls = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'
        web = f'websocket {{ listen: "127.0.0.1:{broker.web}", {tls} }}'
        lines = [f"listen: 127.0.0.1:{broker.port}", tls, web]
        make = NatsDriver
    url = f"{scheme}://127.0.0.1:{broker.web if scheme == 'wss' else broker.port}"
    async with running(broker, *lines):
        inbox = Inbox()
        async with make(url, tls=context) as one, make(url, tls=context) as two:
            await one.subscribe("room", inbox.put)
            await two.wait_active()
            await two.publish("room", bytes(MAX_PACKET))
            assert len(await inbox.next()) == MAX_PACKET
        stranger = make(url, timeout=1.0)
        async with stranger:
            with pytest.raises(DriverError, match="not trusted"):
                await stranger.subscribe("room", inbox.put)


async def test_a_server_without_tls_is_not_spoken_to_where_tls_is_wanted(tmp_path: Path) -> None:
    broker = brokers.nats(tmp_path)
    async with running(broker, *nats_lines(broker)):
        driver = NatsDriver(f"tls://127.0.0.1:{broker.port}", timeout=1.0)
        async with driver:
            with pytest.raises(DriverError, match="does not offer TLS"):
                await driver.subscribe("room", Inbox().put)
