"""The Socket.IO door: long polling, WebSockets, the change from one to the other, and clients that break rules."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.peerix.hub.support import SEPARATOR, SOCKETIO, Answer, Served, serving_hub
from trio_relay.limits import Limits
from trio_relay.peerix.hub.config import JwtConfig
from trio_relay.transports.websocket import WebSocketConnection

SECRET = "a secret of the hub, as long as it has to be"
POLLING = f"{SOCKETIO}?EIO=4&transport=polling"
WEBSOCKET = f"{SOCKETIO}?EIO=4&transport=websocket"


class Poller:
    """A client over long polling."""

    def __init__(self, served: Served, ip: str = "192.0.2.1") -> None:
        self.served = served
        self.handshake: dict[str, Any] = {}
        self._ip = ip

    @property
    def target(self) -> str:
        return f"{POLLING}&sid={self.handshake['sid']}"

    async def open(self, more: str = "") -> Poller:
        answer = await self.served.ask("GET", POLLING + more, ip=self._ip)
        assert (answer.status, answer.text[0]) == (200, "0"), answer
        self.handshake = json.loads(answer.text[1:])
        return self

    async def connect(self, auth: str = "") -> Poller:
        await self.open()
        await self.post(f"40{auth}")
        (packet,) = await self.poll()
        assert packet.startswith('40{"sid":'), packet
        return self

    async def post(self, *packets: str) -> Answer:
        body = SEPARATOR.join(packets).encode()
        return await self.served.ask("POST", self.target, body, {"content-type": "text/plain"}, self._ip)

    async def poll(self) -> list[str]:
        answer = await self.served.ask("GET", self.target, ip=self._ip)
        assert answer.status == 200, answer
        return answer.text.split(SEPARATOR)


class Socket:
    """A client over a WebSocket."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self._messages: list[bytes | str] = []

    @classmethod
    async def open(cls, served: Served, target: str = WEBSOCKET, **options: Any) -> Socket:
        connection = await served.websocket(target, **options)
        assert isinstance(connection, WebSocketConnection), connection
        return cls(connection)

    @classmethod
    async def connect(cls, served: Served, auth: str = "", **options: Any) -> Socket:
        socket = await cls.open(served, **options)
        assert (await socket.receive()).startswith("0{")
        await socket.send(f"40{auth}")
        assert (await socket.receive()).startswith('40{"sid":')
        return socket

    async def send(self, *packets: str) -> None:
        await self.connection.send([packet.encode() for packet in packets], text=True, each=True)

    async def receive(self) -> str:
        """The next message; empty at the end."""
        while not self._messages:
            self._messages = await self.connection.receive()
            if not self._messages:
                return ""
        message = self._messages.pop(0)
        assert isinstance(message, str)
        return message

    async def ask(self, event: str) -> str:
        await self.send(event)
        return await self.receive()


async def test_two_clients_over_polling() -> None:
    async with serving_hub() as served:
        ann, ben = await Poller(served).connect(), await Poller(served).connect()
        assert ann.handshake["upgrades"] == ["websocket"]
        assert (ann.handshake["pingInterval"], ann.handshake["pingTimeout"]) == (25000, 20000)
        for poller in (ann, ben):
            assert (await poller.post('420["peerix:subscribe","room"]')).text == "ok"
            assert await poller.poll() == ["430[]"]
        await ann.post('421["peerix:publish","room",[1,2,255]]', '422["peerix:publish","nobody",[]]')
        assert await ann.poll() == ["431[]", "432[]"]  # nothing of its own
        assert await ben.poll() == ['42["peerix:message","room",[1,2,255]]']
        await ben.post('423["peerix:unsubscribe","room"]')
        await ann.post('42["peerix:publish","room",[1]]')
        assert await ben.poll() == ["433[]"]
        assert served.hub.statistics().sessions == 2
        await ben.post("41", "1")
        assert served.hub.statistics().sessions == 1
        assert served.counts == {}


async def test_both_doors_lead_to_one_room() -> None:
    async with serving_hub() as served:
        listener = await served.listen("room")
        socket = await Socket.connect(served)
        plain = await Poller(served).connect()
        assert await socket.ask('421["peerix:subscribe","room"]') == "431[]"
        await plain.post('42["subscribe","room"]')
        await served.publish("room", "AQL/")
        assert await socket.receive() == '42["peerix:message","room",[1,2,255]]'
        assert await plain.poll() == ['42["message","room",[1,2,255]]']
        assert await listener.data() == "AQL/"
        assert await socket.ask('422["peerix:publish","room",[0]]') == "432[]"
        assert await listener.data() == "AA=="
        assert await plain.poll() == ['42["message","room",[0]]']
        # What is no packet is for those alone who can have it.
        await served.publish("room", "hello there")
        assert await listener.data() == "hello there"
        assert await socket.ask('423["peerix:unsubscribe","room"]') == "433[]"
        assert served.counts == {"not_a_packet": 2}


async def test_a_poll_lasts_until_there_is_something(autojump_clock: MockClock) -> None:
    async with serving_hub() as served:
        poller = await Poller(served).open()
        before = trio.current_time()
        await poller.post("40")
        assert (await poller.poll())[0].startswith("40")
        assert await poller.poll() == ["2"]
        assert trio.current_time() - before == pytest.approx(25, abs=2)
        await poller.post("3")
        assert await poller.poll() == ["2"]
        assert trio.current_time() - before == pytest.approx(50, abs=3)
        assert await poller.poll() == ["1"]  # no pong: the end
        assert trio.current_time() - before == pytest.approx(70, abs=4)
        assert served.counts == {"ping_timeout": 1}
        assert (await poller.post("3")).text == '{"code":1,"message":"Session ID unknown"}'


async def test_pings_over_a_websocket(autojump_clock: MockClock) -> None:
    async with serving_hub(ping_interval=2, ping_timeout=1) as served:
        socket = await Socket.connect(served)
        for _ in range(3):
            assert await socket.receive() == "2"
            await socket.send("3")
        assert await socket.receive() == "2"
        assert await socket.receive() == ""
        assert socket.connection.close_code == 1000
        await wait_all_tasks_blocked()
        assert served.hub.statistics().clients == 0


async def test_the_change_to_a_websocket(autojump_clock: MockClock) -> None:
    async with serving_hub() as served:
        poller, other = await Poller(served).connect(), await Socket.connect(served)
        await poller.post('420["peerix:subscribe","room"]')
        assert await poller.poll() == ["430[]"]
        polled: list[list[str]] = []

        async def poll() -> None:
            polled.append(await poller.poll())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await wait_all_tasks_blocked()
            socket = await Socket.open(served, f"{WEBSOCKET}&sid={poller.handshake['sid']}")
            assert await socket.ask("2probe") == "3probe"
        assert polled == [["6"]]
        before = trio.current_time()
        assert await poller.poll() == ["6"]  # it may not have heard yet
        assert trio.current_time() - before == pytest.approx(0.1)
        await other.ask('421["peerix:publish","room",[1]]')  # between the two
        await socket.send("5", '422["peerix:publish","elsewhere",[]]')
        assert [await socket.receive(), await socket.receive()] == ['42["peerix:message","room",[1]]', "432[]"]
        for method in ("GET", "POST"):
            refused = await served.ask(method, poller.target, b"2")
            assert refused.text == '{"code":3,"message":"Bad request"}'
        assert await served.websocket(f"{WEBSOCKET}&sid={poller.handshake['sid']}") == 400
        await socket.connection.aclose()
        await wait_all_tasks_blocked()
        assert served.hub.statistics().sessions == 1


async def test_a_change_at_once_while_a_poll_waits(autojump_clock: MockClock) -> None:
    async with serving_hub(slow_messages=4, bytes_per_second=None) as served:
        poller, polled = await Poller(served).connect(), list[str]()

        async def poll() -> None:
            polled.extend(await poller.poll())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await wait_all_tasks_blocked()
            # The answer of the upgrade, 3probe and the ACK; then it takes nothing more.
            socket = await Socket.open(served, f"{WEBSOCKET}&sid={poller.handshake['sid']}", takes=3)
            await socket.send("2probe", "5", '421["peerix:subscribe","room"]')
            assert [await socket.receive(), await socket.receive()] == ["3probe", "431[]"]
        assert polled == ["6"]
        for _ in range(10):
            await served.publish("room", "AAAA")
        await trio.sleep(1)
        assert served.counts == {"slow_disconnected": 1, "slow_dropped": 5}
        assert (served.hub.statistics().clients, served.admission.admitted) == (0, 0)


async def test_what_is_said_during_the_change_is_not_lost(autojump_clock: MockClock) -> None:
    async with serving_hub() as served:
        poller = await Poller(served).connect()
        await poller.post('42["peerix:subscribe","room"]')
        socket = await Socket.open(served, f"{WEBSOCKET}&sid={poller.handshake['sid']}")
        assert await socket.ask("2probe") == "3probe"
        heard: list[str] = []

        async def poll_on() -> None:
            for _ in range(5):
                heard.extend(await poller.poll())

        async def speak() -> None:
            for number in range(100):
                await served.publish("room", f"{number:04d}")
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            await poll_on()
            await socket.send("5")
            while len([packet for packet in heard if packet != "6"]) < 100:
                heard.append(await socket.receive())
        numbers = [json.loads(packet[2:])[2] for packet in heard if packet != "6"]
        assert numbers == sorted(numbers, key=numbers.index)
        assert len({tuple(number) for number in numbers}) == 100


@pytest.mark.parametrize("said", ["2", "3probe", '42["a"]', "x", "2probes"])
async def test_a_probe_that_is_none(said: str, autojump_clock: MockClock) -> None:
    async with serving_hub() as served:
        poller = await Poller(served).connect()
        socket = await Socket.open(served, f"{WEBSOCKET}&sid={poller.handshake['sid']}")
        await socket.send(said)
        assert await socket.receive() == ""
        # The session goes on, and may try again.
        await poller.post('427["peerix:publish","room",[]]')
        assert await poller.poll() == ["437[]"]
        again = await Socket.open(served, f"{WEBSOCKET}&sid={poller.handshake['sid']}")
        assert await again.ask("2probe") == "3probe"
        assert served.counts["probe_failed"] == 1


async def test_a_probe_that_is_not_gone_through_with(autojump_clock: MockClock) -> None:
    async with serving_hub() as served:
        poller = await Poller(served).connect()
        target = f"{WEBSOCKET}&sid={poller.handshake['sid']}"
        socket = await Socket.open(served, target)
        assert await socket.ask("2probe") == "3probe"
        assert await served.websocket(target) == 400  # one at a time
        before = trio.current_time()
        assert await socket.receive() == ""
        assert trio.current_time() - before == pytest.approx(10)
        await Socket.open(served, target)
        assert served.counts == {"probe_failed": 1, "refused_engineio": 1}


@pytest.mark.parametrize(
    ("method", "query", "code"),
    [
        ("GET", "EIO=3&transport=polling", 5),
        ("GET", "EIO=4&transport=flash", 0),
        ("GET", "EIO=4&transport=websocket", 3),
        ("GET", "EIO=4&transport=polling&sid=nobody", 1),
        ("POST", "EIO=4&transport=polling&sid=nobody", 1),
        ("POST", "EIO=4&transport=polling", 2),
        ("GET", "", 0),
    ],
)
async def test_requests_that_are_refused(method: str, query: str, code: int) -> None:
    async with serving_hub() as served:
        answer = await served.ask(method, f"{SOCKETIO}?{query}", headers={"origin": "https://a.example"})
        assert answer.status == 400
        assert json.loads(answer.text)["code"] == code
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert served.counts == {"refused_engineio": 1}


@pytest.mark.parametrize(
    "target",
    [f"{SOCKETIO}?EIO=4&transport=polling", f"{WEBSOCKET}&sid=nobody", f"{SOCKETIO}x?EIO=4&transport=websocket"],
)
async def test_websockets_that_are_refused(target: str) -> None:
    async with serving_hub() as served:
        assert await served.websocket(target) == 400


async def test_pages_of_named_origins_alone() -> None:
    async with serving_hub(origins=["https://app.example"]) as served:
        stranger = {"origin": "https://evil.example"}
        assert (await served.ask("GET", POLLING, headers=stranger)).status == 403
        assert (await served.ask("OPTIONS", POLLING, headers=stranger)).status == 403
        assert await served.websocket(WEBSOCKET, "origin: https://evil.example\r\n") == 403
        friend = {"origin": "https://app.example"}
        assert (await served.ask("OPTIONS", POLLING, headers=friend)).status == 204
        assert (await served.ask("GET", POLLING, headers=friend)).status == 200
        assert served.counts["refused_origin"] == 3


PACKETS = [
    ["2"],
    ["0{}"],
    ["5"],
    ["x"],
    ["bAQI="],
    ["4"],
    ["4x"],
    ["40"],
    ["44"],
    ["451-[]"],
    ['42/x,["a"]'],
    ["42[]"],
    ['42["connect"]'],
    ["3"] * 5000,
]


async def test_what_ends_a_session() -> None:
    async with serving_hub() as served:
        other = await Poller(served).connect()
        for packets in PACKETS:
            poller = await Poller(served).connect()
            assert (await poller.post(*packets)).status == 400, packets
            assert (await poller.post("3")).text == '{"code":1,"message":"Session ID unknown"}'
        assert served.counts["protocol_error"] == len(PACKETS)
        await other.post('427["peerix:publish","room",[]]')
        assert await other.poll() == ["437[]"]


@pytest.mark.parametrize("message", ["2", "x", "40", '42/x,["a"]'])
async def test_what_ends_a_websocket(message: str) -> None:
    async with serving_hub() as served:
        socket = await Socket.connect(served)
        await socket.send(message)
        assert await socket.receive() == ""
        assert socket.connection.close_code == 1002
        await wait_all_tasks_blocked()
        assert served.hub.statistics().clients == 0
        assert served.counts == {"protocol_error": 1}


async def test_a_message_that_is_too_long_ends_a_websocket() -> None:
    async with serving_hub(max_packet=100) as served:
        socket = await Socket.connect(served)
        await socket.send("4" * 5000)
        assert await socket.receive() == ""
        assert socket.connection.close_code == 1009
        assert served.counts == {"protocol_error": 1}


async def test_bytes_over_a_websocket_end_it() -> None:
    async with serving_hub() as served:
        socket = await Socket.connect(served)
        await socket.connection.send([b"42[]"])
        assert await socket.receive() == ""
        assert served.counts == {"protocol_error": 1}


EVENTS = [
    '["peerix:subscribe"]',
    '["peerix:subscribe",1]',
    '["peerix:subscribe",""]',
    '["peerix:subscribe","*"]',
    '["peerix:subscribe","a\\nb"]',
    '["peerix:subscribe","\\ud800"]',
    f'["peerix:subscribe","{"a" * 257}"]',
    '["peerix:publish","a"]',
    '["peerix:publish","a",[256]]',
    '["peerix:publish","a",[true]]',
    '["peerix:publish","a","AAAA"]',
    '["other","a"]',
    "[1]",
]


async def test_events_that_are_refused() -> None:
    async with serving_hub() as served:
        socket = await Socket.connect(served)
        for event in EVENTS:
            error = json.loads((await socket.ask(f"421{event}"))[2:])
            assert error[0] == "error", event
            assert json.loads((await socket.receive())[3:]) == [error[1]]
        assert await socket.ask('422["peerix:subscribe","a"]') == "432[]"
        assert served.counts == {"bad_request": len(EVENTS) - 2, "unknown_event": 2}


async def test_who_disconnects_has_to_connect_again() -> None:
    async with serving_hub() as served:
        socket = await Socket.connect(served)
        await socket.ask('421["peerix:subscribe","room"]')
        await socket.send("41")
        assert (await socket.ask("40")).startswith("40{")
        assert served.hub.statistics().topics == 0
        await socket.send("41", '42["peerix:subscribe","room"]')
        assert await socket.receive() == ""
        assert served.counts == {"protocol_error": 1}


async def test_other_namespaces_are_refused() -> None:
    async with serving_hub() as served:
        poller = await Poller(served).open()
        await poller.post("40/admin,")
        assert await poller.poll() == ['44/admin,{"message":"Invalid namespace"}']
        await poller.post("40")
        assert (await poller.poll())[0].startswith("40{")
        assert served.counts == {"refused_namespace": 1}


async def test_who_does_not_say_who_it_is_goes(autojump_clock: MockClock) -> None:
    async with serving_hub(connect_timeout=5) as served:
        await Poller(served).open()
        socket = await Socket.open(served)
        assert (await socket.receive()).startswith("0{")
        before = trio.current_time()
        assert await socket.receive() == ""
        assert trio.current_time() - before == pytest.approx(5, abs=1.5)
        assert served.counts == {"connect_timeout": 2}
        await wait_all_tasks_blocked()
        assert served.hub.statistics().clients == 0


def token(subscribe: list[str], publish: list[str], **claims: object) -> str:
    return jwt.encode({"mercure": {"subscribe": subscribe, "publish": publish}, **claims}, SECRET)


async def test_a_token_is_for_its_topics() -> None:
    async with serving_hub(jwt=JwtConfig(key=SECRET)) as served:
        socket = await Socket.connect(served, json.dumps({"token": token(["a"], ["b"])}))
        assert await socket.ask('421["peerix:subscribe","a"]') == "431[]"
        assert await socket.ask('422["peerix:publish","b",[]]') == "432[]"
        assert (await socket.ask('423["peerix:subscribe","b"]')).startswith('42["error"')
        assert (await socket.receive()).startswith('433["not allowed')
        assert (await socket.ask('424["peerix:publish","a",[]]')).startswith('42["error"')
        assert served.counts == {"refused_subscribe": 1, "refused_publish": 1}


async def test_keys_in_query_and_header() -> None:
    async with serving_hub(access_keys=["key-1"]) as served:
        for more, headers in (
            ("&token=key-1", ""),
            ("&authorization=key-1", ""),
            ("", "authorization: Bearer key-1\r\n"),
        ):
            socket = await Socket.open(served, WEBSOCKET + more, headers=headers)
            await socket.receive()
            assert (await socket.ask("40")).startswith("40{")
        poller = await Poller(served).open()
        for shown in ("", '{"token":"key-2"}', '{"token":1}'):
            await poller.post(f"40{shown}")
            (refusal,) = await poller.poll()
            assert refusal.startswith('44{"message":"unauthorized')
            assert "key-2" not in refusal
        assert (await poller.post('42["peerix:subscribe","a"]')).status == 400  # not let in
        assert served.counts["unauthorized"] == 3


async def test_who_is_refused_may_not_ask_for_ever() -> None:
    async with serving_hub(access_keys=["key-1"]) as served:
        poller = await Poller(served).open()
        assert (await poller.post(SEPARATOR.join(["40"] * 100))).status == 400
        assert served.counts["unauthorized"] == 4
        assert served.hub.statistics().sessions == 0


async def test_a_session_ends_with_its_token(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving_hub(jwt=JwtConfig(key=SECRET)) as served:
        until = int(time.time()) + 30
        socket = await Socket.connect(served, json.dumps({"token": token(["a"], [], exp=until)}))
        monkeypatch.setattr(time, "time", lambda: until + 1.0)
        assert await socket.receive() == ""
        assert served.counts == {"grant_expired": 1}


async def test_polls_that_overlap_end_the_session(autojump_clock: MockClock) -> None:
    async with serving_hub() as served:
        poller = await Poller(served).connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.poll)
            await wait_all_tasks_blocked()
            assert (await served.ask("GET", poller.target)).status == 400
        assert served.counts["protocol_error"] == 1
        assert served.hub.statistics().sessions == 0


async def test_posts_that_overlap_end_the_session() -> None:
    async with serving_hub() as served:
        poller = await Poller(served).connect()
        async with served.connect() as stream:
            head = f"POST {poller.target} HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n42"
            await stream.send_all(head.encode())
            await wait_all_tasks_blocked()
            assert (await poller.post("3")).status == 400
        assert served.counts["protocol_error"] == 1
        assert served.hub.statistics().sessions == 0


async def test_who_was_let_in_does_not_make_room_for_strangers() -> None:
    async with serving_hub(limits=Limits(unproven_connections=2, close_timeout=0.01)) as served:
        member, listener = await Socket.connect(served), await served.listen("room")
        await member.ask('421["peerix:subscribe","room"]')
        stranger = await Socket.open(served)
        assert (await stranger.receive()).startswith("0")
        for _ in range(3):
            served.connect()
            await wait_all_tasks_blocked()
        await served.publish("room", "AAAA")
        assert await member.receive() == '42["peerix:message","room",[0,0,0]]'
        assert await listener.data() == "AAAA"
        assert served.hub.statistics().clients == 2


async def test_a_poll_that_is_abandoned_ends_the_session() -> None:
    async with serving_hub() as served:
        poller = await Poller(served).connect()
        stream = served.connect()
        await stream.send_all(f"GET {poller.target} HTTP/1.1\r\nhost: h\r\n\r\n".encode())
        await wait_all_tasks_blocked()
        assert served.hub.statistics().sessions == 1
        await stream.aclose()
        await wait_all_tasks_blocked()
        assert served.hub.statistics().clients == 0
        assert served.counts == {"poll_abandoned": 1}


async def test_a_websocket_that_does_not_read_is_let_go_and_nobody_else(autojump_clock: MockClock) -> None:
    async with serving_hub(slow_messages=8, slow_bytes=100_000, bytes_per_second=None) as served:
        slow = await Socket.connect(served, takes=3)  # 101, handshake, CONNECT
        await slow.send('42["peerix:subscribe","a"]')
        quick, idle = await Socket.connect(served), await Poller(served).connect()
        assert await quick.ask('421["peerix:subscribe","a"]') == "431[]"
        await idle.post('42["peerix:subscribe","a"]')
        before = trio.current_time()
        for _ in range(20):
            await served.publish("a", "AAAA")
            assert await quick.receive() == '42["peerix:message","a",[0,0,0]]'
        assert trio.current_time() == before
        await trio.sleep(1)
        assert served.counts == {"slow_disconnected": 2, "slow_dropped": 18}  # and who does not poll
        assert served.hub.statistics().clients == 1


async def test_too_many_bytes_a_second() -> None:
    async with serving_hub(max_packet=100, bytes_per_second=1000, burst_bytes=10_000) as served:
        socket = await Socket.connect(served)
        answers = [await socket.ask('421["peerix:publish","a",[]]') for _ in range(30)]
        assert answers == ["431[]"] * 30
        while (answer := await socket.ask('421["peerix:publish","a",[]]')) == "431[]":
            pass
        assert answer == '42["error","too many bytes a second"]'
        assert served.counts["rate_limited"] == 1


async def test_bounds_on_clients() -> None:
    async with serving_hub(max_clients_per_ip=1, max_clients=2) as served:
        await (await Poller(served).open()).post("1")
        await Poller(served).open()  # in its place
        assert (await served.ask("GET", POLLING)).status == 429
        assert await served.websocket(WEBSOCKET) == 429
        await Socket.open(served, ip="192.0.2.2")
        assert await served.websocket(WEBSOCKET, ip="192.0.2.3") == 503
        assert served.counts == {"refused_connections_per_ip": 2, "refused_full": 1}


async def test_the_end_of_a_hub(autojump_clock: MockClock) -> None:
    async with serving_hub() as served:
        socket, poller = await Socket.connect(served), await Poller(served).connect()
        await socket.ask('421["peerix:subscribe","a"]')
        await served.publish("a", "AAAA")
        polled: list[str] = []

        async def poll() -> None:
            polled.extend(await poller.poll())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await wait_all_tasks_blocked()
            nursery.start_soon(served.hub.aclose)
            assert await socket.receive() == '42["peerix:message","a",[0,0,0]]'
            assert await socket.receive() == ""
        assert polled == ["1"]
        assert await served.websocket(WEBSOCKET) == 503
        assert (await served.ask("GET", POLLING)).status == 503
